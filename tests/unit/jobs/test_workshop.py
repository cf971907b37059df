"""What becomes of a claim: a task in a child process, a transfer in the worker, or nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import pytest

from sysadmd.jobs.output_file import OutputRefused
from sysadmd.jobs.tasks.pool import Household, Pool
from sysadmd.jobs.tasks.registry import Registry
from sysadmd.jobs.views import Claim, End, JobView, StepView
from sysadmd.jobs.work import POSTPONED, Again, Transfers, Work
from sysadmd.jobs.workshop import Workshop
from sysadmd.limits import Limits

ROOT = Path(__file__).parents[3]
HOUSEHOLD = Household(None, {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)})
ID = "69257abc0123456789abcdef"


def claimed(name: str, kind: str = "task", *, timeout: float | None = None, **args: Any) -> Claim:
    job = JobView(
        id=ID,
        seq=1,
        kind=kind,
        name=name,
        lane="default",
        owner="olga",
        state="running",
        created_at=0.0,
        args=args,
        timeout=timeout,
    )
    step = StepView(job_id=ID, idx=0, stage=0, type="task", state="leased")
    return Claim(job, step, "lease", 1, f"{ID[:5]}/{ID}.0.1.log", 30.0)


class Began:
    """Remembers what it is told; `then` is done at that moment."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.told: tuple[int | None, str | None] | None = None
        self._then = then

    async def __call__(self, pid: int | None, pid_start: str | None) -> None:
        self.told = pid, pid_start
        self._then()


@contextlib.asynccontextmanager
async def workshop(directory: Path, transfers: Transfers | None = None) -> AsyncIterator[Workshop]:
    pool = Pool(HOUSEHOLD, Limits(kill_grace=0.5))
    names = ("noop", "returns", "fails", "sleeps", "defers", "speaks")
    registry = Registry(lambda: {name: f"tests.sample_tasks:{name}" for name in names})
    async with anyio.create_task_group() as tasks:
        await tasks.start(pool.run)
        yield Workshop(directory, pool, registry, transfers)
        tasks.cancel_scope.cancel()


async def run(work: Work, began: Began | None = None) -> End:
    with anyio.fail_after(30):
        return await work.run(began or Began())


async def test_a_task_runs_with_its_arguments(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        began = Began()
        end = await run(shop.take(claimed("returns", value=[1]), 0.0), began)
        assert (end.outcome, end.result) == ("ok", [1])
        assert began.told is not None
        assert began.told[0]


async def test_a_failure_has_its_traceback_and_the_size_of_its_output(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        work = shop.take(claimed("fails"), 0.0)
        end = await run(work)
        assert end.error is not None
        assert end.error["exception"] == "ValueError"
        assert end.output_bytes == work.output.size > 0


async def test_a_task_that_gets_no_process_is_put_off(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        shop._pool._household = Household("no-such-account", {})
        work = shop.take(claimed("noop"), 0.0)
        end = await run(work)
        assert (end.outcome, end.delay) == ("deferred", POSTPONED)
        assert "no such account" in (tmp_path / work.claim.output_path).read_text()


async def test_a_task_that_nobody_registered_does_not_start(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        work = shop.take(claimed("os.system", command="id"), 0.0)
        assert (await run(work)).outcome == "start_failed"
        assert "there is no task 'os.system'" in (tmp_path / work.claim.output_path).read_text()


async def test_a_defer_gives_its_reason(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        end = await run(shop.take(claimed("defers", reason="later", delay=5), 0.0))
        assert end.outcome == "deferred"
        assert end.error is not None
        assert end.error["message"] == "later"


async def test_a_stop_before_the_child_is_there_is_not_forgotten(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        work = shop.take(claimed("sleeps"), 0.0)
        work.stop("killed", "killed on request")
        assert (await run(work)).outcome == "killed"
        assert "killed: killed on request" in (tmp_path / work.claim.output_path).read_text()


async def test_the_timeout_of_a_job_ends_its_task(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        assert (await run(shop.take(claimed("sleeps", timeout=0.2), 0.0))).outcome == "timeout"


async def test_without_transfers_there_are_only_tasks(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        assert shop.kinds == {"task"}
        with pytest.raises(OutputRefused):
            shop.take(claimed("copy", "transfer"), 0.0)


async def test_a_transfer_reports_and_writes(tmp_path: Path) -> None:
    async def transfers(step: StepView, report: Callable[..., None], output: BinaryIO, again: Again) -> End:
        output.write(b"copied\n")
        report(0.5, data={"transferred": 7})
        return End(outcome="ok", result={"transferred": 14})

    async with workshop(tmp_path, transfers) as shop:
        work = shop.take(claimed("copy", "transfer"), 0.0)
        end = await run(work)
        assert (end.outcome, end.result, end.output_bytes) == ("ok", {"transferred": 14}, 7)
        assert work.said == (0.5, None, {"transferred": 7})


@pytest.mark.parametrize("cause, expected", [("killed", False), ("lost", True)])
async def test_a_transfer_that_is_ended_knows_whether_another_may_follow(
    tmp_path: Path, cause: Any, expected: bool
) -> None:
    asked: list[bool] = []

    async def transfers(step: StepView, report: Callable[..., None], output: BinaryIO, again: Again) -> End:
        work.stop(cause, "ended")
        try:
            await anyio.sleep_forever()
        finally:
            asked.append(again())
        raise AssertionError

    async with workshop(tmp_path, transfers) as shop:
        work = shop.take(claimed("copy", "transfer"), 0.0)
        assert (await run(work)).outcome == cause
    assert asked == [expected]


async def forever(step: StepView, report: Callable[..., None], output: BinaryIO, again: Again) -> End:
    await anyio.sleep_forever()
    raise AssertionError


async def test_a_transfer_is_ended_by_its_timeout(tmp_path: Path) -> None:
    async with workshop(tmp_path, forever) as shop:
        end = await run(shop.take(claimed("copy", "transfer", timeout=0.05), 0.0))
        assert end.outcome == "timeout"


async def test_a_transfer_is_ended_by_a_stop(tmp_path: Path) -> None:
    async with workshop(tmp_path, forever) as shop:
        work = shop.take(claimed("copy", "transfer"), 0.0)
        end = await run(work, Began(lambda: work.stop("killed", "killed on request")))
        assert end.outcome == "killed"
