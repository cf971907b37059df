from __future__ import annotations

import pytest

from sysadmd.jobs.tasks.frames import Parameter
from sysadmd.jobs.tasks.loading import NotATask, callable_of, describe, load
from tests import sample_tasks


def test_a_target_is_a_module_and_an_attribute() -> None:
    assert load("tests.sample_tasks:noop") is sample_tasks.noop
    assert load("tests.sample_tasks:Job.execute") is sample_tasks.Job.execute


def test_an_attribute_that_is_missing_is_named() -> None:
    with pytest.raises(NotATask, match="'gone'"):
        load("tests.sample_tasks:gone")


def test_a_class_is_run_through_execute_of_a_new_instance() -> None:
    assert callable_of(sample_tasks.Job)(name="olga", x=1) == {"name": "olga", "x": 1}


@pytest.mark.parametrize("target", [sample_tasks.NoJob, sample_tasks.not_callable])
def test_what_cannot_be_called_is_no_task(target: object) -> None:
    with pytest.raises(NotATask):
        callable_of(target)
    with pytest.raises(NotATask):
        describe("n", target)


def test_a_description_has_parameters_settings_and_the_docstring() -> None:
    found = describe("n", sample_tasks.settled)
    assert found.doc == "A task with settings."
    assert found.parameters == (Parameter("where", True, "str"), Parameter("often", False, "int", "1"))
    assert (found.open_ended, found.settings.attempts) == (False, 3)


def test_the_instance_is_no_parameter() -> None:
    found = describe("n", sample_tasks.Job)
    assert found.parameters == (Parameter("name", False, "str", "'nobody'"),)
    assert found.open_ended


def test_a_description_makes_no_instance() -> None:
    class Costly:
        def __init__(self) -> None:
            raise AssertionError

        def execute(self) -> None: ...

    assert describe("n", Costly).parameters == ()


def test_a_positional_only_parameter_cannot_be_given() -> None:
    def odd(a: int, /) -> None: ...

    with pytest.raises(NotATask, match="positional"):
        describe("n", odd)
