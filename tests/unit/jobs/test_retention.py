from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select

from sysadmd.jobs import retention
from sysadmd.jobs.spec import JobSpec, StepSpec
from sysadmd.jobs.views import End
from sysadmd.store.tables import attempt, event, job, request_key, step
from tests.unit.jobs.queueing import Bench, bench, task

DAY = 86_400.0


def count(b: Bench, table: object) -> int:
    return b.store.read_now(lambda c: c.execute(select(func.count()).select_from(table)).scalar()) or 0  # type: ignore[arg-type]


async def done(b: Bench, name: str = "demo.Job") -> Path:
    await b.queue.enqueue(task(name=name), owner="o")
    claim = await b.run()
    path = b.queue._pruning._output / claim.output_path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


async def test_jobs_that_left_long_ago_are_forgotten_with_their_output(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        old = await done(b)
        b.clock.advance(29 * DAY)
        new = await done(b)
        b.clock.advance(2 * DAY)
        assert (await b.queue._pruning.look())[0] == 1
        assert not old.exists()
        assert not old.parent.exists()
        assert new.exists()
        assert (count(b, job), count(b, step), count(b, attempt)) == (1, 1, 1)


async def test_a_job_that_somebody_has_to_deal_with_stays(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        await b.run("fail")
        await b.queue.enqueue(task(), owner="o")
        b.clock.advance(400 * DAY)
        assert (await b.queue._pruning.look())[0] == 0
        assert count(b, job) == 2


async def test_more_jobs_than_are_kept_are_forgotten(tmp_path: Path) -> None:
    async with bench(tmp_path, {"retention.jobs_count": 100}) as b:
        await b.queue.enqueue_many([task()] * 105, owner="o")
        for _ in range(105):
            await b.run()
        assert (await b.queue._pruning.look())[0] == 5
        assert count(b, job) == 100


async def test_a_large_job_goes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEPS", 5)
    async with bench(tmp_path) as b:
        steps = [StepSpec(type="COPY") for _ in range(5)]
        for _ in range(2):
            made = await b.queue.enqueue(JobSpec(kind="transfer", name="t", steps=steps), owner="o")
            await b.queue.remove([made.id], "me")
        kept, later = b.queue.config.retention, b.clock.wall + 99 * DAY
        found, after = b.store.read_now(lambda c: retention.old_jobs(c, kept, later, 0))
        assert (len(found), after) == (1, 1)


async def test_old_events_are_forgotten(tmp_path: Path) -> None:
    async with bench(tmp_path, {"retention.events_count": 1000}) as b:
        for _ in range(3):
            await b.queue.enqueue_many([task()] * 400, owner="o")
        assert (await b.queue._pruning.look())[1] == 200
        assert count(b, event) == 1000
        b.store.write_now(lambda c: c.execute(event.update().where(event.c.seq < 700).values(time=1.0)))
        gone = (await b.queue._pruning.look())[1]
        assert gone == 1000 - count(b, event) > 0


async def test_request_keys_are_forgotten_after_a_day(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o", request_key="r")
        await b.queue._pruning.look()
        assert count(b, request_key) == 1
        b.clock.advance(2 * DAY)
        await b.queue._pruning.look()
        assert count(b, request_key) == 0


def test_a_path_that_leads_out_is_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "kept"
    outside.write_text("x")
    root = tmp_path / "output"
    root.mkdir()
    assert retention.remove_files(root, ["../kept", str(outside)]) == 0
    assert outside.exists()


async def test_a_finished_process_of_the_dispatcher_goes_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        await b.queue.finish(claim.lease, End(outcome="fail"))
        sql = "UPDATE job SET kind = 'command', counters = NULL, live = NULL"
        b.store.write_now(lambda c: c.exec_driver_sql(sql))
        b.clock.advance(31 * DAY)
        assert (await b.queue._pruning.look())[0] == 1
