"""Depth, encoding and error texts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import WireError
from sysadmd.wire.text import check_depth, encode, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('[]{}\\"a'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\'), inner, max_size=4),
    max_leaves=40,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(item) for item in value.values()), default=0)
    return 1 + max((depth_of(item) for item in value), default=0) if isinstance(value, list) else 0


@given(JSON)
def test_the_depth_of_any_value_is_seen_exactly(value: object) -> None:
    text, depth = encode(value).decode(), depth_of(value)
    check_depth(text, depth)
    if depth:
        with pytest.raises(WireError, match=f"deeper than {depth - 1} levels"):
            check_depth(text, depth - 1)


def test_brackets_in_strings_do_not_count() -> None:
    assert parse('["' + "[{" * 100 + '", "\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["]', 1)


def test_one_level_more_than_the_limit_is_refused() -> None:
    assert parse("[" * 32 + "]" * 32, 32)
    with pytest.raises(WireError, match="the frame nests deeper than 32 levels"):
        parse("[" * 33 + "]" * 33, 32)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2**20,
        '{"a":' * 2**18,
        "[" * 2**19 + "]" * 2**19,
        "[}" * 2**19,
        "][" * 2**19,
        '"' + '\\"' * 2**19,
        "[" * 40 + '"' + '\\"' * 2**19,
        "[" * 20 + '"' + "\\" * 2**20,
    ],
    ids=["open", "objects", "deep", "crossed", "inverted", "escapes", "deep escapes", "backslashes"],
)
def test_a_mebibyte_of_malice_is_refused_quickly(text: str) -> None:
    began = time.process_time()
    with pytest.raises(WireError):
        parse(text, 32)
    assert (
        time.process_time() - began < 1.0
    )  # 5 to 50 ms on the machine it was written on; anything quadratic takes hours


def test_an_integer_of_any_sane_size_is_exact() -> None:
    assert parse("9" * 4000, 1) == int("9" * 4000)
    with pytest.raises(WireError, match="out of range"):
        parse("9" * 5000, 1)


def test_a_lone_surrogate_in_a_result_becomes_a_question_mark() -> None:
    assert encode({"name\udc80": ["caf\udce9", ("x",), 1]}) == b'{"name?":["caf?",["x"],1]}'


def test_text_out_is_utf_8() -> None:
    assert encode("é") == b'"\xc3\xa9"'
