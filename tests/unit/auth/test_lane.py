"""The lane of costly proofs."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

import pytest

from sysadmd.auth.lane import Lane

WORK = 0.05


async def test_between_two_works_the_lane_rests_for_as_long_as_the_first_one_took() -> None:
    lane, times = Lane(10, "works"), list[tuple[float, float]]()

    def work() -> None:
        began = time.monotonic()
        time.sleep(WORK)
        times.append((began, time.monotonic()))

    await asyncio.gather(*(lane.run(work) for _ in range(4)))
    rests = [after[0] - before[1] for before, after in itertools.pairwise(times)]
    assert len(rests) == 3
    assert min(rests) >= WORK * 0.9


async def test_nobody_waits_for_the_rest_after_their_own_work() -> None:
    lane = Lane(10, "works")
    began = time.monotonic()
    await lane.run(lambda: time.sleep(0.5))
    assert time.monotonic() - began < 0.95


async def test_work_that_fails_frees_the_lane_and_is_off_the_loop() -> None:
    lane = Lane(0, "works")
    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda: 1 // 0)
    assert await lane.run(threading.get_ident) != threading.get_ident()
