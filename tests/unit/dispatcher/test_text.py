from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.dispatcher.text import Reader, allowances, decode, excerpt, marker, page


def reader(data: bytes) -> Reader:
    return lambda offset, length: data[offset : offset + length]


def test_half_a_character_waits_for_its_rest() -> None:
    data = "aä".encode()[:2]
    assert decode(data, final=False) == ("a", 1)
    assert decode(data, final=True) == ("a\N{REPLACEMENT CHARACTER}", 2)


def test_bytes_that_are_no_utf8_become_replacement_characters_at_once() -> None:
    assert decode(b"\xff\xfea", final=False) == ("\N{REPLACEMENT CHARACTER}" * 2 + "a", 3)


@given(st.text(), st.lists(st.integers(1, 7)))
def test_text_that_is_read_in_parts_is_the_text(text: str, parts: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    read, offset, seen, end = reader(data), 0, "", 0
    for part in parts:
        end = min(len(data), end + part)
        found, offset = excerpt(read, offset, end, 1000, final=False)
        seen += found
    found, offset = excerpt(read, offset, len(data), 1000, final=True)
    assert (seen + found, offset) == (data.decode(), len(data))


def test_what_is_longer_than_the_budget_is_cut_in_its_middle() -> None:
    data = b"a" * 50 + b"b" * 100 + b"c" * 50
    text, reached = excerpt(reader(data), 0, 200, 100, final=False)
    assert text == "a" * 50 + marker(100) + "c" * 50
    assert reached == 200


@given(st.text(min_size=30), st.integers(8, 40))
def test_an_excerpt_cuts_no_character_and_counts_what_it_leaves_out(text: str, budget: int) -> None:
    data = text.encode("utf-8", "replace")
    found, reached = excerpt(reader(data), 0, len(data), budget, final=True)
    assert reached == len(data)
    if len(data) <= budget:
        assert found == data.decode()
        return
    head, rest = found.split("\n[sysadmd: ", 1)
    number, tail = rest.split(" bytes are left out here; read_log has them]\n", 1)
    assert len(head.encode()) + int(number) + len(tail.encode()) == len(data)
    assert data.decode().startswith(head)
    assert data.decode().endswith(tail)


@given(st.lists(st.integers(0, 2000), max_size=12), st.integers(0, 5000))
def test_allowances_stay_in_the_budget_and_waste_none(sizes: list[int], budget: int) -> None:
    shares = allowances(sizes, budget)
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
    assert sum(shares) <= budget
    if sum(sizes) <= budget:
        assert shares == sizes
    else:
        assert sum(shares) > budget - len(sizes)


def test_short_outputs_are_whole_and_long_ones_share_the_rest() -> None:
    assert allowances([10, 1000, 1000, 5], 115) == [10, 50, 50, 5]


def test_a_page_ends_at_a_character() -> None:
    data = "aäöü".encode()
    assert page(reader(data), 0, 4, ended=True) == ("aä", 3)
    assert page(reader(data), 3, 100, ended=True) == ("öü", 7)
    assert page(reader(data), 7, 100, ended=True) == ("", 7)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_page_shorter_than_a_character_still_gets_on(length: int) -> None:
    assert page(reader("😀😀".encode()), 0, length, ended=False) == ("😀", 4)


def test_an_unfinished_character_at_the_end_is_shown_only_when_no_more_can_come() -> None:
    data = "a😀".encode()[:3]
    assert page(reader(data), 0, 100, ended=False) == ("a", 1)
    assert page(reader(data), 0, 100, ended=True) == ("a\N{REPLACEMENT CHARACTER}", 3)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_pages_together_are_the_whole_file(data: bytes, length: int) -> None:
    offset, seen = 0, ""
    for _ in range(len(data) + 1):
        found, offset = page(reader(data), offset, length, ended=True)
        seen += found
    assert offset == len(data)
    assert seen == data.decode("utf-8", "replace")
