from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from sysadmd.executor import process
from sysadmd.jobs.tasks.leftovers import Leftovers, Note


def start() -> tuple[subprocess.Popen[bytes], tuple[int, int]]:
    tick = process.ticks()
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return child, (child.pid, process.start_of_child(child.pid, tick))


async def test_what_an_earlier_pool_left_is_ended(tmp_path: Path) -> None:
    child, noted = start()
    Leftovers(tmp_path / "w.json").note([noted])
    assert await Leftovers(tmp_path / "w.json").end() == 1
    assert child.wait(10) == -9


@pytest.mark.skipif(not process.LINUX, reason="looks into /proc")
@pytest.mark.parametrize("marked", [True, False])
async def test_what_outlives_its_leader_is_ended_if_it_has_our_mark(tmp_path: Path, marked: bool) -> None:
    leftovers = Leftovers(tmp_path / "w.json")
    shell = ["sh", "-c", "sleep 1000 > /dev/null & echo $!"]
    environment = {**os.environ, **(leftovers.mark if marked else {})}
    leader = subprocess.Popen(shell, start_new_session=True, env=environment, stdout=subprocess.PIPE)
    pid = int(leader.communicate()[0])
    leftovers.note([(leader.pid, 1)])
    assert await Leftovers(tmp_path / "w.json").end() == int(marked)
    fields = process.stat_fields(pid)
    lives = fields is not None and fields[0] != b"Z"
    assert lives is not marked
    if lives:
        os.kill(pid, signal.SIGKILL)


async def test_a_process_with_another_start_is_left_alone(tmp_path: Path) -> None:
    child, (pid, began) = start()
    Leftovers(tmp_path / "w.json").note([(pid, began - 1000)])
    assert await Leftovers(tmp_path / "w.json").end() == 0
    assert child.poll() is None
    child.kill()
    child.wait()


async def test_a_note_of_another_boot_is_void(tmp_path: Path) -> None:
    child, noted = start()
    (tmp_path / "w.json").write_bytes(msgspec.json.encode(Note("another", (noted,))))
    assert await Leftovers(tmp_path / "w.json").end() == 0
    child.kill()
    child.wait()


@pytest.mark.parametrize("content", [b"", b"{", b'{"boot": 1}', b"[]"])
async def test_a_note_that_cannot_be_read_is_void(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.json").write_bytes(content)
    assert await Leftovers(tmp_path / "w.json").end() == 0


async def test_the_first_pool_finds_nothing_and_makes_the_directory(tmp_path: Path) -> None:
    assert await Leftovers(tmp_path / "new" / "w.json").end() == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    Leftovers(tmp_path / "gone" / "w.json").note([])
