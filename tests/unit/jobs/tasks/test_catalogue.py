from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from sysadmd.errors import BadRequest, NotFound
from sysadmd.jobs.spec import JobSpec
from sysadmd.jobs.tasks.catalogue import Catalogue
from sysadmd.jobs.tasks.pool import Household, Pool
from sysadmd.jobs.tasks.registry import Registry
from sysadmd.limits import Limits

ROOT = Path(__file__).parents[4]
TARGETS = {
    "settled": "tests.sample_tasks:settled",
    "plain": "tests.sample_tasks:noop",
    "gone": "tests.sample_tasks:gone",
}


@contextlib.asynccontextmanager
async def catalogue() -> AsyncIterator[Catalogue]:
    pool = Pool(Household(None, {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}), Limits())
    async with anyio.create_task_group() as tasks:
        await tasks.start(pool.run)
        yield Catalogue(Registry(lambda: TARGETS), pool)
        tasks.cancel_scope.cancel()


async def test_names_are_listed() -> None:
    async with catalogue() as one:
        assert one.names() == ["gone", "plain", "settled"]


async def test_a_job_has_the_settings_of_its_task() -> None:
    async with catalogue() as one:
        assert await one.job("settled", {"where": "here"}) == JobSpec(
            kind="task", name="settled", args={"where": "here"}, tries=3, retry_delay=0.5, max_parallel=1
        )


async def test_what_is_given_is_stronger() -> None:
    async with catalogue() as one:
        job = await one.job("settled", {"where": "here"}, tries=5, priority=2)
        assert (job.tries, job.priority, job.retry_delay) == (5, 2, 0.5)


async def test_a_task_without_settings_has_the_defaults_of_all_jobs() -> None:
    async with catalogue() as one:
        assert await one.job("plain") == JobSpec(kind="task", name="plain")


async def test_arguments_that_do_not_fit_are_refused() -> None:
    async with catalogue() as one:
        with pytest.raises(BadRequest, match=r"args\.x"):
            await one.job("plain", {"x": 1})


async def test_a_setting_that_jobs_do_not_have_is_refused() -> None:
    async with catalogue() as one:
        with pytest.raises(BadRequest, match=r"args\.colour"):
            await one.job("plain", colour="red")


async def test_an_unknown_task_is_not_found() -> None:
    async with catalogue() as one:
        with pytest.raises(NotFound):
            await one.job("os.system")


async def test_a_task_that_cannot_be_loaded_is_refused() -> None:
    async with catalogue() as one:
        with pytest.raises(BadRequest, match="'gone'"):
            await one.job("gone")
