"""A server whose queue runs the tasks of tests, in its own worker or in others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.executor import process
from sysadmd.jobs.tasks.pool import Household
from sysadmd.jobs.views import AttemptView, JobView
from sysadmd.server import workers
from tests.integration.apps import LiveApp, running_app
from tests.integration.task_packages import PREFIX, task_environment

FINAL = frozenset({"complete", "error", "inactive", "killed"})


@dataclass
class Scene:
    """A server with a package of tasks."""

    live: LiveApp

    async def enqueue(self, name: str, *, args: dict[str, Any] | None = None, **given: Any) -> JobView:
        app = self.live.app
        full = name if "." in name else PREFIX + name
        return await app.queue.enqueue(await app.workers.catalogue.job(full, args, **given), owner="olga")

    async def job(self, job: JobView) -> JobView:
        found = await self.live.app.queue.detail(job.id)
        assert found is not None
        return found

    async def until(self, job: JobView, true: Callable[[JobView], bool]) -> JobView:
        with anyio.fail_after(40):
            while not true(found := await self.job(job)):
                await anyio.sleep(0.02)
        return found

    async def ended(self, job: JobView) -> JobView:
        return await self.until(job, lambda found: found.state in FINAL)

    async def run(self, name: str, **options: Any) -> JobView:
        return await self.ended(await self.enqueue(name, **options))

    async def attempts(self, job: JobView) -> list[AttemptView]:
        return await self.live.app.queue.attempts(job.id)

    async def output(self, job: JobView) -> str:
        """Of all attempts."""
        root = self.live.app.config.state_dir / "output"
        paths = [one.output_path for one in await self.attempts(job)]
        return "".join((root / path).read_text() for path in paths if path is not None)


@contextlib.asynccontextmanager
async def scene(directory: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Scene]:
    """`options` are configuration keys, as `running_app` has them; the package of tasks is installed for both."""
    environment = {"PATH": os.environ["PATH"], **task_environment(directory)}
    for entry in environment["PYTHONPATH"].split(os.pathsep):
        monkeypatch.syspath_prepend(entry)
    monkeypatch.setattr(workers, "household", lambda config: Household(None, environment))
    options = {"limits__kill_grace": 0.5, "limits__drain": 0.5, "jobs__lease": 5, "jobs__task_slots": 2, **options}
    async with running_app(directory, **options) as live:
        yield Scene(live)


async def appears(path: Path) -> str:
    with anyio.fail_after(40):
        while not path.exists() or not path.read_text():
            await anyio.sleep(0.02)
    return path.read_text()


def lives(pid: int) -> bool:
    fields = process.stat_fields(pid)
    return fields is not None and fields[0] != b"Z"
