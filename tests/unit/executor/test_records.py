"""The journal, against a model, with crashes and a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.executor.frames import Exit, Started
from sysadmd.executor.records import REWRITE_BYTES, Live, Records


class Rig:
    """Records over one journal, with a clock that the test moves and a log that it reads."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "journal"
        self.lines: list[str] = []
        self.now = 0.0

    def open(self, instance: str = "one") -> Records:
        """The records of a new executor."""
        records = Records(self.path, self.lines.append, lambda: self.now)
        records.load()
        records.begin(instance, "boot")
        return records

    def reread(self) -> Records:
        """What a successor would know."""
        records = Records(self.path, self.lines.append, lambda: self.now)
        records.load()
        return records


def live(attempt: str) -> Live:
    return Live(Started(attempt, "lease", 123, 456, 7.0), 1, 2)


def ended(attempt: str, message: str | None = None) -> Exit:
    return Exit(attempt=attempt, lease="lease", outcome="ok", exit_code=0, message=message)


def break_writes(monkeypatch: pytest.MonkeyPatch, *, room: int = 0) -> list[int]:
    """Let os.write find a disk with `room` bytes left, until the returned list is emptied."""
    real = os.write
    broken = [room]

    def write(file: int, data: bytes) -> int:
        if not broken:
            return real(file, data)
        if not broken[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(file, data[: broken[0]])
        broken[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    return broken


def test_there_is_nothing_to_load_the_first_time(tmp_path: Path) -> None:
    records = Records(tmp_path / "journal", print, lambda: 0.0)
    assert records.load() is None
    assert (records.live, records.exits) == ({}, {})


def test_a_successor_learns_instance_and_boot(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.open("first").close()
    epoch = Records(rig.path, print, lambda: 0.0).load()
    assert epoch is not None
    assert (epoch.instance, epoch.boot_id) == ("first", "boot")


operations = st.lists(st.tuples(st.sampled_from(["start", "end", "ack", "restart"]), st.sampled_from("abcdef")))


@given(operations)
def test_a_successor_knows_exactly_what_this_one_knows(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    rig = Rig(tmp_path_factory.mktemp("records"))
    records = rig.open()
    model_live: set[str] = set()
    model_exits: set[str] = set()
    for step, attempt in steps:
        if step == "start" and attempt not in model_live | model_exits:
            records.started(live(attempt))
            model_live.add(attempt)
        elif step == "end" and attempt in model_live:
            records.finished([ended(attempt)])
            model_live.discard(attempt)
            model_exits.add(attempt)
        elif step == "ack":
            assert records.acknowledged(attempt) == (attempt in model_exits)
            model_exits.discard(attempt)
        elif step == "restart":
            records.close()
            records = rig.open()
    successor = rig.reread()
    assert set(successor.live) == set(records.live) == model_live
    assert set(successor.exits) == set(records.exits) == model_exits
    records.close()


@given(st.integers(1, 400))
def test_a_journal_cut_anywhere_is_read_up_to_there(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    rig = Rig(tmp_path_factory.mktemp("records"))
    records = rig.open()
    for attempt in "abc":
        records.started(live(attempt))
    records.close()
    whole = rig.path.read_bytes()
    rig.path.write_bytes(whole[: max(0, len(whole) - cut)])
    assert set(rig.reread().live) in ({"a", "b", "c"}, {"a", "b"}, {"a"}, set())


def test_what_was_live_is_lost_when_the_next_begins(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    records = rig.open()
    records.started(live("a"))
    records.close()
    successor = rig.reread()
    successor.begin("two", "boot", [ended("a")])
    successor.close()
    assert (rig.reread().live, set(rig.reread().exits)) == ({}, {"a"})


def test_unreadable_lines_are_counted_and_skipped(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    records = rig.open()
    records.started(live("a"))
    records.close()
    with rig.path.open("ab") as file:
        file.write(b'{"frame":"live"}\n\xff\xff\n')
    assert set(rig.reread().live) == {"a"}
    assert rig.lines == ["the journal has 2 line(s) that cannot be read; they are ignored"]


def test_the_journal_is_rewritten_when_it_has_grown(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    records = rig.open()
    records.started(live("stays"))
    for number in range(400):
        records.started(live(str(number)))
        records.finished([ended(str(number), "x" * 4000)])
        records.acknowledged(str(number))
    assert rig.path.stat().st_size < REWRITE_BYTES
    assert set(rig.reread().live) == {"stays"}
    assert list(tmp_path.iterdir()) == [rig.path]
    records.close()


def test_the_journal_of_an_idle_executor_is_emptied_early(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    records = rig.open()
    records.started(live("a"))
    records.finished([ended("a", "x" * (REWRITE_BYTES // 10))])
    records.acknowledged("a")
    assert rig.path.stat().st_size < 1000
    records.close()


def test_a_full_disk_keeps_all_in_memory_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    records = rig.open()
    break_writes(monkeypatch)
    for attempt in "abc":
        records.started(live(attempt))
        records.finished([ended(attempt)])
        rig.now += 10
    assert records.behind
    assert set(records.exits) == {"a", "b", "c"}
    assert rig.lines == ["cannot write the journal (No space left on device); 0 exit(s) are kept in memory only"]
    records.close()


def test_when_there_is_room_again_nothing_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    records = rig.open()
    records.started(live("before"))
    broken = break_writes(monkeypatch)
    records.finished([ended("before")])
    records.started(live("during"))
    broken.clear()
    records.retry()
    assert rig.reread().exits == {}  # not yet: it waits before it tries again
    rig.now += 10
    records.retry()
    assert not records.behind
    assert rig.lines[-1] == "the journal is written again"
    assert (set(rig.reread().live), set(rig.reread().exits)) == ({"during"}, {"before"})
    records.close()


def test_a_change_after_the_wait_writes_the_journal_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)
    records = rig.open()
    broken = break_writes(monkeypatch)
    records.started(live("a"))
    broken.clear()
    rig.now += 10
    records.started(live("b"))
    assert set(rig.reread().live) == {"a", "b"}
    records.close()


def test_half_a_line_on_a_full_disk_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    records = rig.open()
    before = rig.path.read_bytes()
    break_writes(monkeypatch, room=30)
    records.started(live("a"))
    assert rig.path.read_bytes() == before
    records.close()


def test_a_journal_that_cannot_be_made_at_the_start_is_an_error(tmp_path: Path) -> None:
    records = Records(tmp_path / "missing" / "journal", print, lambda: 0.0)
    with pytest.raises(FileNotFoundError):
        records.begin("one", "boot")
