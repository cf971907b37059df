"""The interface that each operating system implements."""

from __future__ import annotations

import os
import sys
from typing import Protocol


class System(Protocol):
    """One operating system. Methods raise OSError when the machine does not answer."""

    name: str

    def hostname(self) -> str:
        """The host name as `hostname` prints it: with its domain where it was set with one. Does not block."""
        ...


class Posix:
    """What every system answers alike."""

    name = "posix"

    def hostname(self) -> str:
        """The node name of uname(3): on Linux and on FreeBSD what sethostname(2) set last."""
        return os.uname().nodename


def this_system(platform: str = sys.platform) -> System:
    """The system that this process runs on."""
    # Only the module of the running system is imported: the others may need what is not installed here.
    if platform.startswith("freebsd"):
        from sysadmd.system.freebsd import FreeBSD

        return FreeBSD()
    if platform == "linux":
        from sysadmd.system.linux import Linux

        return Linux()
    return Posix()
