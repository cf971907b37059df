"""Workers in processes of their own, beside a server that runs no tasks itself: they come, go, hang and are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.integration.task_packages import task_environment
from tests.integration.task_scenes import Scene, appears, lives, scene

NO_TASKS = {"jobs__task_slots": 0, "jobs__lease": 3}


class WorkerProcess:
    """`sysadmd worker` on the state directory of a scene."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process, self.log = process, log

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        with anyio.fail_after(30):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def worker_process(
    directory: Path, *, name: str | None = "night", slots: int = 2, ready: bool = True
) -> AsyncIterator[WorkerProcess]:
    config = directory / "worker.toml"
    user = 'user = "root"' if os.geteuid() == 0 else ""
    config.write_text(f"[jobs]\n{user}\n[limits]\nkill_grace = 0.5\ndrain = 0.5\n")
    log = directory / f"{name}-{len(list(directory.glob('*.worker.log')))}.worker.log"
    argv = [sys.executable, "-m", "sysadmd", "worker", "--config", str(config), "--state-dir", str(directory / "state")]
    argv += ["--parallel", str(slots), *([] if name is None else ["--name", name])]
    environment = {**os.environ, **task_environment(directory)}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *argv, env=environment, stderr=file, stdin=asyncio.subprocess.DEVNULL
        )
    found = WorkerProcess(process, log)
    try:
        if ready:
            with anyio.fail_after(30):
                while '"ready"' not in log.read_text():
                    assert process.returncode is None, log.read_text()
                    await anyio.sleep(0.02)
        yield found
    finally:
        await found.end(signal.SIGKILL)


async def outcomes(one: Scene) -> Counter[str]:
    return Counter(
        one.live.app.store.read_now(
            lambda connection: connection.exec_driver_sql("select outcome from attempt").scalars().all()
        )
    )


async def test_a_task_runs_in_a_worker_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch, **NO_TASKS) as one, worker_process(tmp_path) as worker:
        done = await one.run("speaks")
        assert done.state == "complete"
        assert done.worker == f"night@{one.live.app.config.node}"
        assert "from a grandchild" in await one.output(done)
        done = await one.run("returns", args={"value": [1, {"a": None}]})
        assert (await one.live.app.queue.steps(done.id))[0].result == [1, {"a": None}]
        assert (await one.run("fails")).state == "error"
        assert await worker.end() == 0


async def test_a_job_may_choose_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch, **NO_TASKS) as one, worker_process(tmp_path):
        node = one.live.app.config.node
        elsewhere = await one.enqueue("noop", worker=f"day@{node}")
        assert (await one.run("noop", worker=f"night@{node}")).state == "complete"
        assert (await one.job(elsewhere)).state == "pending"


async def test_a_kill_reaches_a_worker_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch, **NO_TASKS) as one, worker_process(tmp_path):
        job = await one.enqueue("has_stubborn_children", args={"mark": str(tmp_path / "mark")})
        pids = [int(text) for text in (await appears(tmp_path / "mark")).split()]
        await one.live.app.queue.kill([job.id], "olga")
        assert (await one.ended(job)).state == "killed"
        assert not any(map(lives, pids))


async def test_a_worker_that_stops_gives_back_what_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch, **NO_TASKS) as one, worker_process(tmp_path) as worker:
        job = await one.enqueue("sleeps", args={"mark": str(tmp_path / "mark")}, tries=2)
        pid = int(await appears(tmp_path / "mark"))
        assert await worker.end() == 0
        assert not lives(pid)
        assert (await one.job(job)).state == "failed"
        assert await outcomes(one) == {"lost": 1}


async def test_a_halt_ends_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch, **NO_TASKS) as one, worker_process(tmp_path) as worker:
        await one.run("noop")
        await one.live.app.queue.halt("olga")
        with anyio.fail_after(30):
            assert await worker.process.wait() == 0


