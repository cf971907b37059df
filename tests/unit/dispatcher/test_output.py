from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysadmd.dispatcher.output import OutputFiles, close_all, disk_use
from sysadmd.dispatcher.text import INCREMENT
from sysadmd.dispatcher.watch import OutputWatch
from sysadmd.jobs.model import Attempt
from sysadmd.limits import Limits

JOB = "0123456789abcdef01234567"


@pytest.fixture
def files(tmp_path: Path) -> OutputFiles:
    return OutputFiles(tmp_path / "output", lambda _: 0.5)


def attempt(idx: int = 0) -> Attempt:
    path = OutputFiles.path_of(JOB, idx, 1)
    return Attempt(job_id=JOB, idx=idx, n=1, lease="L", instance="i", created_at=1.0, output_path=path)


def write(files: OutputFiles, one: Attempt, data: bytes) -> None:
    descriptor = files.open(one)
    os.write(descriptor, data)
    os.close(descriptor)


def test_a_file_lies_in_the_directory_of_its_hour(files: OutputFiles) -> None:
    write(files, attempt(), b"x")
    assert (files.root / "01234" / f"{JOB}.0.1.log").read_bytes() == b"x"


def test_a_file_that_an_earlier_try_made_is_appended_to(files: OutputFiles) -> None:
    write(files, attempt(), b"one ")
    write(files, attempt(), b"two")
    assert files.read(attempt().output_path, 0, 100) == b"one two"


def test_a_link_in_the_place_of_a_file_is_refused(files: OutputFiles, tmp_path: Path) -> None:
    write(files, attempt(1), b"")
    (tmp_path / "victim").write_text("kept")
    (files.root / attempt().output_path).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        files.open(attempt())
    assert files.read(attempt().output_path, 0, 10) == b""


def test_a_fifo_in_the_place_of_a_file_is_refused(files: OutputFiles) -> None:
    write(files, attempt(1), b"")
    os.mkfifo(files.root / attempt().output_path)
    reader = os.open(files.root / attempt().output_path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="not an output file"):
        files.open(attempt())
    os.close(reader)


def test_a_line_of_ours_begins_a_line(files: OutputFiles) -> None:
    write(files, attempt(), b"half")
    files.append(attempt(), "lost")
    files.append(attempt(), "again")
    assert files.read(attempt().output_path, 0, 100) == b"half\nsysadmd: lost\nsysadmd: again\n"


def test_a_file_that_is_not_there_is_empty(files: OutputFiles) -> None:
    assert files.size("nowhere/x.log") == 0
    assert files.read("nowhere/x.log", 0, 10) == b""


def test_what_cannot_be_opened_is_given_as_its_error(files: OutputFiles) -> None:
    files.root.rmdir()
    files.root.write_text("in the way")
    opened = files.open_all([attempt()])
    assert isinstance(opened[0], OSError)
    close_all(opened)


def test_the_use_of_a_disk_is_a_part_of_it(tmp_path: Path) -> None:
    assert 0.0 < disk_use(tmp_path) < 1.0


async def test_a_look_finds_what_has_grown_and_only_that(files: OutputFiles) -> None:
    watch = OutputWatch(files, Limits())
    for idx in range(2):
        write(files, attempt(idx), b"")
        watch.add(attempt(idx))
    write(files, attempt(1), b"new")
    assert [(growth.watched.attempt.idx, growth.text) for growth in await watch.look()] == [(1, "new")]
    assert await watch.look() == []


async def test_a_look_goes_on_from_what_an_earlier_server_told(files: OutputFiles) -> None:
    write(files, attempt(), b"told new")
    watch = OutputWatch(files, Limits())
    watch.add(attempt(), 5)
    (growth,) = await watch.look()
    assert growth.text == "new"


async def test_a_look_reads_no_more_than_an_increment(files: OutputFiles) -> None:
    write(files, attempt(), b"")
    os.truncate(files.root / attempt().output_path, 10**12)
    watch = OutputWatch(files, Limits())
    watch.add(attempt())
    (growth,) = await watch.look()
    assert len(growth.text) < INCREMENT + 100
    assert (growth.end, growth.over) == (10**12, True)


async def test_what_was_popped_during_a_look_is_left_out(files: OutputFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    write(files, attempt(), b"x")
    watch = OutputWatch(files, Limits())
    watch.add(attempt())
    scan = watch._scan

    def popping(watched: object) -> object:
        watch.pop(attempt().id)
        return scan(watched)  # type: ignore[arg-type]

    monkeypatch.setattr(watch, "_scan", popping)
    assert await watch.look() == []
    assert watch.all() == ()
