from __future__ import annotations

import asyncio
from pathlib import Path

import anyio

from sysadmd.jobs.spec import JobSpec, StepSpec
from sysadmd.jobs.views import End
from tests.unit.jobs.queueing import TASK, TRANSFER, WORKER, bench, task


async def test_a_failed_task_is_tried_again_after_its_delay(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(tries=2, retry_delay=60), owner="o")
        await b.run("fail", error={"exception": "ValueError", "message": "no"})
        assert await b.state(job.id) == "failed"
        await b.look(59)
        assert await b.queue.claim(WORKER, 1, TASK) == []
        await b.look(2)
        assert (await b.one()).n == 2
        told = b.told()
        assert [(record["event"], record["attempts_left"]) for record in told][-2:] == [
            ("failed_job", 1),
            ("request_start_job", 0),
        ]


async def test_the_last_failure_is_an_error(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        await b.run("fail", error={"exception": "ValueError", "message": "no"})
        seen = await b.queue.detail(job.id)
        assert seen is not None
        assert (seen.state, seen.tries_used, seen.archived_at) == ("error", 1, None)
        assert seen.last_error is not None
        assert seen.last_error["exception"] == "ValueError"
        last = b.told()[-1]
        assert (last["event"], last["job"]["state"], last["attempts_left"]) == ("failed_job", "error", 0)


async def test_a_task_that_cannot_be_started_is_not_tried_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(tries=5), owner="o")
        claim = await b.one()
        await b.queue.finish(claim.lease, End(outcome="start_failed", error={"message": "no such task"}))
        assert await b.state(job.id) == "error"
        assert b.names()[-1] == "failed_start"


async def test_a_deferral_uses_no_try_and_ends_with_its_budget(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(defer_delay=10, defer_max=25), owner="o")
        for _ in range(3):
            await b.run("deferred", error={"message": "not yet"})
            assert await b.state(job.id) == "deferred"
            await b.look(11)
        seen = await b.queue.detail(job.id)
        assert seen is not None
        assert (seen.state, seen.trial, seen.tries_used) == ("inactive", 3, 0)
        assert b.names()[-1] == "inactivate_job"
        assert b.told()[-2]["detail"] == {"outcome": "deferred", "error": {"message": "not yet"}}


async def test_a_postponed_job_waits_for_its_time(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(run_after=b.clock.wall + 100), owner="o")
        await b.look(99)
        assert await b.queue.claim(WORKER, 1, TASK) == []
        await b.look(2)
        assert len(await b.queue.claim(WORKER, 1, TASK)) == 1


async def test_an_attempt_whose_worker_is_silent_is_lost_and_tried_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(tries=2), owner="o")
        claim = await b.one()
        await b.look()
        for _ in range(5):
            await b.look(10)
        assert await b.state(job.id) == "failed"
        assert await b.queue.renew([claim.lease]) == set()
        assert not await b.queue.finish(claim.lease, End(outcome="ok"))
        assert [attempt.outcome for attempt in await b.queue.attempts(job.id)] == ["lost"]
        await b.look(6)
        assert (await b.one()).n == 2


async def test_what_must_not_run_twice_is_an_error_when_it_is_lost(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(tries=5, on_lost="error"), owner="o")
        await b.one()
        await b.look()
        for _ in range(5):
            await b.look(10)
        assert await b.state(job.id) == "error"


