from __future__ import annotations

from typing import Any

import pytest

from sysadmd.errors import BadRequest, PayloadTooLarge
from sysadmd.jobs import spec as specs
from sysadmd.jobs.spec import JobSpec, StepSpec, check_steps, checked


def task(**changes: Any) -> JobSpec:
    return JobSpec(**{"kind": "task", "name": "demo.Job", **changes})


def test_a_task_gets_its_one_step_and_its_lane() -> None:
    job = checked(task())
    assert [step.type for step in job.steps] == ["task"]
    assert job.lane == "default"


def test_a_transfer_keeps_its_steps_and_has_a_lane_of_its_own() -> None:
    job = checked(JobSpec(kind="transfer", name="workqueue.LIST", steps=[StepSpec(type="LIST")]))
    assert [step.type for step in job.steps] == ["LIST"]
    assert job.lane == "transfer"


def test_a_lane_that_is_named_stays() -> None:
    assert checked(task(lane="night")).lane == "night"


@pytest.mark.parametrize(
    "key, value",
    [
        ("name", ""),
        ("name", "a\nb"),
        ("name", "n" * (specs.TEXT_MAX + 1)),
        ("unique_key", ""),
        ("priority", specs.PRIORITY_MAX + 1),
        ("priority", -specs.PRIORITY_MAX - 1),
        ("tries", 0),
        ("tries", specs.TRIES_MAX + 1),
        ("max_parallel", 0),
        ("retry_delay", -1.0),
        ("defer_delay", specs.SECONDS_MAX + 1),
        ("defer_max", float("nan")),
        ("wall_time", 0.0),
        ("zombie_time", float("inf")),
        ("timeout", -1.0),
        ("run_after", -1.0),
        ("on_lost", "hope"),
        ("kind", "dream"),
        ("kind", "command"),
    ],
)
def test_what_cannot_be_is_refused_by_its_path(key: str, value: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        checked(task(**{key: value}))
    assert refused.value.path == f"args.{key}"


def test_a_transfer_without_steps_is_refused() -> None:
    with pytest.raises(BadRequest, match="needs a step"):
        checked(JobSpec(kind="transfer", name="x"))


@pytest.mark.parametrize(
    "step",
    [
        StepSpec(type="COPY"),
        StepSpec(type="task", stage=-1),
        StepSpec(type="task", stage=specs.STAGE_MAX + 1),
        StepSpec(type="task", size=-1),
        StepSpec(type="task", tries=0),
        StepSpec(type="task", tries=specs.TRIES_MAX + 1),
    ],
)
def test_a_step_that_cannot_be_is_refused(step: StepSpec) -> None:
    with pytest.raises(BadRequest):
        checked(task(steps=[step]))


def test_arguments_above_their_size_are_refused() -> None:
    with pytest.raises(PayloadTooLarge):
        checked(task(args={"text": "x" * specs.ARGS_BYTES}))


def test_arguments_that_are_not_json_are_refused() -> None:
    with pytest.raises(BadRequest, match="not JSON"):
        checked(task(args={"what": object()}))


def test_more_steps_than_a_job_may_have_are_refused() -> None:
    with pytest.raises(BadRequest, match="more than a job may have"):
        check_steps([StepSpec(type="task")] * 3, "task", "steps", room=2)


def test_new_steps_come_after_the_one_that_makes_them() -> None:
    check_steps([StepSpec(type="COPY", stage=2)], "transfer", "expand", above=1)
    with pytest.raises(BadRequest):
        check_steps([StepSpec(type="COPY", stage=1)], "transfer", "expand", above=1)
