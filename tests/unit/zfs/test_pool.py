from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import ZfsError
from sysadmd.zfs import Dataset, Pool, Snapshot
from sysadmd.zfs.pool import datasets, pools, rows, snapshots


def test_values_go_to_the_columns_that_were_asked_for() -> None:
    assert pools("tank\tONLINE\t12%\n", ("health", "capacity")) == {"tank": Pool(health="ONLINE", capacity="12%")}


def test_a_column_that_was_not_asked_for_is_a_dash() -> None:
    assert pools("tank\tONLINE\n", ("health",))["tank"].frag == "-"


def test_the_columns_of_a_pool_are_those_of_the_event() -> None:
    names = ["size", "alloc", "free", "frag", "expandsz", "dedup", "altroot", "capacity", "health"]
    assert list(Pool().columns()) == names


def test_no_pools_is_an_empty_mapping_whether_zpool_says_so_or_not() -> None:
    assert pools("", ("health",)) == {}
    assert pools("no pools available\n", ("health",)) == {}


def test_a_line_with_another_number_of_columns_is_refused() -> None:
    with pytest.raises(ZfsError, match="expected 2 columns separated by tabs, got 3"):
        pools("tank\tONLINE\t-\n", ("health",))


@pytest.mark.parametrize(
    "capacity, percent",
    [("0%", 0), ("12%", 12), ("100%", 100), ("12", 12), ("-", None), ("", None), ("1.5%", None), ("²%", None)],
)
def test_percent_is_the_number_or_none(capacity: str, percent: int | None) -> None:
    assert Pool(capacity=capacity).percent() == percent


def test_a_dataset_has_its_four_columns() -> None:
    assert datasets("tank/home\t1.2G\t90G\t1.1G\t/home with blanks\n") == {
        "tank/home": Dataset("1.2G", "90G", "1.1G", "/home with blanks")
    }


def test_a_snapshot_is_known_by_its_full_name() -> None:
    assert snapshots("tank@a\t0\t24K\tMon Jan  4 18:00 2016\n") == {
        "tank@a": Snapshot("0", "24K", "Mon Jan  4 18:00 2016")
    }


@given(st.text(), st.integers(1, 6))
def test_any_text_gives_rows_of_the_width_or_the_documented_error(text: str, width: int) -> None:
    try:
        found = rows(text, width)
    except ZfsError:
        return
    assert all(len(row) == width for row in found)
