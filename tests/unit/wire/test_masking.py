"""What a follower without the permission is shown of a record about jobs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sysadmd.wire.masking import UNAUTHORIZED, masked, masked_rows

JOB = {"id": "a" * 24, "seq": 7, "name": "a.Job", "kind": "task", "owner": "ada", "state": "running", "ext_id": "x"}
EVENT = {
    "event": "start_job",
    "job": JOB,
    "counts": {"running": 1},
    "attempts_left": 1,
    "detail": {"reason": "because of a.Job"},
}


def row(name: str, n: int = 1, progress: float | None = None, state: str = "running", **flags: bool) -> dict[str, Any]:
    plain = {"zombie": False, "wall": False, "removed": False, "killed": False}
    return {"name": name, "state": state, **plain, **flags, "n": n, "progress": progress}


def everything(name: str) -> bool:
    return True


def nothing(name: str) -> bool:
    return False


def test_who_may_read_the_job_gets_the_record_itself() -> None:
    assert masked(EVENT, everything) is EVENT


def test_others_get_counts_and_state_and_nothing_that_tells_of_the_job() -> None:
    assert masked(EVENT, nothing) == {
        "event": "start_job",
        "counts": {"running": 1},
        "attempts_left": 1,
        "job": {"name": UNAUTHORIZED, "kind": "task", "state": "running"},
    }


def test_the_shared_record_stays_as_it_was() -> None:
    summary = {"event": "summary", "rows": [row("a.Job"), row("b.Job")]}
    before = copy.deepcopy((EVENT, summary))
    masked(EVENT, nothing)
    masked(summary, nothing)
    assert (EVENT, summary) == before


def test_rows_that_may_be_read_are_the_rows_themselves() -> None:
    summary = {"event": "summary", "rows": [row("a.Job")]}
    assert masked(summary, everything) is summary


def test_only_the_rows_of_foreign_jobs_are_renamed() -> None:
    rows = masked_rows([row("a.Job"), row("b.Job")], lambda name: name == "b.Job")
    assert [one["name"] for one in rows] == [UNAUTHORIZED, "b.Job"]


def test_foreign_rows_that_differ_in_their_name_only_become_one() -> None:
    rows = [row("a.Job", 1, 0.5), row("b.Job", 3, 0.1), row("c.Job", 2), row("d.Job", 1, state="pending")]
    pending, running = masked_rows(rows, nothing)
    assert (pending["name"], pending["n"], pending["progress"]) == (UNAUTHORIZED, 1, None)
    assert (running["name"], running["n"]) == (UNAUTHORIZED, 6)
    assert running["progress"] == pytest.approx(0.2)


def test_foreign_rows_with_other_flags_stay_apart() -> None:
    assert len(list(masked_rows([row("a.Job"), row("b.Job", zombie=True)], nothing))) == 2


def test_an_element_of_a_foreign_transfer_is_left_out() -> None:
    data = {"event": "element", "job": JOB, "element": {"id": 1}, "progress": {"transferred": 5}}
    assert masked(data, nothing) == {
        "event": "element",
        "job": {"name": UNAUTHORIZED, "kind": "task", "state": "running"},
    }
