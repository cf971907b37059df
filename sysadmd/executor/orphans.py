"""What an executor does with the attempts of one that died before it: kill what is left, report them `lost`.

They cannot be adopted: only a parent may wait for a process, and without its wait the exit code is gone and its id may
name somebody else a moment later. Killing needs proof that the group is still ours:

- the same boot, and the leader lives with the start time we noted; or
- the leader is gone, yet a process of its group and session still writes to the attempt's own output file. While such a
  process exists the kernel gives the group's id to nobody else. (Linux; elsewhere a group without its leader is left.)
- the executor died before it could note the leader: any group that is a session of its own and writes to that file.

Between the look and the signal lie microseconds in which the leader could end and its id be given away: accepted, since
ids are handed out in turn and the whole range would have to pass in them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable

from sysadmd.executor import process
from sysadmd.executor.frames import Exit
from sysadmd.executor.records import Live


def end_orphans(live: Iterable[Live], *, same_boot: bool, now: float, log: Callable[[str], None]) -> list[Exit]:
    """Kill what is left of `live` and return their exits, all `lost`; `now` is Unix time."""
    exits: list[Exit] = []
    for entry in live:
        started = entry.started
        fate = "the system was restarted" if not same_boot else "the executor that ran it died"
        for group in _groups(entry) if same_boot else ():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
                fate += "; what was left of it is killed"
        log(f"lost attempt={started.attempt} pid={started.pid}: {fate}")
        exits.append(
            Exit(
                attempt=started.attempt,
                lease=started.lease,
                outcome="lost",
                message=fate,
                time_started=started.time,
                time_finished=now,
            )
        )
    return exits


def _groups(entry: Live) -> set[int]:
    """The groups that are proved to be the attempt's: at most one, in practice."""
    pid = entry.started.pid
    if pid and process.is_same(pid, entry.started.pid_start):
        return {pid}
    members = process.session_members(pid or None)
    return {group for member, group in members if process.writes_to(member, entry.device, entry.inode)}