async def test_a_worker_that_renews_keeps_its_lease(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        for _ in range(10):
            await b.look(10)
            assert await b.queue.renew([claim.lease]) == {claim.lease}
        assert await b.state(job.id) == "running"
        (attempt,) = await b.queue.attempts(job.id)
        assert attempt.lease_until is not None
        assert attempt.lease_until > b.clock.wall


async def test_a_time_in_which_the_process_stood_still_ends_no_lease(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        await b.look()
        b.clock.advance(3600)
        await b.queue._upkeep.look()
        assert await b.state(job.id) == "running"
        assert await b.queue.renew([claim.lease]) == {claim.lease}


async def test_a_renewal_after_a_standstill_is_not_too_late(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        b.clock.advance(3600)
        assert await b.queue.renew([claim.lease]) == {claim.lease}
        await b.look()
        assert await b.state(job.id) == "running"


async def test_a_clock_that_is_set_forward_ends_no_lease(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        b.queue._holdings.drop(claim.lease)  # as one of another server
        await b.look()
        b.clock.jump(86_400)
        await b.look(11)
        assert await b.state(job.id) == "running"
        assert await b.queue.renew([claim.lease]) == {claim.lease}
        await b.look(25)
        assert await b.state(job.id) == "running"


async def test_a_clock_that_is_set_back_does_not_keep_a_dead_lease(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        b.queue._holdings.drop(claim.lease)
        await b.look()
        b.clock.jump(-86_400)
        for _ in range(8):
            await b.look(11)
        assert await b.state(job.id) == "error"


async def test_a_clock_that_is_set_back_does_not_keep_a_retry_waiting(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(tries=2, retry_delay=60), owner="o")
        await b.run("fail")
        await b.look()
        b.clock.jump(-86_400)
        await b.look()
        await b.look(61)
        assert len(await b.queue.claim(WORKER, 1, TASK)) == 1


async def test_a_task_that_runs_for_long_or_says_nothing_is_flagged_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(wall_time=100, zombie_time=50), owner="o")
        claim = await b.one()
        for _ in range(12):
            await b.look(11)
            await b.queue.renew([claim.lease])
        seen = await b.queue.detail(job.id)
        assert seen is not None
        assert seen.zombie_at is not None
        assert seen.wall_at is not None
        assert b.names().count("flag_zombie") == b.names().count("flag_nonstop") == 1
        (row,) = b.queue.summary()
        assert (row.zombie, row.wall) == (True, True)


async def test_a_word_of_progress_keeps_the_zombie_flag_away(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(zombie_time=50), owner="o")
        claim = await b.one()
        for _ in range(8):
            await b.queue.progress(claim.lease, 0.1)
            await b.look(11)
            await b.queue.renew([claim.lease])
        assert "flag_zombie" not in b.names()


async def test_a_summary_is_told_when_something_has_changed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        told: list[object] = []
        publish = b.events.publish
        b.events.publish = lambda draft: (told.append(draft.data["event"]), publish(draft))  # type: ignore[method-assign,assignment,func-returns-value]
        await b.queue.enqueue(task(), owner="o")
        await b.look()
        await b.look(1)
        await b.queue.enqueue(task(), owner="o")
        await b.look(1)
        assert told == ["summary"]
        await b.look(3)
        await b.look(9)
        assert told == ["summary", "summary"]


async def test_a_failed_element_waits_while_others_run(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        steps = [StepSpec(type="COPY", stage=0, tries=2) for _ in range(2)]
        spec = JobSpec(kind="transfer", name="workqueue.COPY", steps=steps, retry_delay=60)
        job = await b.queue.enqueue(spec, owner="o")
        one, two = await b.queue.claim(WORKER, 9, TRANSFER)
        await b.queue.finish(one.lease, End(outcome="fail"))
        assert await b.state(job.id) == "running"
        assert await b.queue.claim(WORKER, 9, TRANSFER) == []
        await b.queue.finish(two.lease, End(outcome="ok"))
        assert await b.state(job.id) == "failed"
        await b.look(61)
        (again,) = await b.queue.claim(WORKER, 9, TRANSFER)
        assert again.step.idx == 0
        await b.queue.finish(again.lease, End(outcome="ok"))
        assert await b.state(job.id) == "complete"


async def test_an_idle_queue_looks_seldom_and_a_stirred_one_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        upkeep, looks = b.queue._upkeep, 0
        look = upkeep.look

        async def counted() -> None:
            nonlocal looks
            looks += 1
            await look()

        upkeep.look = counted  # type: ignore[method-assign]
        async with anyio.create_task_group() as tasks:
            await tasks.start(b.queue.run)
            while not looks:
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            assert looks <= 2
            await b.queue.enqueue(task(), owner="o")
            with anyio.fail_after(10):
                while looks < 2:
                    await asyncio.sleep(0.01)
            tasks.cancel_scope.cancel()
