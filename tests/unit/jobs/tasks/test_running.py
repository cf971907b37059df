from __future__ import annotations

import math

import pytest

from sysadmd.jobs.tasks import Current, Deferred, current, defer, progress, running


@pytest.fixture
def said() -> list[tuple[float, str | None]]:
    return []


@pytest.fixture
def attempt(said: list[tuple[float, str | None]]) -> object:
    running.begin(Current("j", "n", 1, "o"), lambda value, message: said.append((value, message)))
    yield
    running.end()


def test_outside_of_a_worker_there_is_no_attempt() -> None:
    assert current() is None


def test_outside_of_a_worker_progress_goes_nowhere() -> None:
    progress(0.5, "half")


@pytest.mark.usefixtures("attempt")
def test_a_task_knows_its_attempt() -> None:
    assert current() == Current("j", "n", 1, "o")


@pytest.mark.usefixtures("attempt")
def test_progress_is_kept_between_0_and_1(said: list[tuple[float, str | None]]) -> None:
    progress(-1)
    progress(2, "over")
    assert said == [(0.0, None), (1.0, "over")]


@pytest.mark.usefixtures("attempt")
def test_a_message_is_cut(said: list[tuple[float, str | None]]) -> None:
    progress(0.5, "x" * (running.MESSAGE_LIMIT + 1))
    assert said == [(0.5, "x" * running.MESSAGE_LIMIT)]


@pytest.mark.parametrize("value", [math.nan, math.inf, "half", None])
def test_progress_is_a_number(value: object) -> None:
    with pytest.raises(ValueError):
        progress(value)  # type: ignore[arg-type]


def test_a_defer_carries_its_reason_and_delay() -> None:
    with pytest.raises(Deferred) as found:
        defer("not yet", 5)
    assert (found.value.reason, found.value.delay) == ("not yet", 5)


@pytest.mark.parametrize("delay", [-1, math.inf, math.nan])
def test_a_delay_is_a_number_of_seconds(delay: float) -> None:
    with pytest.raises(ValueError):
        defer("not yet", delay)
