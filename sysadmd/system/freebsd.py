"""FreeBSD."""

from __future__ import annotations

from sysadmd.system.base import Posix


class FreeBSD(Posix):
    """FreeBSD and its derivatives."""

    name = "freebsd"
