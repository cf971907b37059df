"""Waiting before trying again."""

from __future__ import annotations

from sysadmd.backoff import Backoff


def test_the_wait_doubles_up_to_its_limit_with_jitter() -> None:
    whole, half = Backoff(1, 10, lambda: 1.0), Backoff(1, 10, lambda: 0.0)
    assert [whole.delay(n) for n in (0, 1, 2, 3, 4, 5000)] == [1, 2, 4, 8, 10, 10]
    assert half.delay(1) == 1
