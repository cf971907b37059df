from __future__ import annotations

from typing import Any

import pytest

from sysadmd.jobs.tasks import TaskSettings, task
from sysadmd.jobs.tasks.settings import settings_of
from tests.sample_tasks import Inherits, Job, noop, settled


def test_a_task_without_settings_leaves_all_to_the_defaults() -> None:
    assert settings_of(noop) == TaskSettings()


def test_a_class_has_them_as_attributes() -> None:
    assert settings_of(Job) == TaskSettings(attempts=2, schedule="*/5 * * * *")


def test_a_schedule_is_not_inherited() -> None:
    assert settings_of(Inherits) == TaskSettings(attempts=2)


def test_a_function_gets_them_by_a_decorator() -> None:
    assert settings_of(settled) == TaskSettings(attempts=3, error_time=0.5, max_parallel=1)


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"timeout": 0},
        {"error_time": -0.1},
        {"defer_max": float("inf")},
        {"zombie_time": float("nan")},
        {"max_parallel": 0},
    ],
)
def test_a_number_out_of_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        task(**settings)


@pytest.mark.parametrize("settings", [{"attempts": "3"}, {"attempts": 1.5}, {"worker": ["a"]}, {"attemts": 3}])
def test_a_setting_of_a_wrong_type_or_name_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        task(**settings)


def test_a_priority_may_be_negative() -> None:
    @task(priority=-5, error_time=0)
    def low() -> None: ...

    assert settings_of(low).priority == -5
