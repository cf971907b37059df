"""The queue of this process, as its own worker needs it: a wait begins at the claim before it.

A worker claims for one kind of jobs after the other, and each claim is a turn of the queue. What becomes ready for the
first kind while it asks for the second would wake nobody, and wait until the worker asks of its own accord.
"""

from __future__ import annotations

from sysadmd.jobs.queue import Queue
from sysadmd.jobs.views import Claim, Worker


class LocalQueue:
    """`queue` for one worker (worker.Source); what is not about claims is the queue's own."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._seen: dict[str, int] = {}
        self.started, self.renew, self.progress, self.finish = queue.started, queue.renew, queue.progress, queue.finish
        self.halted = queue.halted

    async def claim(self, worker: Worker, limit: int, kinds: frozenset[str]) -> list[Claim]:
        """Lease up to `limit` steps that are due."""
        self._seen.update(dict.fromkeys(kinds, self._queue.wakes))
        return await self._queue.claim(worker, limit, kinds)

    async def wait_work(self, kinds: frozenset[str], timeout: float) -> bool:
        """Wait for work that was not there at the claims for these kinds, at most for `timeout` seconds."""
        return await self._queue.wait_work(kinds, timeout, seen=min(self._seen.get(kind, 0) for kind in kinds))
