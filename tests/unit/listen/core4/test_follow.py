"""The output of a job as a page of lines: of much, the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysadmd.listen.core4 import follow


def test_of_a_long_output_the_end_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LOG_MAX", 4)
    (tmp_path / "a").write_bytes(b"0123456789")
    assert follow._end_of(tmp_path, ["a"]) == b"6789"


def test_the_latest_attempts_come_first_when_not_all_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LOG_MAX", 5)
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 3)
    assert follow._end_of(tmp_path, ["a", "b", None, "gone", "c"]) == b"bbccc"
