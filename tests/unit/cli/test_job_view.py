from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from sysadmd.cli.job_view import age, flags, print_detail, table

ROW: dict[str, Any] = {
    "id": "6925a3c09d1f04b7e2000001", "seq": 7, "kind": "task", "name": "demo.Job", "owner": "olga", "state": "running",
    "priority": 3, "force": True, "progress": 0.5, "progress_msg": None, "tries_used": 1, "tries_max": 2,
    "created_at": 1000.0, "worker": "server@vault", "zombie": True, "wall": False, "removed": False, "killed": True,
}  # fmt: skip


def drawn(*rows: dict[str, Any]) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(table(rows, 1090.0))
    return captured.get()


def test_a_row_has_what_people_look_for() -> None:
    _, line = drawn(ROW).splitlines()
    for part in ("7", ROW["id"], "running", "Z..K", "3F", "1/2", "olga", "2m", "server@vault", "demo.Job"):
        assert part in line


def test_a_job_that_may_not_be_read_has_a_state_and_no_more() -> None:
    assert drawn({"kind": "task", "name": "UnauthorizedJob", "state": "failed"}).splitlines()[1].split() == [
        "failed",
        "UnauthorizedJob",
    ]


def test_names_do_not_reach_the_terminal_raw() -> None:
    out = drawn({**ROW, "name": "x\x1b[2J\ny", "owner": "[red]o"})
    assert "\x1b" not in out
    assert "[red]o" in out
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize("seconds,text", [(-3, "0s"), (5, "5s"), (60, "1m"), (7200, "2h"), (200_000, "2d")])
def test_ages_are_rough(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_flags_have_their_places() -> None:
    assert flags({"wall": True, "removed": True}) == ".WR."


def test_the_detail_leaves_out_what_is_not_set(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"exception": "ValueError", "message": "no\x1b", "traceback": ["line 1\n"]}
    print_detail({**ROW, "last_error": error, "child_id": None}, [{"n": 1, "outcome": "fail", "worker": "w"}])
    out = capsys.readouterr().out
    assert "child_id" not in out
    assert "ValueError: no\\x1b\n    line 1\n" in out
    assert '"outcome":"fail"' in out
