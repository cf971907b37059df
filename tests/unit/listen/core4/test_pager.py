"""Pages, as core4 counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import BadRequest
from sysadmd.listen.core4.pager import PER_PAGE_MAX, Wanted

ROWS = list(range(25))


@pytest.mark.parametrize(
    "page,expected,number",
    [(0, ROWS[:10], 0), (2, ROWS[20:], 2), (3, [], 3), (-1, ROWS[20:], 2), (-3, ROWS[:10], 0), (-9, ROWS[:10], 0)],
)
def test_pages_count_from_zero_and_from_the_end(page: int, expected: list[int], number: int) -> None:
    found = Wanted(page).of(ROWS)
    assert (found.rows, found.page, found.page_count, found.total) == (expected, number, 3, 25)


def test_nothing_has_no_page() -> None:
    found = Wanted(-1).of([])
    assert (found.rows, found.page, found.page_count) == ([], 0, 0)


@pytest.mark.parametrize("per_page", [0, -1, PER_PAGE_MAX + 1])
def test_a_page_has_a_size(per_page: int) -> None:
    with pytest.raises(BadRequest):
        Wanted(0, per_page)
    assert Wanted(0, PER_PAGE_MAX).per_page == PER_PAGE_MAX


@given(st.integers(0, 60), st.integers(1, 12))
def test_all_pages_together_are_all_rows(total: int, per_page: int) -> None:
    rows = list(range(total))
    pages = [Wanted(number, per_page).of(rows) for number in range(Wanted(0, per_page).of(rows).page_count)]
    assert [row for page in pages for row in page.rows] == rows
    assert all(1 <= len(page.rows) <= per_page for page in pages)


@given(st.integers(0, 60), st.integers(1, 12), st.integers(-70, 70))
def test_a_span_is_never_outside_of_the_rows(total: int, per_page: int, page: int) -> None:
    start, length = Wanted(page, per_page).span(total)
    assert start >= 0
    assert length == 0 or start + length <= total
