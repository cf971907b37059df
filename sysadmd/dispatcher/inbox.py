"""What waits for the next turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from sysadmd.executor.protocol import Started
from sysadmd.jobs.model import Job
from sysadmd.jobs.transitions import End


@dataclass(slots=True)
class Accepted:
    """New jobs, all or none; `stored` resolves when they are."""

    jobs: Sequence[Job]
    stored: asyncio.Future[None]


@dataclass(slots=True)
class KillRequest:
    """Processes to end; `matched` resolves to those that were live, when that is stored."""

    process_ids: Sequence[str]
    by: str
    matched: asyncio.Future[list[str]]
    found: list[str] = field(default_factory=list)
    """What the turn under way has matched."""


@dataclass(slots=True)
class Ended:
    """An attempt that has ended, on its way into the store. `noted`: its line has been written, and is not written
    again.
    """

    attempt_id: str
    lease: str
    end: End
    noted: bool = False


@dataclass(slots=True)
class Inbox:
    """Everything since the last turn, in order within each kind."""

    accepted: list[Accepted] = field(default_factory=list)
    kills: list[KillRequest] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    started: list[Started] = field(default_factory=list)
    """Processes that run for longer than a moment: their pids are worth a row."""

    def refuse(self, error: Exception) -> None:
        """Tell the callers that nothing of what they asked for will be done."""
        for accepted in self.accepted:
            if not accepted.stored.done():
                accepted.stored.set_exception(error)
        for request in self.kills:
            if not request.matched.done():
                request.matched.set_exception(error)

    def answer(self) -> None:
        """Tell the callers that it is stored."""
        for accepted in self.accepted:
            if not accepted.stored.done():
                accepted.stored.set_result(None)
        for request in self.kills:
            if not request.matched.done():
                request.matched.set_result(request.found)
