from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sysadmd.config import load
from sysadmd.errors import ConfigError
from sysadmd.jobs.views import End
from tests.unit.jobs.queueing import TASK, WORKER, Bench, bench

HOURLY = {"schedules": {"report": {"cron": "0 * * * *", "job": "demo.Report", "args": {"a": 1}, "timezone": "UTC"}}}


def to_next_hour(b: Bench) -> float:
    return 3600 - b.clock.wall % 3600


async def test_a_schedule_enqueues_its_job_at_its_time(tmp_path: Path) -> None:
    async with bench(tmp_path, HOURLY) as b:
        await b.look()
        await b.look(to_next_hour(b) - 1)
        assert await b.queue.listing() == []
        await b.look(2)
        (job,) = await b.queue.listing()
        assert (job.name, job.args, job.owner, job.kind) == ("demo.Report", {"a": 1}, "scheduler", "task")
        await b.look(1)
        assert len(await b.queue.listing()) == 1


async def test_after_a_gap_there_is_one_run(tmp_path: Path) -> None:
    async with bench(tmp_path, HOURLY) as b:
        await b.look()
        await b.look(86_400)
        await b.look(1)
        assert len(await b.queue.listing()) == 1


async def test_a_run_is_left_out_while_the_one_before_is_not_over(tmp_path: Path) -> None:
    async with bench(tmp_path, HOURLY) as b:
        await b.look()
        await b.look(3600)
        await b.look(3600)
        assert len(await b.queue.listing()) == 1


async def test_an_old_error_is_in_nobodys_way(tmp_path: Path) -> None:
    async with bench(tmp_path, HOURLY) as b:
        await b.look()
        await b.look(3600)
        (claim,) = await b.queue.claim(WORKER, 1, TASK)
        await b.queue.finish(claim.lease, End(outcome="fail"))
        await b.look(3600)
        assert sorted(job.state for job in await b.queue.listing()) == ["error", "pending"]


async def test_two_servers_on_one_store_run_it_once(tmp_path: Path) -> None:
    async with bench(tmp_path, HOURLY) as b, bench(tmp_path, HOURLY) as other:
        await b.look()
        await other.look()
        await b.look(3601)
        (claim,) = await b.queue.claim(WORKER, 1, TASK)
        await b.queue.finish(claim.lease, End(outcome="ok"))
        other.clock.advance(3601)
        await other.look()
        assert len(await b.queue.listing(archived=None)) == 1


async def test_a_clock_that_is_set_back_does_not_stop_it(tmp_path: Path) -> None:
    async with bench(tmp_path, HOURLY) as b:
        await b.look()
        await b.look(3600)
        (claim,) = await b.queue.claim(WORKER, 1, TASK)
        await b.queue.finish(claim.lease, End(outcome="ok"))
        b.clock.jump(-86_400)
        await b.look()
        await b.look(3601)
        assert len(await b.queue.listing()) == 1


async def test_a_changed_schedule_counts_from_now_on(tmp_path: Path) -> None:
    async with bench(tmp_path, HOURLY) as b:
        await b.look()
        b.queue.reconfigure(
            load(None, {"schedules": {"report": {"cron": "30 * * * *", "job": "x"}}}, state_dir=tmp_path)
        )
        b.clock.advance(86_400)
        await b.look()
        assert await b.queue.listing() == []


@pytest.mark.parametrize(
    "changed",
    [
        {"cron": "* * * *"},
        {"cron": "0 25 * * *"},
        {"cron": "0 0 31 2 *"},
        {"cron": "0 0 1 1 * 7"},
        {"timezone": "Mars/Olympus"},
        {"job": ""},
    ],
)
def test_what_cannot_be_a_schedule_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    table = {"cron": "0 * * * *", "job": "x", **changed}
    file.write_text("[schedules.s]\n" + "".join(f'{key} = "{value}"\n' for key, value in table.items()))
    with pytest.raises(ConfigError, match=rf"schedules\.s\.{next(iter(changed))}"):
        load(file)