async def test_a_name_is_one_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch, **NO_TASKS), worker_process(tmp_path):
        async with worker_process(tmp_path, ready=False) as second:
            with anyio.fail_after(30):
                assert await second.process.wait() == 2
            assert "runs already, as process" in second.log.read_text()
        async with worker_process(tmp_path, name=None) as third, worker_process(tmp_path, name=None) as fourth:
            assert "worker-1@" in third.log.read_text()
            assert "worker-2@" in fourth.log.read_text()


async def test_the_name_of_the_servers_worker_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch, **NO_TASKS), worker_process(tmp_path, name="server", ready=False) as worker:
        with anyio.fail_after(30):
            assert await worker.process.wait() == 2
        assert "which is the server's" in worker.log.read_text()


async def test_a_worker_waits_for_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    async with worker_process(tmp_path), scene(tmp_path, monkeypatch, **NO_TASKS) as one:
        assert (await one.run("noop")).state == "complete"


async def test_a_task_goes_on_through_a_restart_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    lease = {**NO_TASKS, "jobs__lease": 30}
    async with contextlib.AsyncExitStack() as stack:
        async with scene(tmp_path, monkeypatch, **lease) as one:
            await stack.enter_async_context(worker_process(tmp_path))
            job = await one.enqueue("begins_and_ends", args={"path": str(path), "number": 1, "seconds": 2}, tries=2)
            await appears(path)
        async with scene(tmp_path, monkeypatch, accounts={}, **lease) as two:
            done = await two.ended(job)
            assert done.state == "complete"
            assert await outcomes(two) == {"ok": 1}
        assert path.read_text() == "begin 1\nend 1\n"


async def test_what_a_killed_worker_ran_is_tried_again_and_nothing_is_lost_or_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, jobs = tmp_path / "lines", []
    async with scene(tmp_path, monkeypatch, **NO_TASKS) as one:
        async with worker_process(tmp_path) as worker:
            for number in range(12):
                args = {"path": str(path), "number": number}
                jobs.append(await one.enqueue("begins_and_ends", args=args, tries=3, retry_delay=0.1))
            with anyio.fail_after(30):
                while not path.exists() or path.read_text().count("end") < 4:
                    await anyio.sleep(0.01)
            await worker.end(signal.SIGKILL)
        async with worker_process(tmp_path):
            for job in jobs:
                assert (await one.ended(job)).state == "complete"
        counted = await outcomes(one)
        assert counted["ok"] == 12
        assert set(counted) == {"ok", "lost"}
        assert 1 <= counted["lost"] <= 2
        for job in jobs:
            assert [each.outcome for each in await one.attempts(job)].count("ok") == 1
    lines = Counter(path.read_text().splitlines())
    assert {line for line in lines if line.startswith("end")} == {f"end {number}" for number in range(12)}
    # A task whose end was written, and not heard of any more, is the one that may end a second time.
    assert sum(lines[f"end {number}"] - 1 for number in range(12)) <= counted["lost"]


async def test_a_worker_that_is_stopped_loses_its_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        scene(tmp_path, monkeypatch, **NO_TASKS) as one,
        worker_process(tmp_path) as worker,
        worker_process(tmp_path, name="day") as other,
    ):
        other.process.send_signal(signal.SIGSTOP)
        job = await one.enqueue("sleeps", args={"mark": str(tmp_path / "mark")}, tries=2, retry_delay=0.1)
        first = int(await appears(tmp_path / "mark"))
        (tmp_path / "mark").unlink()
        worker.process.send_signal(signal.SIGSTOP)
        other.process.send_signal(signal.SIGCONT)
        second = int(await appears(tmp_path / "mark"))
        worker.process.send_signal(signal.SIGCONT)
        with anyio.fail_after(30):
            while lives(first):
                await anyio.sleep(0.02)
        assert lives(second)
        assert (await one.attempts(job))[0].outcome == "lost"
        await one.live.app.queue.kill([job.id], "olga")
        await one.ended(job)
