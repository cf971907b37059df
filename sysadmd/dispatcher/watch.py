"""What running attempts write, looked at once a second: one ticker for all, and only sizes until one has grown.

The child writes into a file and nobody reads along, so the cost is one stat(2) a second for each running attempt, and
at most `INCREMENT` bytes read where there is something new, however much was written. The looking is done in one
worker thread hop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio.to_thread

from sysadmd.dispatcher.output import OutputFiles
from sysadmd.dispatcher.text import INCREMENT, excerpt
from sysadmd.jobs.model import Attempt
from sysadmd.limits import Limits


@dataclass(slots=True)
class Watched:
    """One running attempt: bytes told in events, and bytes seen."""

    attempt: Attempt
    reported: int
    size: int
    over: bool = False
    """KILL has been sent for its output."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What one look found. `text` may be empty: half a character has come. `over`: a limit is passed, now or before."""

    watched: Watched
    start: int
    end: int
    size: int
    text: str
    over: bool


class OutputWatch:
    """The running attempts by id."""

    def __init__(self, files: OutputFiles, limits: Limits) -> None:
        self._files = files
        self.limits = limits
        self._watched: dict[str, Watched] = {}

    def add(self, attempt: Attempt, reported: int = 0) -> None:
        """Begin to watch; `reported` bytes were told before."""
        self._watched[attempt.id] = Watched(attempt, reported, reported)

    def pop(self, attempt_id: str) -> Watched | None:
        """Stop to watch; a look that is under way finds nothing of this attempt."""
        return self._watched.pop(attempt_id, None)

    def restore(self, watched: Watched) -> None:
        """Go on where `pop` stopped."""
        self._watched[watched.attempt.id] = watched

    def all(self) -> Sequence[Watched]:
        """Everything that is watched now."""
        return tuple(self._watched.values())

    async def look(self) -> list[Growth]:
        """What has grown since the last look. An attempt that was popped meanwhile is left out."""
        if not self._watched:
            return []
        found = await anyio.to_thread.run_sync(self._scan, self.all())
        current = []
        for growth in found:
            watched = growth.watched
            if self._watched.get(watched.attempt.id) is watched:
                watched.reported, watched.size = growth.end, growth.size
                current.append(growth)
        return current

    def _scan(self, watched: Sequence[Watched]) -> list[Growth]:
        grown = [(one, size) for one in watched if (size := self._files.size(one.attempt.output_path)) > one.size]
        if not grown:
            return []
        # Who writes nothing cannot be what fills the disk, and is left alone.
        full = self._files.disk_use() >= self.limits.disk_ceiling
        return [self._growth(one, size, full=full) for one, size in grown]

    def _growth(self, watched: Watched, size: int, *, full: bool) -> Growth:
        read = self._files.reader(watched.attempt.output_path)
        text, end = excerpt(read, watched.reported, size, INCREMENT, final=False)
        over = watched.over or full or size > self.limits.output_cap
        return Growth(watched, watched.reported, end, size, text, over)
