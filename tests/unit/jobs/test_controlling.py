from __future__ import annotations

from pathlib import Path

import pytest

from sysadmd.errors import Conflict, NotFound
from sysadmd.jobs.spec import JobSpec, StepSpec
from sysadmd.jobs.views import End, Worker
from tests.unit.jobs.queueing import TASK, TRANSFER, WORKER, Bench, bench, task


async def test_a_stopped_job_is_restarted_as_a_new_one(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        old = await b.queue.enqueue(
            task(args={"a": 1}, priority=3, unique_key="k", tries=2, worker="w@host"), owner="o"
        )
        await b.queue.kill([old.id], "me")
        new_id = await b.queue.restart(old.id, "me")
        was, now = await b.queue.detail(old.id), await b.queue.detail(new_id)
        assert was is not None
        assert now is not None
        assert (was.child_id, was.archived_at, was.state) == (new_id, b.clock.wall, "killed")
        assert (now.parent_id, now.state, now.args, now.priority) == (old.id, "pending", {"a": 1}, 3)
        assert (now.unique_key, now.tries_max, now.worker_selector, now.owner) == ("k", 2, "w@host", "o")
        assert b.names()[-2:] == ["restart_stopped", "enqueue_job"]
        assert b.told()[-2]["job"]["id"] == old.id
        assert b.queue.counts() == {"pending": 1}
        with pytest.raises(Conflict):
            await b.queue.restart(old.id, "me")


async def test_a_restart_that_would_break_a_unique_key_changes_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        old = await b.queue.enqueue(task(unique_key="k"), owner="o")
        await b.queue.kill([old.id], "me")
        await b.queue.enqueue(task(unique_key="k"), owner="o")
        with pytest.raises(Conflict):
            await b.queue.restart(old.id, "me")
        assert b.queue.counts() == {"pending": 1, "killed": 1}


async def test_a_job_that_waits_is_restarted_as_itself(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(tries=2), owner="o")
        await b.run("fail")
        assert await b.queue.restart(job.id, "me") == job.id
        assert b.names()[-1] == "restart_waiting"
        assert await b.state(job.id) == "failed"
        assert (await b.one()).n == 2


async def test_a_job_that_runs_or_is_complete_is_not_restarted(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        with pytest.raises(Conflict):
            await b.queue.restart(job.id, "me")
        await b.queue.finish(claim.lease, End(outcome="ok"))
        with pytest.raises(Conflict):
            await b.queue.restart(job.id, "me")


async def test_a_job_that_waits_is_removed_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        assert await b.queue.remove([job.id, "0" * 24], "me") == [job.id]
        seen = await b.queue.detail(job.id)
        assert seen is not None
        assert (seen.state, seen.archived_at, seen.remove_requested_by) == ("killed", b.clock.wall, "me")
        assert "remove_job" in b.names()
        assert b.queue.counts() == {}
        assert await b.queue.claim(WORKER, 1, TASK) == []
        assert await b.queue.remove([job.id], "me") == []


async def test_a_job_that_runs_is_removed_when_it_ends(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(tries=3), owner="o")
        claim = await b.one()
        await b.queue.remove([job.id], "me")
        await b.queue.remove([job.id], "me")
        assert b.queue.summary()[0].removed
        await b.queue.finish(claim.lease, End(outcome="fail"))
        assert b.names()[2:] == ["request_remove_job", "kill_job", "remove_job"]
        assert b.queue.counts() == {}


async def test_a_removed_job_that_completes_tells_both(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        await b.queue.remove([job.id], "me")
        await b.queue.finish(claim.lease, End(outcome="ok"))
        assert b.names()[2:] == ["request_remove_job", "complete_job", "remove_job"]


async def test_a_stopped_job_stays_until_it_is_removed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        await b.run("fail")
        assert b.queue.counts() == {"error": 1}
        await b.queue.remove([job.id], "me")
        assert await b.state(job.id) == "error"
        assert b.queue.counts() == {}


async def transfer(b: Bench, count: int = 3) -> str:
    steps = [StepSpec(type="COPY", stage=0) for _ in range(count)] + [StepSpec(type="COPY", stage=1)]
    return (await b.queue.enqueue(JobSpec(kind="transfer", name="t", steps=steps), owner="o")).id


async def test_failed_steps_are_tried_again_and_the_others_are_not(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job_id = await transfer(b)
        for outcome, claim in zip(("ok", "fail", "ok"), await b.queue.claim(WORKER, 9, TRANSFER), strict=True):
            await b.queue.finish(claim.lease, End(outcome=outcome))
        assert [step.state for step in await b.queue.steps(job_id)] == ["ok", "failed", "ok", "skipped"]
        assert await b.state(job_id) == "error"
        assert await b.queue.retry(job_id, "me") == job_id
        (claim,) = await b.queue.claim(WORKER, 9, TRANSFER)
        assert (claim.step.idx, claim.n) == (1, 2)
        await b.queue.finish(claim.lease, End(outcome="ok"))
        (claim,) = await b.queue.claim(WORKER, 9, TRANSFER)
        await b.queue.finish(claim.lease, End(outcome="ok"))
        assert await b.state(job_id) == "complete"


async def test_only_a_stopped_job_is_tried_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job_id = await transfer(b)
        with pytest.raises(Conflict):
            await b.queue.retry(job_id, "me")
        with pytest.raises(NotFound):
            await b.queue.retry("0" * 24, "me")
        await b.queue.kill([job_id], "me")
        await b.queue.retry(job_id, "me")
        assert await b.state(job_id) == "pending"
        assert len(await b.queue.claim(WORKER, 9, TRANSFER)) == 3


async def test_a_transfer_that_is_killed_ends_with_its_last_step(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job_id = await transfer(b)
        one, two = await b.queue.claim(WORKER, 2, TRANSFER)
        await b.queue.kill([job_id], "me")
        assert await b.queue.claim(WORKER, 2, TRANSFER) == []
        await b.queue.finish(one.lease, End(outcome="killed"))
        assert await b.state(job_id) == "running"
        await b.queue.finish(two.lease, End(outcome="ok"))
        assert await b.state(job_id) == "killed"
        assert [step.state for step in await b.queue.steps(job_id)] == ["killed", "ok", "killed", "killed"]


async def test_a_paused_lane_starts_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        assert await b.queue.pause("default", "me") == ["default"]
        assert await b.queue.claim(WORKER, 1, TASK) == []
        await b.queue.resume("default", "me")
        assert len(await b.queue.claim(WORKER, 1, TASK)) == 1
        await b.queue.pause(None, "me")
        await b.queue.enqueue(task(), owner="o")
        assert await b.queue.claim(WORKER, 1, TASK) == []
        with pytest.raises(NotFound):
            await b.queue.pause("nowhere", "me")


async def test_a_lane_runs_no_more_jobs_than_it_may(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.store.write_now(lambda c: c.exec_driver_sql("UPDATE lane SET max_running = 1 WHERE name = 'transfer'"))
        first, second = await transfer(b), await transfer(b)
        claims = await b.queue.claim(WORKER, 2, TRANSFER)
        assert {claim.job.id for claim in claims} == {first}
        claims += await b.queue.claim(WORKER, 9, TRANSFER)
        assert [claim.job.id for claim in claims] == [first] * 3
        for claim in claims:
            await b.queue.finish(claim.lease, End(outcome="ok"))
        (claim,) = await b.queue.claim(WORKER, 9, TRANSFER)
        assert claim.job.id == first
        await b.queue.finish(claim.lease, End(outcome="ok"))
        assert {claim.job.id for claim in await b.queue.claim(WORKER, 9, TRANSFER)} == {second}


async def test_workers_that_were_there_are_halted(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        await b.queue.halt("me")
        assert b.queue.halted(WORKER)
        assert await b.queue.claim(WORKER, 1, TASK) == []
        assert [worker.halted for worker in b.queue.workers()] == [True]
        later = Worker("v@host", "host", b.clock.wall + 1)
        assert len(await b.queue.claim(later, 1, TASK)) == 1
