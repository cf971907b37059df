from __future__ import annotations

from pathlib import Path

import pytest

from sysadmd.jobs.gate import free_memory, gate, load_per_cpu


@pytest.mark.parametrize("load,opened", [(0.5, True), (2.0, True), (2.1, False)])
def test_a_busy_machine_takes_nothing_new(load: float, opened: bool) -> None:
    assert gate(2.0, None, load=lambda: load)() is opened


@pytest.mark.parametrize("free,opened", [(101, True), (100, True), (99, False), (None, True)])
def test_a_full_machine_takes_nothing_new(free: int | None, opened: bool) -> None:
    assert gate(None, 100, memory=lambda: free)() is opened


def test_without_bounds_the_machine_is_not_looked_at() -> None:
    def never() -> float:
        raise AssertionError

    assert gate(None, None, load=never)()


def test_this_machine_can_be_looked_at() -> None:
    assert load_per_cpu() >= 0
    assert free_memory() is None or (free_memory() or 0) > 0


@pytest.mark.parametrize("text", ["", "MemTotal: 1 kB\n", "MemAvailable: much\n"])
def test_a_system_that_does_not_say_has_no_bound(tmp_path: Path, text: str) -> None:
    (tmp_path / "meminfo").write_text(text)
    assert free_memory(tmp_path / "meminfo") is None


def test_available_memory_is_counted_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:    4 kB\n")
    assert free_memory(tmp_path / "meminfo") == 4096
