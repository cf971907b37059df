"""A disk that is full, really: a tmpfs of two MiB."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysadmd.errors import Unavailable
from sysadmd.events import Draft
from tests.unit.events.following import TestSink, durable, running_log, settle, spec, volatile


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small tmpfs needs root")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_refuses_changes_clearly_and_the_log_goes_on(small_disk: Path) -> None:
    async with running_log(small_disk / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        ballast = small_disk / "ballast"
        log.publish(durable(1))
        await settle(log)
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(b"x" * (4 << 20))

        big = Draft("dispatcher", {"n": 2, "text": "x" * 100_000}, durable=True)
        changes = [log.submit(lambda _: (None, [big])) for _ in range(5)]
        log.publish(volatile(3))
        results = await asyncio.gather(*changes, return_exceptions=True)
        assert {type(result) for result in results} == {Unavailable}
        assert "disk is full" in str(results[0])
        assert 3 in sink.numbers

        ballast.unlink()
        await log.submit(lambda _: (None, [big]))
        log.publish(volatile(4))
        await settle(log)
        assert sink.numbers == [1, 3, 2, 4]
