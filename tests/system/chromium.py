"""A real browser without a window, and a page that reports what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here (Debian: chromium); `tests/packages.sh system` installs it"
)
FLAGS = (
    "--headless",
    "--no-sandbox",  # as root it has none
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-proxy-server",
)
PATIENCE = 60.0
"""Seconds for a browser to start and a page to report: the machine may be busy."""


@dataclass
class Site:
    """A web site of its own origin: one page, and where the page posts its report."""

    page: str = ""
    origin: str = ""
    report: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def serve(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/report":
            self.report.set_result(json.loads(await request.text()))
            return web.Response()
        found = self.page if request.path == "/" else ""
        return web.Response(text=found, content_type="text/html", status=200 if found else 404)


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """The site on a free port; its name is another one than that of the server under test, which is an address."""
    served = Site()
    runner = web.ServerRunner(web.Server(served.serve))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        served.origin = f"http://localhost:{runner.addresses[0][1]}"
        yield served
    finally:
        await runner.cleanup()


async def visit(served: Site, profile: Path) -> Any:
    """What the page reports, opened in a new browser with an empty profile."""
    async with browser(profile, served.origin + "/"), asyncio.timeout(PATIENCE):
        return await served.report


async def shown(url: str, profile: Path) -> str:
    """The document that a new browser shows for an address, once it has loaded all of it."""
    async with browser(profile, "--dump-dom", url) as process, asyncio.timeout(PATIENCE):
        return (await process.communicate())[0].decode()


@contextlib.asynccontextmanager
async def browser(profile: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    assert PROGRAM is not None
    with (profile.parent / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, *FLAGS, f"--user-data-dir={profile}", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, "HOME": str(profile.parent)},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the group that was begun above: the browser and its children
        await process.wait()
