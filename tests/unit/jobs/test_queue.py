from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sysadmd.errors import BadRequest, Conflict, NotFound, TooManyRequests
from sysadmd.jobs import queue as queues
from sysadmd.jobs import queue_reads
from sysadmd.jobs.spec import JobSpec, StepSpec
from sysadmd.jobs.views import End, Worker
from tests.unit.jobs.queueing import TASK, TRANSFER, WORKER, bench, task


async def test_a_task_runs_from_end_to_end_and_tells_each_state(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(args={"a": 1}), owner="o")
        assert (job.state, job.seq, job.lane) == ("pending", 1, "default")
        claim = await b.one()
        assert claim.job.args == {"a": 1}
        assert (claim.job.state, claim.step.state, claim.n) == ("running", "leased", 1)
        assert await b.queue.started(claim.lease, pid=7, pid_start="x")
        assert await b.queue.finish(claim.lease, End(outcome="ok", exit_code=0, result={"x": 1}, output_bytes=3))
        done = await b.queue.detail(job.id)
        assert done is not None
        assert (done.state, done.progress, done.archived_at) == ("complete", 1.0, b.clock.wall)
        (step,) = await b.queue.steps(job.id)
        assert (step.state, step.result) == ("ok", {"x": 1})
        (attempt,) = await b.queue.attempts(job.id, 0)
        assert (attempt.outcome, attempt.pid, attempt.output_bytes, attempt.worker) == ("ok", 7, 3, "w@host")
        assert b.names() == ["enqueue_job", "request_start_job", "start_job", "complete_job"]


async def test_events_carry_the_counts_after_their_change(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(), task()], owner="o")
        await b.run()
        assert [record["counts"] for record in b.told()] == [
            {"pending": 1},
            {"pending": 2},
            {"pending": 1, "running": 1},
            {"pending": 1, "running": 1},
            {"pending": 1},
        ]
        assert b.queue.counts() == {"pending": 1}


async def test_the_best_job_is_claimed_first(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        specs = [task(name="low"), task(name="high", priority=5), task(name="now", force=True, priority=-9)]
        await b.queue.enqueue_many([*specs, task(name="low")], owner="o")
        claims = await b.queue.claim(WORKER, 10, TASK)
        taken = [(claim.job.name, claim.job.seq) for claim in claims]
        assert taken == [("now", 3), ("high", 2), ("low", 1), ("low", 4)]


async def test_a_worker_gets_only_what_it_asked_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        assert await b.queue.claim(WORKER, 10, TRANSFER) == []
        assert await b.queue.claim(WORKER, 0, TASK) == []
        assert len(await b.queue.claim(WORKER, 10, TASK)) == 1


async def test_a_job_for_one_worker_waits_for_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(worker="other@host"), owner="o")
        assert await b.queue.claim(WORKER, 1, TASK) == []
        assert len(await b.queue.claim(Worker("other@host", "host", 1.0), 1, TASK)) == 1


async def test_a_claim_beside_an_end_counts_that_attempt_no_more(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(max_parallel=1)] * 2, owner="o")
        first = await b.one()
        ended, claims = await asyncio.gather(
            b.queue.finish(first.lease, End(outcome="ok")), b.queue.claim(WORKER, 1, TASK)
        )
        assert ended
        assert len(claims) == 1
        assert b.queue.workers()[0].running == 1


async def test_max_parallel_bounds_a_name_on_each_worker(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(max_parallel=2)] * 5 + [task(name="other")], owner="o")
        claims = await b.queue.claim(WORKER, 10, TASK)
        assert sorted(claim.job.name for claim in claims) == ["demo.Job", "demo.Job", "other"]
        assert await b.queue.claim(WORKER, 10, TASK) == []
        assert len(await b.queue.claim(Worker("b@host", "host", 1.0), 10, TASK)) == 2
        await b.queue.finish(claims[0].lease, End(outcome="ok"))
        assert len(await b.queue.claim(WORKER, 10, TASK)) == 1


async def test_a_unique_key_binds_while_its_job_is_not_final(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(unique_key="k"), owner="o")
        with pytest.raises(Conflict):
            await b.queue.enqueue(task(unique_key="k"), owner="o")
        with pytest.raises(Conflict):
            await b.queue.enqueue_many([task(unique_key="n"), task(unique_key="n")], owner="o")
        await b.run("fail")
        await b.queue.enqueue_many([task(unique_key="k"), task(unique_key="n")], owner="o")


async def test_an_owners_name_is_unique_among_jobs_of_the_queue_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        process = await b.queue.enqueue(task(ext_id="x"), owner="o")
        with pytest.raises(Conflict):
            await b.queue.enqueue(task(ext_id="x"), owner="o")
        # A process of the dispatcher may have the same id.
        sql = "UPDATE job SET kind = 'command', counters = NULL, live = NULL WHERE id = ?"
        b.store.write_now(lambda c: c.exec_driver_sql(sql, (process.id,)))
        await b.queue.enqueue(task(ext_id="x"), owner="o")


