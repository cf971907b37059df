"""Progress is told once a second, and its figures add up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sysadmd.jobs.transfers.progress import Progress
from tests.unit.jobs.transfers.attempts import Reports


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_report_comes_once_a_second_at_most_and_at_the_end() -> None:
    clock, reports = Clock(), Reports()
    progress = Progress(reports, 1000, clock)
    for count in range(1, 11):
        clock.now += 0.25
        progress.reached(count * 100)
    progress.reached(1000, last=True)
    assert [data["transferred"] for _, data in reports] == [400, 800, 1000]


def test_the_rates_are_those_of_the_last_interval_and_of_the_attempt() -> None:
    clock, reports = Clock(), Reports()
    progress = Progress(reports, 1000, clock, start=200)
    clock.now += 2
    progress.reached(400)
    clock.now += 1
    progress.reached(700)
    assert reports == [
        (0.4, {"transferred": 400, "elapsed": 2.0, "instant": 100.0, "average": 100.0}),
        (0.7, {"transferred": 700, "elapsed": 3.0, "instant": 300.0, "average": 166.7}),
    ]


def test_an_empty_file_is_whole() -> None:
    reports = Reports()
    Progress(reports, 0, Clock()).reached(0, last=True)
    assert reports == [(1.0, {"transferred": 0, "elapsed": 0.0, "instant": 0.0, "average": 0.0})]


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 1000)), max_size=20), st.integers(0, 5000))
def test_reports_grow_and_stay_within_bounds(steps: list[tuple[float, int]], size: int) -> None:
    clock, reports = Clock(), Reports()
    progress = Progress(reports, size, clock)
    for seconds, count in steps:
        clock.now += seconds
        progress.reached(progress.transferred + count)
    values = [value for value, _ in reports]
    assert values == sorted(values)
    assert all(0 <= value <= 1 for value in values)
    assert all(data["instant"] >= 0 and data["average"] >= 0 for _, data in reports)
    assert len(reports) <= clock.now - 100
