from __future__ import annotations

import pytest

from sysadmd.listen.jobs.ranges import Unsatisfiable, wanted


@pytest.mark.parametrize(
    "header,found",
    [
        ("bytes=0-3", (0, 4)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("Bytes = 9-99", (9, 10)),
    ],
)
def test_a_range_is_of_what_there_is(header: str, found: tuple[int, int]) -> None:
    assert wanted(header, 10) == found


@pytest.mark.parametrize(
    "header", [None, "", "bytes=-", "bytes=3-1", "bytes=a-b", "bytes=0-1,3-4", "lines=0-3", "bytes=" + "9" * 30 + "-"]
)
def test_what_is_no_range_of_bytes_is_all(header: str | None) -> None:
    assert wanted(header, 10) is None


@pytest.mark.parametrize("header,size", [("bytes=10-", 10), ("bytes=0-", 0), ("bytes=-0", 10), ("bytes=11-12", 10)])
def test_a_range_beyond_the_end_is_none(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        wanted(header, size)
