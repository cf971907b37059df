"""Handlers only: one module for each namespace/name, each handler a few lines over a service.

A new method is a schema file below schemas/methods, a handler here, and its tests.
"""

from __future__ import annotations

import importlib
import pkgutil

from sysadmd.rpc.call import Handler
from sysadmd.rpc.registry import handlers_of


def handlers() -> list[Handler]:
    """Every handler below this package."""
    names = [info.name for info in pkgutil.walk_packages(__path__, f"{__name__}.") if not info.ispkg]
    return handlers_of(importlib.import_module(name) for name in names)