async def test_a_request_that_comes_twice_makes_one_job(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        first = await b.queue.enqueue(task(), owner="o", request_key="r")
        assert (await b.queue.enqueue(task(), owner="o", request_key="r")).id == first.id
        assert (await b.queue.enqueue(task(), owner="p", request_key="r")).id != first.id
        b.clock.advance(86_401)
        assert (await b.queue.enqueue(task(), owner="o", request_key="r")).id != first.id


async def test_a_lane_that_is_not_there_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for lane in ("nowhere", "pkg_queue"):
            with pytest.raises(BadRequest, match="there is no lane"):
                await b.queue.enqueue(task(lane=lane), owner="o")


async def test_a_result_that_comes_late_or_twice_changes_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.run()
        assert not await b.queue.finish(claim.lease, End(outcome="fail"))
        assert not await b.queue.started(claim.lease, pid=1)
        assert not await b.queue.progress("f" * 32, 0.5)
        assert await b.state(job.id) == "complete"


async def test_progress_is_stored_once_a_second_and_when_it_ends(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        await b.queue.progress(claim.lease, 0.1, "begun")
        await b.look(2)
        seen = await b.queue.detail(job.id)
        assert seen is not None
        assert (seen.progress, seen.progress_msg) == (0.1, "begun")
        await b.queue.progress(claim.lease, 0.5, None, {"bytes": 7})
        await b.look(0.5)
        assert (await b.queue.detail(job.id) or seen).progress == 0.1
        await b.queue.finish(claim.lease, End(outcome="fail"))
        assert (await b.queue.detail(job.id) or seen).progress == 0.5
        assert (await b.queue.steps(job.id))[0].progress == {"value": 0.5, "bytes": 7}


async def test_progress_outside_of_its_range_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(BadRequest):
            await b.queue.progress("x", 1.5)


async def test_a_job_that_waits_is_killed_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        assert await b.queue.kill([job.id, "0" * 24], "me") == [job.id]
        assert await b.state(job.id) == "killed"
        assert b.names() == ["enqueue_job", "request_kill_job", "kill_job"]
        assert await b.queue.claim(WORKER, 1, TASK) == []
        assert await b.queue.kill([job.id], "me") == []


async def test_a_job_that_runs_is_killed_when_its_worker_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        told: list[str] = []
        b.queue.on_kill.append(told.append)
        assert await b.queue.renew([claim.lease]) == {claim.lease}
        assert await b.queue.kill([job.id], "me") == [job.id]
        assert await b.queue.kill([job.id], "me") == [job.id]
        assert told == [claim.lease]
        assert await b.state(job.id) == "running"
        assert await b.queue.renew([claim.lease]) == set()
        assert await b.queue.finish(claim.lease, End(outcome="killed"))
        assert await b.state(job.id) == "killed"
        assert b.names() == ["enqueue_job", "request_start_job", "request_kill_job", "kill_job"]


async def test_a_worker_learns_of_work_that_becomes_ready(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        waiting = asyncio.create_task(b.queue.wait_work(TASK, 30))
        other = asyncio.create_task(b.queue.wait_work(TRANSFER, 0.2))
        await asyncio.sleep(0)
        await b.queue.enqueue(task(), owner="o")
        assert await waiting
        assert not await other


async def test_the_listing_is_newest_first_and_goes_on_page_by_page(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(name=f"j{n}") for n in range(5)], owner="o")
        first = await b.queue.listing(limit=2)
        assert [job.seq for job in first] == [5, 4]
        assert [job.seq for job in await b.queue.listing(after=4, limit=2)] == [3, 2]
        assert [job.seq for job in await b.queue.listing(name="j1")] == [2]
        assert await b.queue.listing(states=["running"]) == []
        await b.run()
        assert [job.seq for job in await b.queue.listing(archived=True)] == [1]
        assert len(await b.queue.listing(archived=None)) == 5
        assert await b.queue.listing(owner="p", kinds=["task"]) == []


async def test_a_job_is_found_by_its_number_and_its_owners_name(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(ext_id="mine"), owner="o")
        assert (await b.queue.detail(job.seq)) == (await b.queue.detail(job.id))
        assert ((await b.queue.by_ext_id("mine")) or job).id == job.id
        assert await b.queue.detail(99) is None


async def test_the_summary_has_a_row_for_each_name_and_state(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(), task(), task(name="a")], owner="o")
        claim = await b.one()
        await b.queue.progress(claim.lease, 0.25)
        rows = [(row.name, row.state, row.n, row.progress) for row in b.queue.summary()]
        assert rows == [("a", "pending", 1, None), ("demo.Job", "pending", 1, None), ("demo.Job", "running", 1, 0.25)]


async def test_more_at_once_than_a_turn_takes_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(TooManyRequests):
            await b.queue.enqueue_many([task()] * (queues.ENQUEUE_MAX + 1), owner="o")
        with pytest.raises(TooManyRequests):
            await b.queue.kill(["x"] * (queues.IDS_MAX + 1), "me")


async def test_what_is_not_there_cannot_be_restarted(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(NotFound):
            await b.queue.restart("0" * 24, "me")


async def test_a_transfer_runs_stage_by_stage_and_grows(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        spec = JobSpec(kind="transfer", name="workqueue.REMOVE", steps=[StepSpec(type="LIST")])
        job = await b.queue.enqueue(spec, owner="o")
        (listing,) = await b.queue.claim(WORKER, 9, TRANSFER)
        new = [StepSpec(type="REMOVE", stage=1, spec={"p": n}) for n in range(3)] + [StepSpec(type="REMOVE", stage=2)]
        assert await b.queue.finish(listing.lease, End(outcome="ok", result={"listing": []}, expand=tuple(new)))
        assert await b.state(job.id) == "running"
        files = await b.queue.claim(WORKER, 9, TRANSFER)
        assert [claim.step.spec for claim in files] == [{"p": 0}, {"p": 1}, {"p": 2}]
        for claim in files[:2]:
            await b.queue.finish(claim.lease, End(outcome="ok"))
        assert await b.queue.claim(WORKER, 9, TRANSFER) == []
        await b.queue.finish(files[2].lease, End(outcome="ok"))
        (last,) = await b.queue.claim(WORKER, 9, TRANSFER)
        assert last.step.stage == 2
        assert await b.state(job.id) == "running"
        await b.queue.finish(last.lease, End(outcome="ok"))
        assert await b.state(job.id) == "complete"
        elements = [r["element"]["status"] for r in b.told("workqueue") if r["event"] == "element"]
        assert elements == ["DONE"] * 5


async def test_a_lease_of_an_earlier_server_is_adopted_by_its_renewal(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(max_parallel=1), owner="o")
        claim = await b.one()
        async with bench(tmp_path) as later:
            later.clock.wall = b.clock.wall + 10
            assert await later.queue.renew([claim.lease, "f" * 32]) == {claim.lease}
            assert later.queue._holdings.running("w@host") == {"demo.Job": 1}
            await later.queue.kill([job.id], "me")
            assert await later.queue.renew([claim.lease]) == set()
            assert await later.queue.finish(claim.lease, End(outcome="killed"))
        assert await b.state(job.id) == "killed"


async def test_renewals_are_stored_three_times_in_a_lease(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        stored = []
        for _ in range(30):
            b.clock.advance(1)
            await b.queue.renew([claim.lease])
            await b.queue.claim(WORKER, 1, TRANSFER)
            stored.append((await b.queue.attempts(job.id))[0].lease_until)
        assert len(set(stored)) == 4


async def test_a_kill_by_another_server_is_learned_by_a_renewal(tmp_path: Path) -> None:
    async with bench(tmp_path) as b, bench(tmp_path) as other:
        job = await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        await other.queue.kill([job.id], "me")
        b.clock.advance(11)
        await b.queue.renew([claim.lease])
        await b.queue.claim(WORKER, 1, TRANSFER)
        assert await b.queue.renew([claim.lease]) == set()


async def test_of_many_attempts_the_latest_are_kept_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_reads, "ROWS_MAX", 2)
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(tries=9, retry_delay=0), owner="o")
        for _ in range(3):
            await b.run("fail")
            await b.look(1)
        assert [one.n for one in await b.queue.attempts(job.id)] == [2, 3]


async def test_a_page_says_how_many_jobs_of_these_names_and_states_are_in_the_queue(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(name="a"), task(name="b"), task(name="a")], owner="o")
        await b.one()
        await b.queue.kill([(await b.queue.listing(name="b"))[0].id], "o")

        async def total(**wanted: Any) -> int:
            return (await b.queue.page(lambda _: (0, 10), **wanted))[1]

        assert await total() == 3
        assert await total(names={"a"}) == 2
        assert await total(names={"a", "b"}, states={"pending", "killed"}) == 2
        assert await total(names=set()) == 0


async def test_a_deferral_of_no_time_does_not_begin_again_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(defer_delay=0), owner="o")
        await b.run("deferred", delay=0)
        await b.look()
        assert await b.queue.claim(WORKER, 1, TASK) == []
        await b.look(1)
        assert await b.queue.claim(WORKER, 1, TASK)


async def test_events_of_a_transfer_do_not_name_its_files(tmp_path: Path) -> None:
    spec = JobSpec(kind="transfer", name="workqueue.copy", steps=[StepSpec(type="COPY", spec={"src": "~/private"})])
    async with bench(tmp_path) as b:
        await b.queue.enqueue(spec, owner="o")
        claim = await b.one(kinds=TRANSFER)
        await b.queue.finish(claim.lease, End(outcome="fail", error={"exception": "E", "message": "~/private: gone"}))
        assert "private" not in str(b.told("queue") + b.told("workqueue"))
        assert b.told()[-1]["detail"] == {"outcome": "fail", "error": {"exception": "E"}}
