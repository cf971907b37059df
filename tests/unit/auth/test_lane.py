"""The lane of costly proofs: one at a time, a bounded queue, and nobody stays counted who left."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

import pytest

from sysadmd.auth.lane import Lane
from sysadmd.errors import TooManyRequests

WORK = 0.05
"""Seconds."""


class Work:
    """Runs in the lane's thread until it is let go; counts how many run at once."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.inside = self.most = 0

    def __call__(self) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.begun.set()
        assert self.go.wait(10)
        self.inside -= 1
        return "done"


async def started(work: Work) -> None:
    assert await asyncio.to_thread(work.begun.wait, 10)


async def test_one_works_at_a_time_and_the_others_wait_their_turn() -> None:
    lane, work = Lane(4, "checks"), Work()
    tasks = [asyncio.create_task(lane.run(work)) for _ in range(5)]
    await started(work)
    work.go.set()
    assert await asyncio.gather(*tasks) == ["done"] * 5
    assert work.most == 1


async def test_who_comes_when_the_queue_is_full_is_told() -> None:
    lane, work = Lane(2, "log-ins by key"), Work()
    tasks = [asyncio.create_task(lane.run(work)) for _ in range(3)]
    await started(work)
    with pytest.raises(TooManyRequests, match="2 log-ins by key wait already"):
        await lane.run(work)
    work.go.set()
    await asyncio.gather(*tasks)
    assert await lane.run(work) == "done"


async def test_work_that_fails_and_a_caller_that_leaves_give_their_place_back() -> None:
    lane, work = Lane(1, "checks"), Work()

    def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await lane.run(fail)
    first = asyncio.create_task(lane.run(work))
    await started(work)
    waiting = asyncio.create_task(lane.run(work))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    second = asyncio.create_task(lane.run(work))
    work.go.set()
    assert set(await asyncio.gather(first, second)) == {"done"}


async def test_between_two_works_the_lane_rests_for_as_long_as_the_first_one_took() -> None:
    lane, times = Lane(10, "checks"), list[tuple[float, float]]()

    def work() -> None:
        began = time.monotonic()
        time.sleep(WORK)
        times.append((began, time.monotonic()))

    await asyncio.gather(*(lane.run(work) for _ in range(4)))
    rests = [after[0] - before[1] for before, after in itertools.pairwise(times)]
    assert len(rests) == 3
    assert min(rests) >= WORK * 0.9


async def test_nobody_waits_for_the_rest_after_their_own_work() -> None:
    lane = Lane(10, "checks")
    began = time.monotonic()
    await lane.run(lambda: time.sleep(0.5))
    assert time.monotonic() - began < 0.95


async def test_work_is_off_the_loop() -> None:
    assert await Lane(0, "checks").run(threading.get_ident) != threading.get_ident()
