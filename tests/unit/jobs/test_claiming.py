from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Connection

from sysadmd.jobs import claiming, ending, queue_reads
from sysadmd.jobs.ids import job_ids
from sysadmd.jobs.ready import ReadyKey, parse, ready_key
from sysadmd.jobs.spec import JobSpec, StepSpec
from sysadmd.jobs.turn import Turn
from sysadmd.jobs.views import End, Worker
from tests.unit.jobs.queueing import TASK, TRANSFER, WORKER, bench, task
from tests.unit.store.plans import plans


def turn(connection: Connection, now: float) -> Turn:
    return Turn(connection, now=now, ids=job_ids(), lease_seconds=30.0)


async def test_a_claim_reads_neither_what_is_finished_nor_all_that_waits(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(), task(max_parallel=3)], owner="o")
        steps = [StepSpec(type="COPY") for _ in range(3)]
        await b.queue.enqueue(JobSpec(kind="transfer", name="t", steps=steps), owner="o")

        def look(connection: Connection) -> None:
            at = turn(connection, b.clock.wall)
            keys = claiming._ready_keys(connection)
            found = [one for key in keys for one in claiming._candidates(connection, key, None, 5)]
            at.preload(ids=[job_id for _, _, job_id in found])
            for _, _, job_id in found:
                job = at.job(job_id)
                claiming._due_steps(at, job, claiming._only_steps(connection, [job_id]), 5)

        found = plans(b.store, look)
        for line in found.splitlines():
            assert not line.startswith("SCAN") or line in ("SCAN keys", "SCAN CONSTANT ROW"), found
        assert "USING TEMP B-TREE" not in found


async def test_a_finish_reads_the_rows_of_its_lease_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        found = plans(b.store, lambda connection: ending.finish(turn(connection, 1.0), claim.lease, End(outcome="ok")))
        assert "SEARCH attempt USING INDEX ix_attempt_lease" in found
        assert not [line for line in found.splitlines() if line.startswith("SCAN") and line != "SCAN lane"]


async def test_jobs_of_a_name_are_looked_for_in_the_states_that_they_are_in(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(name="a"), task(name="b")], owner="o")
        assert "SEARCH job USING" not in plans(b.store, lambda connection: queue_reads.listing(connection, name="none"))
        found = plans(b.store, lambda connection: queue_reads.listing(connection, name="a"))
        assert found.count("SEARCH job USING") == 1


def test_a_key_comes_back_as_it_was_made() -> None:
    made = ReadyKey("task", "default", "demo.Job", None, 3)

    class Job:
        kind, lane, name, worker_selector, max_parallel = "task", "default", "demo.Job", None, 3

    assert parse(ready_key(Job())) == made


async def test_a_slot_in_a_lane_that_is_free_again_wakes_other_workers(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.store.write_now(lambda c: c.exec_driver_sql("UPDATE lane SET max_running = 1 WHERE name = 'default'"))
        await b.queue.enqueue_many([task(), task()], owner="o")
        claim = await b.one()
        assert await b.queue.claim(Worker("v@host", "host", 1.0), 1, TASK) == []
        waiting = asyncio.create_task(b.queue.wait_work(TASK, 30))
        await asyncio.sleep(0)
        await b.queue.finish(claim.lease, End(outcome="ok"))
        assert await waiting


async def test_elements_of_several_transfers_are_claimed_in_order(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        steps = [StepSpec(type="COPY", spec={"n": n}) for n in range(3)]
        for priority in (0, 1):
            spec = JobSpec(kind="transfer", name="t", steps=steps, priority=priority)
            await b.queue.enqueue(spec, owner="o")
        claims = await b.queue.claim(WORKER, 5, TRANSFER)
        assert [(claim.job.seq, claim.step.idx) for claim in claims] == [(2, 0), (2, 1), (2, 2), (1, 0), (1, 1)]
