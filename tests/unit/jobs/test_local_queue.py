"""What a worker of the server's own process hears of the queue between two claims."""

from __future__ import annotations

from pathlib import Path

from sysadmd.jobs.local_queue import LocalQueue
from tests.unit.jobs.queueing import TASK, TRANSFER, WORKER, bench, task


async def test_what_becomes_ready_between_the_claims_of_two_kinds_is_not_waited_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        queue = LocalQueue(b.queue)
        assert await queue.claim(WORKER, 1, TASK) == []
        await b.queue.enqueue(task(), owner="o")
        assert await queue.claim(WORKER, 1, TRANSFER) == []
        assert await queue.wait_work(TASK | TRANSFER, 30)


async def test_it_waits_when_nothing_became_ready_since_the_claim(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        queue = LocalQueue(b.queue)
        await b.queue.enqueue(task(), owner="o")
        assert len(await queue.claim(WORKER, 2, TASK)) == 1
        assert not await queue.wait_work(TASK, 0.01)
