"""Tasks as jobs of a whole server: its queue, its worker, and real processes that run, fail, hang and die."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import anyio
import pytest

from sysadmd.executor import process
from sysadmd.jobs.spec import JobSpec, StepSpec
from tests.integration.task_packages import PREFIX
from tests.integration.task_scenes import appears, lives, scene

DUMMY = "core4.queue.helper.job.example.DummyJob"


async def test_a_task_completes_with_its_output_and_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        done = await one.run("speaks")
        assert done.state == "complete"
        assert "from a grandchild" in await one.output(done)
        done = await one.run("returns", args={"value": {"n": 1}})
        assert (await one.live.app.queue.steps(done.id))[0].result == {"n": 1}


async def test_the_bundled_task_sleeps_and_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        job = await one.enqueue(DUMMY, args={"sleep": 3})
        found = await one.until(job, lambda found: found.progress not in (None, 0.0, 1.0))
        assert found.state == "running"
        done = await one.ended(job)
        assert (done.state, done.progress) == ("complete", 1.0)


async def test_a_failure_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        done = await one.run("fails", args={"message": "no way"})
        assert done.state == "error"
        assert done.last_error is not None
        assert (done.last_error["exception"], done.last_error["message"]) == ("ValueError", "no way")
        assert "ValueError: no way" in await one.output(done)


async def test_a_failure_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        path = tmp_path / "count"
        done = await one.run("fails_first", args={"path": str(path)}, tries=2, retry_delay=0.1)
        assert done.state == "complete"
        assert [each.outcome for each in await one.attempts(done)] == ["fail", "ok"]
        assert len(path.read_text().splitlines()) == 2


async def test_a_task_defers_until_its_budget_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        done = await one.run("defers", args={"delay": 0.1}, defer_max=1)
        assert done.state == "inactive"
        outcomes = {each.outcome for each in await one.attempts(done)}
        assert outcomes == {"deferred"}


async def test_a_running_task_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        job = await one.enqueue("sleeps", args={"mark": str(tmp_path / "mark"), "after": str(tmp_path / "after")})
        pid = int(await appears(tmp_path / "mark"))
        await one.live.app.queue.kill([job.id], "olga")
        done = await one.ended(job)
        assert done.state == "killed"
        assert not lives(pid)
        assert (tmp_path / "after").read_text() == "cleaned up"
        assert "killed on request" in await one.output(done)


async def test_a_task_that_ignores_term_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        job = await one.enqueue("ignores_term", args={"mark": str(tmp_path / "mark")})
        pid = int(await appears(tmp_path / "mark"))
        await one.live.app.queue.kill([job.id], "olga")
        assert (await one.ended(job)).state == "killed"
        assert not lives(pid)


@pytest.mark.skipif(not process.LINUX, reason="looks into /proc")
async def test_a_kill_takes_grandchildren(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        job = await one.enqueue("has_stubborn_children", args={"mark": str(tmp_path / "mark")})
        pids = [int(text) for text in (await appears(tmp_path / "mark")).split()]
        await one.live.app.queue.kill([job.id], "olga")
        assert (await one.ended(job)).state == "killed"
        assert not any(map(lives, pids))


async def test_a_task_ends_at_its_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        done = await one.run("sleeps", timeout=0.3)
        assert done.state == "error"
        assert [each.outcome for each in await one.attempts(done)] == ["timeout"]
        assert "stopped after its timeout" in await one.output(done)


async def test_a_child_that_is_killed_by_another_fails_its_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        done = await one.run("kills_itself")
        assert done.state == "error"
        (attempt,) = await one.attempts(done)
        assert (attempt.outcome, attempt.signal) == ("fail", signal.SIGKILL)
        assert (await one.run("noop")).state == "complete"


async def test_a_child_that_is_stopped_is_lost_and_its_step_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch, limits__task_stopped=1) as one:
        mark = tmp_path / "mark"
        job = await one.enqueue("sleeps", args={"mark": str(mark)}, tries=2, retry_delay=0.1)
        first = int(await appears(mark))
        mark.unlink()
        os.kill(first, signal.SIGSTOP)
        assert int(await appears(mark)) != first
        assert not lives(first)
        assert (await one.attempts(job))[0].outcome == "lost"
        await one.live.app.queue.kill([job.id], "olga")
        await one.ended(job)


async def test_output_above_the_cap_ends_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mib = 1024 * 1024
    async with scene(tmp_path, monkeypatch, limits__output_cap=mib) as one:
        done = await one.run("floods", args={"size": 2 * mib})
        assert [each.outcome for each in await one.attempts(done)] == ["output_limit"]
        assert "has passed 1048576 bytes" in await one.output(done)


async def test_arguments_that_do_not_fit_are_refused_before_there_is_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sysadmd.errors import BadRequest

    async with scene(tmp_path, monkeypatch) as one:
        with pytest.raises(BadRequest, match="no argument of"):
            await one.enqueue("noop", args={"x": 1})
        assert sum(one.live.app.queue.counts().values()) == 0


async def test_two_hundred_tasks_pass_through_two_warm_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        path = tmp_path / "count"
        spec = await one.live.app.workers.catalogue.job(f"{PREFIX}counts", {"path": str(path)})
        begun = time.monotonic()
        jobs = await one.live.app.queue.enqueue_many([spec] * 200, owner="olga")
        for job in jobs:
            assert (await one.ended(job)).state == "complete"
        took = time.monotonic() - begun
        counted = Counter(path.read_text().splitlines())
        assert counted.total() == 200
        assert len(counted) <= 3  # the one that described the task, and two that ran it
        assert took < 30


async def test_a_transfer_runs_beside_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "site"
    place.mkdir()
    (place / "a").write_text("content")
    async with scene(tmp_path, monkeypatch, sites={"1": {"root": str(place)}}) as one:
        spec = {"src_site": 1, "src": "/a", "dst_site": 1, "dst": "/b"}
        job = JobSpec(kind="transfer", name="workqueue.COPY", steps=[StepSpec(type="COPY", spec=spec, size=7)])
        done = await one.ended(await one.live.app.queue.enqueue(job, owner="olga"))
        assert done.state == "complete", await one.output(done)
        assert (place / "b").read_text() == "content"
        assert "COPY" in await one.output(done)


async def test_a_stop_gives_back_what_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    async with scene(tmp_path, monkeypatch) as one:
        job = await one.enqueue("sleeps", args={"mark": str(mark)}, tries=2)
        pid = int(await appears(mark))
        store = one.live.app.store
        one.live.stop()
        with anyio.fail_after(40):
            while lives(pid) or one.live.app.workers.running:
                await anyio.sleep(0.02)
        states = store.read_now(lambda connection: connection.exec_driver_sql("select state from job").scalars().all())
        outcomes = store.read_now(
            lambda connection: connection.exec_driver_sql("select outcome from attempt").scalars().all()
        )
        assert (states, outcomes) == (["failed"], ["lost"]), job.id
