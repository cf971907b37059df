from __future__ import annotations

from pathlib import Path

from sysadmd.jobs import queue_reads
from tests.unit.jobs.queueing import bench, task


async def test_the_history_tells_the_counts_after_each_change(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for _ in range(3):
            await b.queue.enqueue(task(), owner="o")
            b.clock.advance(10)
        newest = await b.queue.history(page=0, per_page=2)
        assert newest.total == 3
        assert [(row.counts, row.total) for row in newest.rows] == [({"pending": 3}, 3), ({"pending": 2}, 2)]
        assert [row.total for row in (await b.queue.history(page=1, per_page=2)).rows] == [1]
        assert [row.total for row in (await b.queue.history(page=9, per_page=2)).rows] == []
        assert [row.total for row in (await b.queue.history(sort=1)).rows] == [1, 2, 3]


async def test_the_history_of_a_time_is_that_time(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        (row,) = (await b.queue.history()).rows
        assert (await b.queue.history(start=row.time, end=row.time)).total == 1
        assert (await b.queue.history(start=row.time + 1)).total == 0
        assert (await b.queue.history(end=row.time - 1)).total == 0


async def test_one_answer_has_no_more_rows_than_it_may(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task()] * (queue_reads.ROWS_MAX + 1), owner="o")
        assert len(await b.queue.listing(limit=10**9)) == queue_reads.ROWS_MAX


async def test_the_dispatchers_jobs_are_not_the_queues(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(ext_id="x"), owner="o")
        b.store.write_now(lambda c: c.exec_driver_sql("UPDATE job SET kind = 'command', counters = NULL, live = NULL"))
        assert await b.queue.detail(job.id) is None
        assert await b.queue.by_ext_id("x") is None
        assert await b.queue.listing(archived=None) == []
