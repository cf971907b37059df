"""Queries and bodies of the pdm API."""

from __future__ import annotations

from typing import Any

import pytest

from sysadmd.errors import BadRequest
from sysadmd.listen.workqueue import query


@pytest.mark.parametrize(
    "text,value",
    [
        (b'{"type": "0",\n}', {"type": "0"}),
        (b'{"a": [1, 2,],}', {"a": [1, 2]}),
        (b'{"a": ",}", "b\\"": ",]",}', {"a": ",}", 'b"': ",]"}),
        (b'{"a": 1}', {"a": 1}),
    ],
)
def test_a_last_comma_is_passed_over_outside_of_strings(text: bytes, value: Any) -> None:
    assert query.body(text, 8) == value


@pytest.mark.parametrize("text", [b"", b"{,,}", b'{"a": 1,,}', b"[1,", b'{"a": ",}', b"\xff", b"[" * 9 + b",]" * 9])
def test_what_is_no_json_otherwise_is_refused(text: bytes) -> None:
    with pytest.raises(BadRequest):
        query.body(text, 8)


@pytest.mark.parametrize("text", ["0", "11", "x", "", "1.0", "-1", "9" * 30, "٣"])
def test_a_number_outside_of_its_range_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^n: must be a whole number of 1 to 10$"):
        query.whole({"n": text}, "n", 1, 10)


def test_numbers_may_be_missing() -> None:
    assert query.whole({}, "n", 1, 10) is None
    assert query.whole({"n": "10"}, "n", 1, 10) == 10


def test_flags_and_words_have_a_default() -> None:
    assert [query.flag(each, "f") for each in ({}, {"f": "True"}, {"f": "0"})] == [False, True, False]
    assert [query.choice(each, "c", "a", "b") for each in ({}, {"c": "B"})] == ["a", "b"]
    with pytest.raises(BadRequest, match="c: must be a or b"):
        query.choice({"c": "x"}, "c", "a", "b")


def test_one_second_beyond_the_longest_wait_is_refused() -> None:
    assert query.seconds({"wait": "60"}, "wait", 60) == 60
    with pytest.raises(BadRequest, match="wait: must be 0 to 60 seconds"):
        query.seconds({"wait": "61"}, "wait", 60)
