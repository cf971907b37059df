"""Who a process is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sysadmd.executor import process
from sysadmd.executor.frames import Started
from sysadmd.executor.orphans import end_orphans
from sysadmd.executor.records import Live

linux = pytest.mark.skipif(not process.LINUX, reason="reads /proc, which is Linux's")


def sleeper(output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A process with a session of its own."""
    return subprocess.Popen(["sleep", "60"], stdout=output, start_new_session=True)


def test_the_boot_id_is_stable_and_known() -> None:
    assert process.boot_id() == process.boot_id() != "unknown"


def test_a_childs_start_time_is_the_one_the_system_has() -> None:
    for delay in (0.0, 0.05):  # within the tick, and later, when it has to be looked up
        before = process.ticks()
        child = sleeper()
        time.sleep(delay)
        start = process.start_of_child(child.pid, before)
        assert process.is_same(child.pid, start)
        child.kill()
        child.wait()
        assert not process.is_same(child.pid, start)


def test_another_start_time_is_another_process() -> None:
    assert not process.is_same(os.getpid(), process.ticks() + 100)
    assert not process.is_same(os.getpid(), 0)


def test_ps_knows_the_start_to_a_second() -> None:
    now = time.time()
    child = sleeper()
    try:
        started = process.start_by_ps(child.pid)
        assert started is not None
        assert abs(started - now) <= process.PS_TOLERANCE
    finally:
        child.kill()
        child.wait()
    assert process.start_by_ps(child.pid) is None


def test_where_there_is_no_proc_ps_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LINUX", False)
    before = process.ticks()
    child = sleeper()
    try:
        start = process.start_of_child(child.pid, before)
        assert process.is_same(child.pid, start)
        assert not process.is_same(child.pid, start - 60)
        assert process.session_members(child.pid) == []
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    "answers, expected",
    [
        ({"kern.boot_id": bytes(range(16))}, bytes(range(16)).hex()),
        ({"kern.boottime": b"{ sec = 1700000000, usec = 5 } Tue Nov 14"}, "boottime-1700000000"),
        ({}, "unknown"),
    ],
)
def test_the_boot_id_of_freebsd(monkeypatch: pytest.MonkeyPatch, answers: dict[str, bytes], expected: str) -> None:
    monkeypatch.setattr(process, "LINUX", False)
    monkeypatch.setattr(process, "_query", lambda *argv: answers.get(argv[-1], b""))
    assert process.boot_id() == expected


@linux
def test_a_name_with_brackets_and_blanks_does_not_shift_the_fields(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to(sys.executable)
    child = subprocess.Popen([program, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    fields = process.stat_fields(child.pid)
    child.kill()
    child.wait()
    child.stdout.close()
    assert fields is not None
    assert int(fields[1]) == os.getpid()


@linux
def test_a_session_has_its_members() -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    assert len(process.session_members(child.pid)) == 2
    os.killpg(child.pid, 9)
    child.wait()
    child.stdout.close()


@linux
def test_a_process_is_known_by_the_file_it_writes_to(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        child = sleeper(output.fileno())
        file = os.fstat(output.fileno())
    try:
        assert process.writes_to(child.pid, file.st_dev, file.st_ino)
        assert not process.writes_to(child.pid, file.st_dev, file.st_ino + 1)
    finally:
        child.kill()
        child.wait()


def orphan(child: subprocess.Popen[bytes], start: int) -> Live:
    return Live(Started("a", "lease", child.pid, start, 5.0), 0, 0)


@pytest.mark.parametrize(
    "same_boot, right_start, dies", [(True, True, True), (True, False, False), (False, True, False)]
)
def test_only_a_proven_orphan_is_killed_and_all_are_lost(same_boot: bool, right_start: bool, dies: bool) -> None:
    before = process.ticks()
    child = sleeper()
    lines: list[str] = []
    start = process.start_of_child(child.pid, before) + (0 if right_start else 1000)
    try:
        (ended,) = end_orphans([orphan(child, start)], same_boot=same_boot, now=9.0, log=lines.append)
        assert (ended.outcome, ended.lease, ended.time_started, ended.time_finished) == ("lost", "lease", 5.0, 9.0)
        assert lines[0].startswith(f"lost attempt=a pid={child.pid}: ")
        if dies:
            assert child.wait(10) == -9
        else:
            time.sleep(0.1)
            assert child.poll() is None
    finally:
        child.kill()
        child.wait()


@linux
def test_an_orphan_whose_executor_could_not_note_its_pid_is_found_by_the_file_it_writes_to(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        child = subprocess.Popen(["sleep", "60"], stdout=output, start_new_session=True)
        stranger = subprocess.Popen(["sleep", "60"], stdout=output)  # in our group, so not the attempt's
        file = os.fstat(output.fileno())
    try:
        live = Live(Started("a", "lease", 0, 0, 5.0), file.st_dev, file.st_ino)
        end_orphans([live], same_boot=True, now=9.0, log=lambda _: None)
        assert child.wait(10) == -9
        assert stranger.poll() is None
    finally:
        for process_ in (child, stranger):
            process_.kill()
            process_.wait()
