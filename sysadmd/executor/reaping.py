"""Waiting for a child without losing the right to signal its group.

A child that has exited and is not yet reaped still holds its process id, and with it the id of its group. So: find who
has exited and leave it there (waitid(2) with WNOWAIT), kill what is left of its group, and only then reap it. No signal
of ours can reach a stranger that was given the number.

CPython offers `os.waitid` wherever the C library has it: Linux, FreeBSD since 9. `wait_for_exit` is chosen once, here,
at import. The fallback for a system without it reaps first and signals nobody: survivors of the group are left alone
there.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container
from typing import NamedTuple

from sysadmd.executor.frames import Usage


class Reaped(NamedTuple):
    """A child that is gone."""

    pid: int
    exit_code: int | None
    signal: int | None
    usage: Usage
    """On Linux `max_rss` is never below the executor's own: the child shared its memory until exec(2)."""


def signal_group(group: int, number: int) -> None:
    """Signal every process of `group`, the group of a child not yet reaped. A group of zombies alone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _kill_group_then_reap(ours: Container[int]) -> Reaped | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if found is None:
        return None
    if found.si_pid in ours:
        signal_group(found.si_pid, signal.SIGKILL)
    return _reaped(*os.wait4(found.si_pid, 0))


def _reap(_ours: Container[int]) -> Reaped | None:
    try:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return _reaped(pid, status, usage) if pid else None


wait_for_exit = _kill_group_then_reap if hasattr(os, "waitid") else _reap
"""Reap one child that has exited; of one of `ours` what is left of its group is killed before. None when none has
exited. Never blocks.

The first process of a container is given the orphans of everybody. The group of such a one is none of our business: the
parent of a daemon, which it left in its own group, is one.
"""


def _reaped(pid: int, status: int, usage: object) -> Reaped:
    code = os.waitstatus_to_exitcode(status)
    used = Usage(
        user=getattr(usage, "ru_utime", 0.0),
        system=getattr(usage, "ru_stime", 0.0),
        max_rss=getattr(usage, "ru_maxrss", 0) * 1024,  # KiB on Linux and FreeBSD
    )
    return Reaped(pid, code if code >= 0 else None, -code if code < 0 else None, used)
