"""A lane for proofs of identity that are costly to check: one at a time, off the event loop, and a bounded queue.

Between two of them it rests for as long as the first one took. So whatever the flood, checks take half of one processor
at most, and more than half of all other calls meet none of them.
"""

from __future__ import annotations

import time
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
        self._turn: anyio.Lock | None = None
        self._rested_at = 0.0

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in a worker thread in its turn. Raises TooManyRequests."""
        if self._inside > self.queued:
            raise TooManyRequests(f"{self.queued} {self._what} wait already")
        self._limiter, self._turn = self._limiter or anyio.CapacityLimiter(1), self._turn or anyio.Lock()
        self._inside += 1
        try:
            async with self._turn:
                await anyio.sleep(max(0.0, self._rested_at - time.monotonic()))
                began = time.monotonic()
                try:
                    return await anyio.to_thread.run_sync(work, limiter=self._limiter)
                finally:
                    now = time.monotonic()
                    self._rested_at = now + (now - began)
        finally:
            self._inside -= 1
