"""Children of a pool whose process died: noted in a file, so that the next one can end them.

A child ends itself when its pool is gone (watching.py), unless it hangs in the C library or is stopped. Its job may be
given to another child by then, and two must not run at once. A process is known by its id, its start and the boot: no
stranger that was given the id is ever signalled.

A child may be gone before its pool, and what it had started may live on in its group. Such processes are known, where
the system shows it, by the group and by a variable in their environment that names the pool's note.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import structlog

from sysadmd.executor import process

log = structlog.get_logger(__name__)

GONE = 5.0
MARK = "SYSADMD_TASKS_OF"
"""In the environment of all children of a pool: its note."""


class Note(msgspec.Struct, frozen=True):
    """The children of one pool, as pairs of process id and start."""

    boot: str
    children: tuple[tuple[int, int], ...]


class Leftovers:
    """The note of one worker's pool."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._boot = process.boot_id()
        self.mark = {MARK: str(file)}
        """For the environment of the children."""

    def note(self, children: Iterable[tuple[int, int]]) -> None:
        """These are there now. A disk that takes no more stops nothing: the note is lost, with a trace."""
        part = self._file.with_suffix(".part")
        data = msgspec.json.encode(Note(self._boot, tuple(children)))
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            part.replace(self._file)
        except OSError as error:
            log.warning("children of tasks cannot be noted", file=str(self._file), reason=str(error))

    async def end(self) -> int:
        """End what an earlier pool left. Returns how many groups that were, and processes without a leader."""
        return await anyio.to_thread.run_sync(self._end)

    def _end(self) -> int:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        noted = self._noted()
        left = [one for one in noted if _lives(*one)]
        for pid, _ in left:
            log.warning("ending what an earlier worker left", group=pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        orphans = self._orphans({pid for pid, _ in noted} - {pid for pid, _ in left})
        for pid, _ in orphans:
            log.warning("ending what a task of an earlier worker left", process=pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        left += orphans
        deadline = time.monotonic() + GONE
        while any(_lives(*one) for one in left) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.note(())
        return len(left)

    def _orphans(self, groups: set[int]) -> list[tuple[int, int]]:
        """Processes with our mark in these groups, whose leaders are gone."""
        if not process.LINUX or not groups:
            return []
        mark = os.fsencode("=".join(*self.mark.items()))
        found = []
        for entry in Path("/proc").iterdir():
            fields = process.stat_fields(int(entry.name)) if entry.name.isdigit() else None
            if fields and int(fields[2]) in groups and fields[0] not in {b"Z", b"X"}:
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append((int(entry.name), int(fields[19])))
        return found

    def _noted(self) -> tuple[tuple[int, int], ...]:
        try:
            note = msgspec.json.decode(self._file.read_bytes(), type=Note)
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the note of an earlier worker's children cannot be read", reason=str(error))
            return ()
        return note.children if note.boot == self._boot else ()


def _lives(pid: int, start: int) -> bool:
    """Whether it is that process, and no zombie of an init that does not wait."""
    if not process.is_same(pid, start):
        return False
    fields = process.stat_fields(pid) if process.LINUX else None
    return fields is None or fields[0] not in {b"Z", b"X"}
