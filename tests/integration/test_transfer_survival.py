"""File jobs of a server that is killed while it works on them: their status is never final too early, and directories
wait for what is in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.servers import RunningServer, running_server

API = "/workqueue/api/v1.0"
CONFIG = """[jobs]
lease = 3
transfer_slots = 4
[sites.1]
root = "{one}"
[sites.2]
root = "{two}"
"""
FILES, SIZE = 100, 200_000
BODY = {"max_tries": 20, "src_siteid": 1, "src_filepath": "tree"}


async def token(server: RunningServer) -> dict[str, str]:
    async with server.connect() as peer:
        return {"X-Token": await peer.login()}


async def ask(server: RunningServer, verb: str, path: str, headers: dict[str, str], **options: Any) -> Any:
    """The JSON of an answer, from whichever server is there."""
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, KeyError):
                async with (
                    aiohttp.ClientSession(server.rest_url, headers=headers) as http,
                    http.request(verb, API + path, **options) as answer,
                ):
                    if answer.status != 503:
                        assert answer.status == 200, await answer.text()
                        return await answer.json()
            await asyncio.sleep(0.05)


async def watched(server: RunningServer, job: int, headers: dict[str, str], kills: int) -> list[str]:
    """Every status of a job until it is final, while the server is killed so many times."""
    chance = random.Random(job)

    async def kill() -> None:
        for _ in range(kills):
            await asyncio.sleep(0.1 + chance.random() * 0.4)
            await server.end(signal.SIGKILL)
            await server.restart()

    seen: list[str] = []
    killing = asyncio.create_task(kill())
    try:
        async with asyncio.timeout(60):
            while not seen or seen[-1] not in {"DONE", "FAILED"} or not killing.done():
                seen.append((await ask(server, "GET", f"/jobs/{job}/status", headers))["status"])
                await asyncio.sleep(0.02)
    finally:
        await killing
    return seen


def out_of_order(state_dir: Path) -> list[tuple[Any, ...]]:
    """Attempts that began before a step of an earlier stage was over."""
    with contextlib.closing(sqlite3.connect(f"file:{state_dir / 'sysadmd.db'}?mode=ro", uri=True)) as connection:
        return connection.execute(
            "select later.type, attempt.created_at, earlier.type, ok.finished_at from step as later "
            "join attempt on attempt.job_id = later.job_id and attempt.idx = later.idx "
            "join step as earlier on earlier.job_id = later.job_id and earlier.stage < later.stage "
            "left join attempt as ok on ok.job_id = earlier.job_id and ok.idx = earlier.idx and ok.outcome = 'ok' "
            "where ok.finished_at is null or ok.finished_at > attempt.created_at"
        ).fetchall()


@pytest.mark.timeout(180)
async def test_a_copy_and_a_removal_survive_kills_of_their_server(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for number in range(FILES):
        below = one / "tree" / f"a {number % 3}" / f"b{number % 2}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"file {number}").write_bytes(bytes([number]) * SIZE)
    two.mkdir()
    async with running_server(tmp_path, config=CONFIG.format(one=one, two=two)) as server:
        headers = await token(server)
        body = {**BODY, "dst_siteid": 2, "dst_filepath": "~/copy"}
        job = (await ask(server, "POST", "/copy", headers, json=body))["id"]
        seen = await watched(server, job, headers, 3)
        first = next(place for place, status in enumerate(seen) if status in {"DONE", "FAILED"})
        assert set(seen[first:]) == {"DONE"}
        for path in (one / "tree").rglob("file *"):
            assert (two / "copy" / path.relative_to(one / "tree")).read_bytes() == path.read_bytes()
        job = (await ask(server, "POST", "/remove", headers, json=BODY))["id"]
        seen = await watched(server, job, headers, 2)
        first = next(place for place, status in enumerate(seen) if status in {"DONE", "FAILED"})
        assert set(seen[first:]) == {"DONE"}
        assert list(one.iterdir()) == []
        assert await server.end() == 0
        assert out_of_order(server.state_dir) == []
