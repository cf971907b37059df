"""Filters by path and value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import BadRequest
from sysadmd.events.filter import PATHS, VALUES, Filter

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@pytest.mark.parametrize(
    "wanted, data, matches",
    [
        ({}, {"a": 1}, True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a.b": "x"}, {"a": {"b": "x"}}, True),
        ({"a.b": "x"}, {"a": "x"}, False),
        ({"a": ["x", "y"]}, {"a": "y"}, True),
        ({"a": ["x", "y"]}, {"a": "z"}, False),
        ({"a": "x", "b": "y"}, {"a": "x", "b": "z"}, False),
        ({"a": "x"}, {"a": ["x"]}, False),
        ({"a": "x"}, ["x"], False),
    ],
)
def test_matches(wanted: dict[str, Any], data: Any, matches: bool) -> None:
    assert Filter.parse(wanted).matches(data) is matches


@given(scalars, scalars)
def test_a_value_matches_itself_and_not_another(one: Any, other: Any) -> None:
    wanted = Filter.parse({"a": one})
    assert wanted.matches({"a": one})
    if wanted.matches({"a": other}):
        assert one == other
        assert isinstance(one, bool) is isinstance(other, bool)


def test_equal_filters_are_one_key() -> None:
    assert Filter.parse({"a": ["x", "y"], "b": 1}) == Filter.parse({"b": 1, "a": ["y", "x"]})
    assert hash(Filter.parse({"a": ["x", "y"]})) == hash(Filter.parse({"a": ["y", "x", "x"]}))


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"": 1}, "'' is not a dotted path"),
        ({"a..b": 1}, "'a..b' is not a dotted path"),
        ({"a": {}}, r"args\.filter\.a: a value must be a string"),
        ({"a": [[1]]}, "a value must be"),
        ({"a": []}, "1 to 64 values, found 0"),
        ({"a": list(range(VALUES + 1))}, "1 to 64 values, found 65"),
        ({str(n): 1 for n in range(PATHS + 1)}, "at most 16 paths, found 17"),
    ],
)
def test_a_bad_filter_is_refused_with_path_and_rule(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        Filter.parse(wanted)
    assert caught.value.path
    assert caught.value.rule
