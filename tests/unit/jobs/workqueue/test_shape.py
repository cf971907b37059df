"""Jobs, steps and attempts as the pdm clients read them."""

from __future__ import annotations

from typing import Any

import pytest

from sysadmd.jobs.views import AttemptView, JobView, StepView
from sysadmd.jobs.workqueue import shape

ARGS = {"type": "LIST", "src_siteid": 12, "src_filepath": "somefile", "extra_opts": {}, "protocol": "GRIDFTP"}
LISTING = {"root": [{"name": "file1", "st_size": 1}, {"name": "file2", "st_size": 2}]}


def job(**changes: Any) -> JobView:
    values: dict[str, Any] = {
        "id": "0" * 24,
        "seq": 7,
        "kind": "transfer",
        "name": "workqueue.list",
        "lane": "transfer",
    }
    return JobView(**{**values, "owner": "olga", "state": "pending", "created_at": 0.0, "args": ARGS, **changes})


def step(**changes: Any) -> StepView:
    values: dict[str, Any] = {"job_id": "0" * 24, "idx": 0, "stage": 0, "type": "LIST", "state": "ok", "starts": 1}
    return StepView(**{**values, "spec": {"src": "a", "dst": "b"}, **changes})


def attempt(**changes: Any) -> AttemptView:
    values: dict[str, Any] = {"job_id": "0" * 24, "idx": 0, "n": 1, "worker": "w", "host": "h", "created_at": 60.0}
    return AttemptView(**{**values, "outcome": "ok", **changes})


def test_the_keys_of_a_job_are_in_the_order_of_the_reference() -> None:
    copy = {**ARGS, "type": "COPY", "dst_siteid": 14, "dst_filepath": "b"}
    assert list(shape.job(job(args=copy))) == [
        *("id", "user_id", "src_siteid", "dst_siteid", "src_filepath", "dst_filepath", "type", "status"),
        *("extra_opts", "priority", "protocol", "log_uid", "timestamp"),
    ]


def test_a_job_has_the_time_of_its_latest_change() -> None:
    assert shape.job(job())["timestamp"] == "1970-01-01T00:00"
    assert shape.job(job(started_at=60.0, finished_at=3600.0))["timestamp"] == "1970-01-01T01:00"


def test_a_priority_is_that_of_the_request() -> None:
    assert [shape.job(job(priority=stored))["priority"] for stored in (5, 0, -4, 100, -100)] == [0, 5, 9, 0, 9]


def test_a_user_has_one_number_that_every_reader_has_exact() -> None:
    assert shape.user_number("olga") == shape.user_number("olga") != shape.user_number("paul")
    assert 0 < shape.user_number("olga") < 2**53


def test_an_element_has_a_target_where_its_type_has_one() -> None:
    assert "dst_filepath" not in shape.element(step(), job(), None)
    assert shape.element(step(type="COPY"), job(), None)["dst_filepath"] == "b"


def test_a_listing_is_of_names_or_of_records() -> None:
    listed = step(result={"listing": LISTING})
    assert shape.element(listed, job(), None)["listing"] == [{"root": ["file1", "file2"]}]
    assert shape.element(listed, job(), None, full=True)["listing"] == [LISTING]
    assert shape.output(attempt(), listed, job(), "log")["listing"] == {"root": ["file1", "file2"]}


@pytest.mark.parametrize("changes", [{"type": "COPY"}, {"state": "running"}, {"result": None}, {"result": []}])
def test_what_has_no_listing_shows_none(changes: dict[str, Any]) -> None:
    bare = step(**{"result": {"listing": LISTING}, **changes})
    assert shape.element(bare, job(), None)["listing"] == []
    assert "listing" not in shape.output(attempt(), bare, job(), "log")


def test_an_attempt_before_the_one_that_listed_shows_no_listing() -> None:
    listed = step(result={"listing": LISTING})
    assert "listing" not in shape.output(attempt(outcome="fail"), listed, job(), "log")


def test_an_element_has_the_time_of_its_latest_attempt() -> None:
    assert shape.element(step(), job(), None)["timestamp"] == "1970-01-01T00:00"
    assert shape.element(step(), job(), attempt())["timestamp"] == "1970-01-01T00:01"
    assert shape.element(step(), job(), attempt(finished_at=120.0))["timestamp"] == "1970-01-01T00:02"


def test_figures_that_nobody_reported_are_not_available() -> None:
    shown = shape.element_state(step(progress={"transferred": 5}), job())
    assert (shown["transferred"], shown["average"]) == (5, "N/A")


def test_a_deferred_element_is_not_failed() -> None:
    assert shape.element_state(step(state="deferred"), job())["status"] == "SUBMITTED"


def test_elements_are_counted_by_status() -> None:
    assert shape.counted({("waiting", False): 3, ("waiting", True): 1, ("ok", True): 2, ("skipped", False): 1}) == {
        "num_elements": 7,
        "num_new": 3,
        "num_done": 2,
        "num_failed": 1,
        "num_submitted": 1,
        "num_running": 0,
    }
