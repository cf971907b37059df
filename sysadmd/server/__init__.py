"""The composition root and the life of the server process."""

from __future__ import annotations

from sysadmd.server import plain_structlog as plain_structlog
from sysadmd.server.process import run

__all__ = ["run"]
