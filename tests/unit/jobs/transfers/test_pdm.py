"""The words and numbers of the pdm clients."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from sysadmd.errors import BadRequest
from sysadmd.jobs import model
from sysadmd.jobs.transfers.pdm import (
    JobProtocol,
    JobStatus,
    JobType,
    attempt_status,
    element_status,
    job_status,
    read,
    shown_priority,
    stored_priority,
)


@pytest.mark.parametrize("value", [1, "1", "COPY", "copy", "Copy", " copy ", JobType.COPY])
def test_a_type_is_read_from_a_number_digits_or_a_name(value: Any) -> None:
    assert read(JobType, value, "type") is JobType.COPY


@pytest.mark.parametrize("value", [5, -1, "5", "", "move", None, True, 1.0, [], "-1", "\u0661"])
def test_what_is_no_type_is_refused_with_all_of_them(value: Any) -> None:
    with pytest.raises(BadRequest, match=r"type: must be one of LIST \(0\), COPY \(1\)"):
        read(JobType, value, "type")


def test_the_numbers_are_those_of_the_clients() -> None:
    assert [(one.name, one.value) for one in JobProtocol] == [("GRIDFTP", 0), ("SSH", 1), ("DUMMY", 2)]
    assert [one.name for one in JobStatus] == ["NEW", "DONE", "FAILED", "SUBMITTED", "RUNNING"]


@pytest.mark.parametrize(
    "state, elements, expected",
    [
        ("pending", ["waiting"], JobStatus.NEW),
        ("running", ["leased"], JobStatus.SUBMITTED),
        ("running", ["ok", "running", "waiting"], JobStatus.RUNNING),
        ("running", ["ok"] * 20 + ["waiting"] * 80, JobStatus.SUBMITTED),
        ("failed", ["ok", "retry"], JobStatus.SUBMITTED),
        ("deferred", ["retry"], JobStatus.SUBMITTED),
        ("complete", ["ok"], JobStatus.DONE),
        ("complete", [], JobStatus.DONE),
        ("error", ["ok", "failed", "skipped"], JobStatus.FAILED),
        ("killed", ["killed"], JobStatus.FAILED),
        ("inactive", [], JobStatus.FAILED),
    ],
)
def test_the_status_of_a_job(state: str, elements: list[str], expected: JobStatus) -> None:
    assert job_status(state, elements) is expected


def test_only_final_states_read_as_done_or_failed() -> None:
    ends = {state for state in get_args(model.JobState) if job_status(state) in {JobStatus.DONE, JobStatus.FAILED}}
    assert ends == model.FINAL_STATES


def test_every_step_state_has_a_status_and_only_final_ones_an_end() -> None:
    states = get_args(model.StepState)
    ends = {state for state in states if element_status(state) in {JobStatus.DONE, JobStatus.FAILED}}
    assert ends == model.STEP_FINAL


def test_an_element_is_new_until_its_first_attempt() -> None:
    assert element_status("waiting") is JobStatus.NEW
    assert element_status("waiting", attempts=1) is JobStatus.SUBMITTED


def test_the_status_of_an_attempt() -> None:
    assert [attempt_status(one) for one in (None, "ok", "fail", "lost")] == [
        JobStatus.RUNNING,
        JobStatus.DONE,
        JobStatus.FAILED,
        JobStatus.FAILED,
    ]


def test_priorities_come_back_and_order_the_other_way_round() -> None:
    assert [shown_priority(stored_priority(one)) for one in range(10)] == list(range(10))
    assert stored_priority(0) > stored_priority(9)
    assert (shown_priority(100), shown_priority(-100)) == (0, 9)


@pytest.mark.parametrize("value", [-1, 10, True, "5", None])
def test_a_priority_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="priority: must be a whole number of 0 to 9"):
        stored_priority(value)
