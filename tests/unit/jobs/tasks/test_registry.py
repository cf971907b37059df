from __future__ import annotations

import sys

import pytest

from sysadmd.errors import BadRequest, NotFound
from sysadmd.jobs.tasks.loading import describe
from sysadmd.jobs.tasks.registry import FRESH, Registry, check_args, installed
from tests import sample_tasks

SETTLED = describe("settled", sample_tasks.settled)
OPEN = describe("open", sample_tasks.Job)


def test_the_bundled_task_has_its_name_of_core4() -> None:
    assert installed()["core4.queue.helper.job.example.DummyJob"] == "sysadmd.jobs.tasks.example:DummyJob"


def test_names_are_listed_without_importing_a_task() -> None:
    sys.modules.pop("sysadmd.jobs.tasks.example", None)
    assert "core4.queue.helper.job.example.DummyJob" in Registry().names()
    assert "sysadmd.jobs.tasks.example" not in sys.modules


def test_a_name_that_nobody_registered_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"'os\.system'"):
        Registry(dict).target("os.system")


def test_the_packages_are_looked_at_again_after_a_while() -> None:
    now, found = 0.0, {"a": "m:a"}
    registry = Registry(lambda: dict(found), lambda: now)
    assert registry.names() == ["a"]
    found["b"] = "m:b"
    now = FRESH
    assert registry.names() == ["a"]
    now = FRESH + 1
    assert registry.names() == ["a", "b"]


def test_arguments_that_fit_are_taken() -> None:
    check_args(SETTLED, {"where": "here"})
    check_args(SETTLED, {"where": "here", "often": 2})


def test_an_argument_that_is_missing_is_named() -> None:
    with pytest.raises(BadRequest, match=r"args\.where: settled needs this argument"):
        check_args(SETTLED, {"often": 2})


def test_an_argument_that_is_unknown_is_named_with_those_that_are_known() -> None:
    with pytest.raises(BadRequest, match=r"args\.wher: .*where, often"):
        check_args(SETTLED, {"where": "here", "wher": "there"})


def test_an_open_ended_task_takes_any() -> None:
    check_args(OPEN, {"anything": 1})
