"""Ending a process group whose leader is our child: TERM, a grace, KILL, and proof that nothing is left of it.

As in the executor, the leader is not reaped before the group is killed: a child that has exited keeps its process id,
and with it the id of its group, from being given to a stranger (executor/reaping.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import anyio

from sysadmd.executor import process
from sysadmd.executor.reaping import signal_group

FIRST_LOOK = 0.005
SLOWEST_LOOK = 0.1
GONE = 5.0
"""Seconds from KILL until what is left counts as unkillable: it hangs in the kernel, on a dead network disk say."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the leader ended: one of the two is set. `left`: processes of the group that even KILL did not end."""

    exit_code: int | None
    signal: int | None
    left: int = 0

    @property
    def how(self) -> str:
        """For people: `ended with exit code 3`."""
        if self.signal is None:
            return f"ended with exit code {self.exit_code}"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        return f"was ended by {name}"


def has_exited(pid: int) -> bool:
    """Whether our child `pid` has exited; it is not reaped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def is_stopped(pid: int) -> bool:
    """Whether our child `pid` stands still after a SIGSTOP."""
    try:
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


async def end_group(pid: int, grace: float) -> Ended:
    """End the group of our child `pid` and reap it. With no grace it is killed at once."""
    if grace > 0 and not has_exited(pid):
        signal_group(pid, signal.SIGTERM)
        signal_group(pid, signal.SIGCONT)  # a stopped process hears TERM only when it goes on
        await _until_exit(pid, grace)
    signal_group(pid, signal.SIGKILL)
    if not await _until_exit(pid, GONE):
        return Ended(None, signal.SIGKILL, left=1)
    ended = _reap(pid)
    return Ended(ended.exit_code, ended.signal, await _left(pid))


async def _until_exit(pid: int, seconds: float) -> bool:
    wait, deadline = FIRST_LOOK, time.monotonic() + seconds
    while not has_exited(pid):
        if time.monotonic() >= deadline:
            return False
        await anyio.sleep(wait)
        wait = min(SLOWEST_LOOK, wait * 2)
    return True


def _reap(pid: int) -> Ended:
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return Ended(None, signal.SIGKILL)
    return Ended(code, None) if code >= 0 else Ended(None, -code)


async def _left(group: int) -> int:
    """How many living processes the group still has after a while: all of them were sent KILL."""
    deadline = time.monotonic() + GONE
    while (left := _members(group)) and time.monotonic() < deadline:
        # While a member lives the group's id is nobody else's, so a fork that slipped through is hit, and no stranger.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        await anyio.sleep(FIRST_LOOK)
    return left


def _members(group: int) -> int:
    """Living processes of the group. Zombies that wait for a parent of their own are none."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return 0
    except PermissionError:
        pass
    if not process.LINUX:
        return 1
    found = 0
    for entry in Path("/proc").iterdir():
        fields = process.stat_fields(int(entry.name)) if entry.name.isdigit() else None
        if fields and int(fields[2]) == group and fields[0] not in {b"Z", b"X"}:
            found += 1
    return found
