"""Servers, workers and the processes of tasks are killed at random moments under load.

No job that was accepted is lost, none is completed twice, no two executions of one overlap, every attempt has an end,
the counters are right, and who follows the events hears each of them once. SYSADMD_JOB_KILLS asks for more kills.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from sysadmd.executor import process
from tests.integration.job_chaos import (
    Books,
    Follower,
    Load,
    WorkerKeeper,
    has_workers,
    processes_of,
    settings,
    settled,
    signal_one,
)
from tests.integration.servers import RunningServer, running_server
from tests.integration.task_packages import task_environment
from tests.small_disks import mounted

log = logging.getLogger(__name__)

SEED = 20_261_125
KILLS = 40
MANY_KILLS = int(os.environ.get("SYSADMD_JOB_KILLS", "0"))
VICTIMS = ("child",) * 10 + ("server",) * 4 + ("worker",) * 3 + ("stop",) * 3

pytestmark = pytest.mark.skipif(not process.LINUX, reason="finds processes by their environment in /proc")


async def wreak(server: RunningServer, keeper: WorkerKeeper, place: Path, chance: random.Random) -> str:
    """Kill one of them, and start the server again if it was that."""
    victim = chance.choice(VICTIMS)
    if victim == "server":
        await server.end(signal.SIGKILL)
        await asyncio.sleep(chance.random() * 0.3)
        await server.restart()
    elif victim == "worker":
        keeper.kill()
    else:
        signal_one(place, chance, signal.SIGSTOP if victim == "stop" else signal.SIGKILL)
    return victim


async def survive(tmp_path: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    place = tmp_path / "place"
    place.mkdir()
    packages = task_environment(tmp_path)
    load, follower = Load(place, chance), Follower()
    config = settings(place, packages["PYTHONPATH"], slots=2)
    victims: Counter[str] = Counter()
    async with running_server(tmp_path, config=config, environ=packages) as server:
        keeper = WorkerKeeper(server, "night")
        beside = [asyncio.create_task(follower.follow(server))]
        if has_workers():
            beside.append(asyncio.create_task(keeper.keep()))
        while follower.since is None:
            await asyncio.sleep(0.02)
        feeders = [asyncio.create_task(load.feed(server, f"feeder{one}", 0.05)) for one in range(2)]
        try:
            for _ in range(kills):
                await asyncio.sleep(chance.random() * 1.2)
                victims[await wreak(server, keeper, place, chance)] += 1
            load.enough = True
            async with asyncio.timeout(30):
                await asyncio.gather(*feeders)
            await settled(server, 120)
            await asyncio.sleep(1)
        finally:
            for task in (*beside, *feeders):
                task.cancel()
            for task in (*beside, *feeders):
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        assert await server.end() == 0
        with contextlib.closing(Books(server.state_dir, place)) as books:
            books.check(load)
            books.check_events(follower)
        assert list(processes_of(place)) == []
        found = (len(load.jobs), load.refused, dict(books.outcomes()), dict(victims), follower.breaks)
        log.info("%d jobs, %d refusals, attempts %s, victims %s, %d breaks of the follower", *found)


@pytest.mark.timeout(60 + 4 * KILLS)
async def test_random_kills_lose_no_job_and_complete_none_twice(tmp_path: Path) -> None:
    await survive(tmp_path, KILLS, SEED)


@pytest.mark.fuzz
@pytest.mark.skipif(
    not MANY_KILLS, reason="SYSADMD_JOB_KILLS=500 makes it last some ten minutes, with a load that differs"
)
@pytest.mark.timeout(120 + 4 * MANY_KILLS)
async def test_many_kills_lose_no_job_and_complete_none_twice(tmp_path: Path) -> None:
    await survive(tmp_path, MANY_KILLS, random.randrange(2**32))


@pytest.mark.timeout(200)
async def test_a_full_disk_refuses_jobs_and_loses_none(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    packages = task_environment(tmp_path)
    config = settings(place, packages["PYTHONPATH"], slots=2)
    load = Load(place, random.Random(SEED))
    with mounted(tmp_path / "state", "32m") as state:
        state.chmod(0o700)
        async with running_server(tmp_path, config=config, environ=packages) as server:
            ballast = state / "ballast"
            room = os.statvfs(state)
            ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - 3 * 1024 * 1024))
            async with asyncio.timeout(100), server.connect() as peer:
                while load.refused < 10:
                    await load.ask(peer, f"key-{len(load.asked)}", ballast=100_000)
                assert load.jobs
                ballast.unlink()
                while not await load.ask(peer, "afterwards"):
                    await asyncio.sleep(0.2)
            await settled(server, 60)
            assert await server.end() == 0
            with contextlib.closing(Books(state, place)) as books:
                books.check(load)
