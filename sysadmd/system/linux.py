"""Linux."""

from __future__ import annotations

from sysadmd.system.base import Posix


class Linux(Posix):
    """Linux, of any distribution."""

    name = "linux"
