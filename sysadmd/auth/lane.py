"""A lane for proofs of identity that are costly to check: one at a time, off the event loop, and a bounded queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from sysadmd.errors import TooManyRequests

T = TypeVar("T")


class Lane:
    """One worker at a time, and at most `queued` who wait for it. `what` they are, for who comes too late."""

    def __init__(self, queued: int, what: str) -> None:
        self.queued, self._what, self._inside = queued, what, 0
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in a worker thread in its turn. Raises TooManyRequests."""
        if self._inside > self.queued:
            raise TooManyRequests(f"{self.queued} {self._what} wait already")
        self._limiter = self._limiter or anyio.CapacityLimiter(1)
        self._inside += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._inside -= 1
