"""Arguments, wherever they are."""

from __future__ import annotations

from typing import Any

import pytest

from sysadmd.errors import BadRequest
from sysadmd.listen.core4.arguments import FIELDS_MAX, Arguments, decode, query_of, redacted, take_query

FORM = "application/x-www-form-urlencoded; charset=utf-8"


def test_a_secret_leaves_the_query_before_anything_else_sees_it() -> None:
    scope: dict[str, Any] = {"query_string": b"token=abc&page=1&PASSWORD=x%20y&passwd=z"}
    take_query(scope)
    assert scope["query_string"] == b"token=%2A%2A%2A&page=1&PASSWORD=%2A%2A%2A&passwd=%2A%2A%2A"
    assert query_of(scope) == {"token": "abc", "page": "1", "PASSWORD": "x y", "passwd": "z"}


@pytest.mark.parametrize("query", [b"a=%ff", "a=ä".encode(), b"&".join([b"a=1"] * (FIELDS_MAX + 1))])
def test_a_query_that_cannot_be_read_is_refused(query: bytes) -> None:
    scope: dict[str, Any] = {"query_string": query}
    take_query(scope)
    assert scope["query_string"] == b""
    with pytest.raises(BadRequest):
        query_of(scope)


def test_a_body_is_json_or_a_form() -> None:
    assert decode(b'{"a": [1]}', "application/json", 32) == {"a": [1]}
    assert decode(b'{"a": [1]}', "", 32) == {"a": [1]}
    assert decode(b"a=1&b=x+y", FORM, 32) == {"a": "1", "b": "x y"}
    assert decode(b"", "application/json", 32) == {}


@pytest.mark.parametrize("body", [b"[1]", b"7", b"{", b'"x"', b"null"])
def test_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(body, "application/json", 32)


def test_text_stands_for_what_it_says() -> None:
    args = Arguments({"page": "-1", "follow": "false", "role": '["a"]', "args": '{"sleep": 1}', "page_": 3})
    assert args.integer("page", 0) == -1
    assert args.flag("follow", default=True) is False
    assert args.texts("role") == ("a",)
    assert args.mapping("args") == {"sleep": 1}
    assert args.integer("page_", 0) == 3


def test_what_is_not_there_or_null_has_its_default() -> None:
    args = Arguments({"page": None, "role": None})
    assert (args.integer("page", 4), args.texts("role"), args.mapping("x"), args.flag("y")) == (4, None, {}, None)


@pytest.mark.parametrize("value", ["x", "1.5", "", True, 1.0, [1], "9" * 30, 1 << 60])
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="page"):
        Arguments({"page": value}).integer("page", 0)


@pytest.mark.parametrize("value", ["a", '{"a":1}', ["a", 1], [["a"]], 7])
def test_what_is_no_list_of_text_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="role"):
        Arguments({"role": value}).texts("role")


def test_the_password_has_two_names() -> None:
    assert Arguments({"password": "a"}).secret() == "a"
    assert Arguments({"passwd": "b"}).secret() == "b"
    assert Arguments({"password": "a", "passwd": "b"}).secret() == "a"
    assert Arguments({}).secret() is None


@pytest.mark.parametrize(
    "wanted",
    [
        {"$where": "true"},
        {"name": {"$ne": None}},
        {"name": ["a"]},
        {"channel": "queue"},
        "[]",
        "not json",
    ],
)
def test_a_filter_is_no_query_language(wanted: Any) -> None:
    with pytest.raises(BadRequest, match="filter"):
        Arguments({"filter": wanted}).filter("name")


def test_a_filter_has_values_for_fields() -> None:
    assert Arguments({"filter": '{"name": "start_job"}'}).filter("name") == {"name": "start_job"}
    assert Arguments({}).filter("name") == {}


def test_a_time_without_a_zone_is_utc() -> None:
    args = Arguments({"a": "1970-01-02T00:00:00", "b": "1970-01-02T01:00:00+01:00", "c": "soon"})
    assert args.time("a") == args.time("b") == 86400.0
    with pytest.raises(BadRequest):
        args.time("c")


def test_the_audit_trail_gets_no_secret_however_deep() -> None:
    value = {"name": "a", "passwd": "x", "args": [{"Password": "y", "n": 1}]}
    assert redacted(value) == {"name": "a", "passwd": "***", "args": [{"Password": "***", "n": 1}]}
