"""Whole file jobs: a real queue, real files, and workers that come, crash and come back."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.config import SiteConfig
from sysadmd.jobs.spec import JobSpec
from sysadmd.jobs.transfers.elements import Kind, first
from sysadmd.jobs.transfers.engine import run
from sysadmd.jobs.transfers.pdm import JobStatus, job_status
from sysadmd.jobs.transfers.sites import Sites
from sysadmd.jobs.views import Claim, End, JobView, Worker
from sysadmd.limits import Limits
from tests.unit.jobs.queueing import TRANSFER, Bench, bench
from tests.unit.jobs.transfers.attempts import ODD, Reports, content


class Scene:
    """A queue and two sites, 1 and 2, in the directories `one` and `two`."""

    def __init__(self, queueing: Bench, sites: Sites, one: Path, two: Path) -> None:
        self.bench, self.queue, self.sites, self.one, self.two = queueing, queueing.queue, sites, one, two
        self.ends: list[tuple[Claim, End]] = []
        self.seen: list[JobStatus] = []

    async def ask(self, kind: Kind, src: str, dst: str | None = None, **changes: Any) -> JobView:
        step = first(kind, src_site=1, src=src, dst_site=2, dst=dst)
        spec = {"kind": "transfer", "name": f"workqueue.{kind.lower()}", "steps": (step,), "tries": 3, **changes}
        return await self.queue.enqueue(JobSpec(**spec), owner="olga")

    async def status(self, job: JobView) -> JobStatus:
        view = await self.queue.detail(job.id)
        assert view is not None
        steps = await self.queue.steps(job.id, None, 1000)
        return job_status(view.state, (step.state for step in steps))

    async def claim(self, name: str = "w") -> Claim | None:
        found = await self.queue.claim(Worker(f"{name}@host", "host", 1000.0, 4), 1, TRANSFER)
        return found[0] if found else None

    async def make(self, claim: Claim) -> End:
        """An attempt of which the queue hears nothing."""
        assert await self.queue.started(claim.lease, pid=None, pid_start=None)
        return await run(claim.step, sites=self.sites, report=Reports(), output=io.BytesIO())

    async def work(self, job: JobView, name: str = "w") -> None:
        """Work until there is nothing to claim, noting the status of the job on the way."""
        while (claim := await self.claim(name)) is not None:
            end = await self.make(claim)
            self.ends.append((claim, end))
            assert await self.queue.finish(claim.lease, end)
            self.seen.append(await self.status(job))

    async def crowd(self, job: JobView, count: int) -> None:
        """So many workers at once, until the job is at its end or waits."""
        for _ in range(100):
            before = len(self.ends)
            async with anyio.create_task_group() as group:
                for number in range(count):
                    group.start_soon(self.work, job, f"w{number}")
            if len(self.ends) == before:
                return
        raise AssertionError("the job never ends")


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    for name in ("state", "one", "two"):
        (directory / name).mkdir()
    one, two = directory / "one", directory / "two"
    configured = {1: SiteConfig(root=str(one)), 2: SiteConfig(root=str(two))}
    async with bench(directory / "state") as queueing, Sites(configured, Limits()) as sites:
        yield Scene(queueing, sites, one, two)


async def test_a_copy_of_a_hundred_files_is_done_when_the_last_is_and_not_before(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        for number in range(100 - len(ODD)):
            (it.one / f"f {number}").write_bytes(os.urandom(number))
        for name in ODD:
            Path(os.fsdecode(os.fsencode(it.one) + b"/" + name)).write_bytes(name)
        job = await it.ask("COPY", "/", "/copy")
        assert await it.status(job) == JobStatus.NEW
        await it.crowd(job, 3)
        assert content(it.two / "copy") == content(it.one)
        assert len(it.ends) == 101
        assert it.seen[-1] == JobStatus.DONE
        done = it.seen.index(JobStatus.DONE)
        assert JobStatus.FAILED not in it.seen
        # Three workers may look at the job after its end, each once.
        assert len(it.seen) - done <= 3


async def test_no_directory_is_tried_before_what_is_in_it_is_gone(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        for number in range(12):
            below = it.one / "t" / f"d{number % 4}" / f"e{number % 3}" / "f"
            below.mkdir(parents=True, exist_ok=True)
            (below / f"g{number}").touch()
        job = await it.ask("REMOVE", "/t")
        await it.crowd(job, 4)
        assert [end.outcome for _, end in it.ends] == ["ok"] * len(it.ends)
        assert await it.status(job) == JobStatus.DONE
        assert list(it.one.iterdir()) == []


async def test_a_job_without_anything_to_do_is_done(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        (it.one / "empty").mkdir()
        job = await it.ask("COPY", "/empty", "/d")
        await it.work(job)
        assert await it.status(job) == JobStatus.DONE


@pytest.mark.parametrize("kind", ["COPY", "REMOVE", "RENAME"])
async def test_what_a_worker_did_before_it_crashed_is_found_by_the_next(tmp_path: Path, kind: Kind) -> None:
    async with scene(tmp_path) as it:
        (it.one / "d").mkdir()
        (it.one / "d" / "f").write_text("content")
        job = await it.ask(kind, "/d", None if kind == "REMOVE" else "/e", retry_delay=10.0)
        while True:
            claim = await it.claim()
            if claim is None:
                if await it.status(job) in {JobStatus.DONE, JobStatus.FAILED}:
                    break
                await it.bench.look(3600.0)
                continue
            end = await it.make(claim)
            assert end.outcome == "ok", end
            # Every first attempt does its work, and its worker is gone before it can tell.
            if claim.n > 1:
                assert await it.queue.finish(claim.lease, end)
        assert await it.status(job) == JobStatus.DONE
        left = {"COPY": {b"d/f": b"content"}, "REMOVE": {}, "RENAME": {b"e/f": b"content"}}[kind]
        assert content(it.one) == left
        assert content(it.two) == ({b"e/f": b"content"} if kind == "COPY" else {})


async def test_a_file_that_cannot_be_removed_keeps_its_directory_and_a_retry_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        (it.one / "d" / "sub").mkdir(parents=True)
        (it.one / "d" / "sub" / "f").touch()
        job = await it.ask("REMOVE", "/d", tries=1)
        listed = await it.claim()
        assert listed is not None
        assert await it.queue.finish(listed.lease, await it.make(listed))
        # What was a file is a directory with something in it when its turn comes.
        (it.one / "d" / "sub" / "f").unlink()
        (it.one / "d" / "sub" / "f" / "g").mkdir(parents=True)
        await it.work(job)
        assert await it.status(job) == JobStatus.FAILED
        steps = await it.queue.steps(job.id, None, 100)
        assert [step.state for step in steps] == ["ok", "failed", "skipped", "skipped"]
        view = await it.queue.detail(job.id)
        assert view is not None
        assert view.last_error is not None
        assert view.last_error["message"] == "/d/sub/f: Directory not empty"
        assert (it.one / "d" / "sub" / "f" / "g").is_dir()


async def test_a_failure_waits_for_its_retry_and_is_not_told_as_one(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        (it.one / "f").write_text("content")
        (it.two / "f").mkdir()
        job = await it.ask("COPY", "/f", "/f", retry_delay=10.0)
        await it.work(job)
        assert it.ends[-1][1].outcome == "fail"
        assert await it.status(job) == JobStatus.SUBMITTED
        (it.two / "f").rmdir()
        await it.bench.look(11.0)
        await it.work(job)
        assert await it.status(job) == JobStatus.DONE
        assert content(it.two) == {b"f": b"content"}
