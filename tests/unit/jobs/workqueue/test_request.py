"""From the body of a request to what is enqueued."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import BadRequest
from sysadmd.jobs.spec import TRIES_MAX, checked
from sysadmd.jobs.transfers.pdm import JobType
from sysadmd.jobs.workqueue.request import GIVEN, MAX_TRIES, SITE_MAX, requested, sites

SOURCE: dict[str, Any] = {"src_siteid": 1, "src_filepath": "a"}
COPY: dict[str, Any] = {**SOURCE, "dst_siteid": 2, "dst_filepath": "b"}


def test_a_copy_begins_with_a_listing() -> None:
    spec = requested(COPY, JobType.COPY)
    assert (spec.kind, spec.name, spec.tries, spec.priority) == ("transfer", "workqueue.copy", MAX_TRIES, 0)
    assert [step.type for step in spec.steps] == ["LIST"]
    assert checked(spec).lane == "transfer"


def test_what_a_job_was_asked_for_is_kept_in_one_spelling() -> None:
    spec = requested({**COPY, "src_siteid": "1", "protocol": "ssh", "type": "copy", "extra_opts": None})
    assert spec.args == {**COPY, "type": "COPY", "protocol": "SSH", "extra_opts": {}}


def test_a_target_that_has_no_meaning_is_not_kept() -> None:
    assert requested(COPY, JobType.REMOVE).args == {
        **SOURCE,
        "type": "REMOVE",
        "protocol": "GRIDFTP",
        "extra_opts": {},
    }


def test_credentials_are_not_kept() -> None:
    spec = requested({**SOURCE, "src_credentials": "secret", "dst_credentials": "secret"}, JobType.LIST)
    assert "secret" not in repr(spec)


def test_sites_are_named_by_their_fields() -> None:
    assert sites(requested(COPY, JobType.COPY).args) == {"src_siteid": 1, "dst_siteid": 2}
    assert sites(requested(SOURCE, JobType.LIST).args) == {"src_siteid": 1}


@pytest.mark.parametrize(
    "field,value",
    [
        ("src_siteid", SITE_MAX + 1),
        ("src_siteid", "1" * 20),
        ("src_siteid", 1.0),
        ("max_tries", TRIES_MAX + 1),
        ("max_tries", False),
        ("priority", -1),
        ("extra_opts", "x"),
    ],
)
def test_a_value_beyond_its_range_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        requested({**SOURCE, field: value}, JobType.LIST)
    assert caught.value.path == field


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["checksum", "overwrite", "parents", "x"]), st.sampled_from(["sha256", True, 1])),
)  # fmt: skip


@given(st.fixed_dictionaries({}, optional=dict.fromkeys((*GIVEN, "status", "x"), VALUES)), st.booleans())
def test_any_body_is_taken_or_refused_by_the_name_of_a_field(changes: dict[str, Any], whole: bool) -> None:
    body = {**COPY, **changes} if whole else changes
    for kind in (None, *JobType):
        assert taken_or_refused(body, kind) in {*JobType.__members__, *GIVEN, "x"}


def taken_or_refused(body: Any, kind: JobType | None) -> str | None:
    """The type of the job that is made of it, or the field that is wrong."""
    try:
        return str(checked(requested(body, kind)).args["type"])
    except BadRequest as error:
        return error.path


def test_a_misspelt_field_is_guessed_at() -> None:
    with pytest.raises(BadRequest, match="did you mean dst_filepath"):
        requested({**COPY, "dst_filepaht": "x"}, JobType.COPY)
