"""What one peer may send, and how often a log-in may fail."""

from __future__ import annotations

import pytest

from sysadmd.bridge.allowance import PREFIXES, Meter, Tries
from sysadmd.limits import Limits

LIMITS = Limits(bridge_messages=100, bridge_bytes=1_000_000)


def test_a_second_s_worth_is_free_at_once() -> None:
    meter = Meter(LIMITS, 0.0)
    assert meter.take(100, 1_000_000, LIMITS, 0.0) == 0.0


@pytest.mark.parametrize("messages,size", [(101, 0), (0, 1_010_000)])
def test_one_beyond_has_to_wait(messages: int, size: int) -> None:
    assert Meter(LIMITS, 0.0).take(messages, size, LIMITS, 0.0) == pytest.approx(0.01)


def test_a_wait_pays_the_debt() -> None:
    meter = Meter(LIMITS, 0.0)
    pause = meter.take(150, 0, LIMITS, 0.0)
    assert meter.take(0, 0, LIMITS, pause) == 0.0
    assert meter.take(1, 0, LIMITS, pause) > 0.0


def test_time_saves_up_no_more_than_a_second_s_worth() -> None:
    meter = Meter(LIMITS, 0.0)
    assert meter.take(101, 0, LIMITS, 3600.0) > 0.0


def test_a_prefix_may_fail_some_times_at_once() -> None:
    failures = Tries(3.0, 1.0)
    for _ in range(3):
        assert failures.allows("192.0.2.1/32", 0.0)
        failures.add("192.0.2.1/32", 0.0)
    assert not failures.allows("192.0.2.1/32", 0.0)
    assert failures.allows("192.0.2.2/32", 0.0)


def test_nobody_is_shut_out_for_longer_than_a_second_a_try() -> None:
    failures = Tries(3.0, 1.0)
    for _ in range(1000):
        failures.add("192.0.2.1/32", 0.0)
    assert not failures.allows("192.0.2.1/32", 0.5)
    assert failures.allows("192.0.2.1/32", 1.0)


def test_prefixes_are_bounded() -> None:
    failures = Tries(3.0, 1.0)
    for number in range(PREFIXES + 10):
        failures.add(f"{number}", 0.0)
    assert len(failures._buckets) == PREFIXES
    assert "0" not in failures._buckets
