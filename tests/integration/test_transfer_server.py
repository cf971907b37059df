"""Transfers by a server's own worker: half files of killed jobs, and sites that come with a reload."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.config import SiteConfig
from sysadmd.jobs.spec import JobSpec
from sysadmd.jobs.transfers.elements import Kind, first
from sysadmd.jobs.transfers.file_site import FileTarget
from sysadmd.jobs.views import JobView
from tests.integration.task_scenes import Scene, scene


async def ask(one: Scene, kind: Kind, src: str, dst: str | None = None, site: int = 1) -> JobView:
    step = first(kind, src_site=site, src=src, dst_site=site, dst=dst)
    spec = JobSpec(kind="transfer", name=f"workqueue.{kind.lower()}", steps=(step,), tries=2, retry_delay=0.0)
    return await one.live.app.queue.enqueue(spec, owner="olga")


async def test_a_copy_that_is_killed_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "site"
    place.mkdir()
    (place / "f").write_bytes(b"x" * 3000)
    reached = asyncio.Event()

    async def stuck(self: FileTarget) -> None:
        if self.length >= 2000:
            reached.set()
            await anyio.sleep_forever()

    monkeypatch.setattr("sysadmd.jobs.transfers.copying.Copy.__init__.__kwdefaults__", {"checkpoint": 1000})
    monkeypatch.setattr(FileTarget, "sync", stuck)
    async with scene(tmp_path, monkeypatch, sites={"1": {"root": str(place)}}) as one:
        job = await ask(one, "COPY", "/f", "/g")
        with anyio.fail_after(40):
            await reached.wait()
        assert len(list(place.iterdir())) == 2
        await one.live.app.queue.kill([job.id], "olga")
        assert (await one.ended(job)).state == "killed"
        assert [path.name for path in place.iterdir()] == ["f"]


async def test_a_site_that_is_added_is_there_after_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    async with scene(tmp_path, monkeypatch) as one:
        job = await one.ended(await ask(one, "MKDIR", "/d", site=4))
        assert job.last_error is not None
        assert job.last_error["message"] == "site 4: is not in the configuration"
        app: Any = one.live.app
        monkeypatch.setattr(
            app, "_reload", lambda: replace(app.config, sites={4: SiteConfig(root=str(tmp_path / "site"))})
        )
        app.reload()
        assert (await one.ended(await ask(one, "MKDIR", "/d", site=4))).state == "complete"
    assert (tmp_path / "site" / "d").is_dir()
