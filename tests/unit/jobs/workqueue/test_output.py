"""What an attempt wrote, as much of it as an answer takes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sysadmd.jobs.views import AttemptView
from sysadmd.jobs.workqueue.output import Logs, MissingOutput, read_log
from sysadmd.limits import Limits


def attempt(path: str | None, **changes: Any) -> AttemptView:
    values: dict[str, Any] = {"job_id": "j", "idx": 0, "n": 1, "worker": "w", "host": "h", "created_at": 0.0}
    return AttemptView(**{**values, "started_at": 1.0, "outcome": "ok", "output_path": path, **changes})


def test_a_short_output_is_whole(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntwo\xff")
    assert read_log(tmp_path, "log", 8) == "one\ntwo\ufffd"


def test_the_middle_of_a_long_one_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"head" + b"x" * 92 + b"tail")
    assert read_log(tmp_path, "log", 8) == "head\n[sysadmd: 92 bytes are left out here]\ntail"


@pytest.mark.parametrize("budget", range(8, 20))
def test_no_character_is_cut_in_two(tmp_path: Path, budget: int) -> None:
    text = "aä€😀" * 20
    (tmp_path / "log").write_text(text)
    head, _, tail = read_log(tmp_path, "log", budget).partition("\n[")
    assert text.startswith(head)
    assert text.endswith(tail.partition("]\n")[2])


def test_what_is_missing_or_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("secret")
    (tmp_path / "link").symlink_to("file")
    for name in ("nothing", "pipe", "link", "."):
        with pytest.raises(MissingOutput):
            read_log(tmp_path, name, 100)


def test_an_attempt_that_never_began_has_its_reason(tmp_path: Path) -> None:
    lost = attempt("gone", started_at=None, outcome="lost", error={"message": "its worker vanished"})
    logs = Logs(tmp_path, Limits())
    assert logs.read([lost, attempt("gone"), attempt(None)]) == ["[sysadmd: lost: its worker vanished]\n", None, None]


def test_one_beyond_the_output_of_one_attempt(tmp_path: Path) -> None:
    limits = replace(Limits(), transfer_log=2048)
    (tmp_path / "a").write_bytes(b"x" * 2048)
    (tmp_path / "b").write_bytes(b"x" * 2049)
    whole, cut = Logs(tmp_path, limits).read([attempt("a"), attempt("b")])
    assert whole == "x" * 2048
    assert cut is not None
    assert "1 bytes are left out" in cut


def test_one_beyond_the_output_of_an_answer(tmp_path: Path) -> None:
    limits = replace(Limits(), transfer_logs=2048)
    (tmp_path / "a").write_bytes(b"x" * 2048)
    (tmp_path / "b").write_bytes(b"x")
    whole, cut = Logs(tmp_path, limits).read([attempt("a"), attempt("b")])
    assert (whole, cut) == ("x" * 2048, "\n[sysadmd: 1 bytes are left out here]\n")
