"""Who gets a place while it is not logged in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sysadmd.limits import Limits
from sysadmd.listen.pending import Pending

LIMITS = Limits(pending_connections=16, pending_connections_prefix=4)


def pending(draw: Callable[[], float] = lambda: 0.999, limits: Limits = LIMITS) -> Pending:
    """Draws that never drop but at the bound, unless a test says otherwise."""
    return Pending(lambda: limits, draw=draw)


def test_places_are_bounded() -> None:
    places = pending()
    admitted = [places.admit(f"192.0.2.{number}") for number in range(100)]
    assert [place is not None for place in admitted] == [True] * 16 + [False] * 84
    assert (places.waiting, places.dropped) == (16, 84)


def test_a_prefix_has_a_share() -> None:
    places = pending()
    assert sum(places.admit("192.0.2.1") is not None for _ in range(100)) == 4
    assert places.admit("192.0.2.2") is not None


def test_an_ipv6_network_is_one_prefix() -> None:
    places = pending()
    assert sum(places.admit(f"2001:db8::{number:x}") is not None for number in range(100)) == 4
    assert places.admit("2001:db8:0:1::1") is not None


@pytest.mark.parametrize("held,chance", [(0, 0.0), (7, 0.0), (8, 0.0), (10, 0.25), (12, 0.5), (14, 0.75), (15, 0.875)])
def test_the_chance_to_be_dropped_rises_from_half_of_the_bound(held: int, chance: float) -> None:
    drawn = 0.999
    places = pending(lambda: drawn)
    for number in range(held):
        assert places.admit(f"192.0.2.{number}") is not None
    drawn = chance - 0.001
    if chance > 0:
        assert places.admit("198.51.100.1") is None
    drawn = chance
    assert places.admit("198.51.100.1") is not None


def test_a_flood_leaves_room_for_who_comes_again() -> None:
    """The same draw for both: what differs is how often they come."""
    places = pending(lambda: 0.4)
    flood = [places.admit(f"192.0.2.{number}") for number in range(100)]
    held = [place for place in flood if place is not None]
    assert places.waiting == len(held) == 12  # where a plain bound would have filled up to 16
    held[0]()
    assert places.admit("198.51.100.1") is not None


def test_a_place_is_given_back_once() -> None:
    places = pending()
    leave, other = places.admit("192.0.2.1"), places.admit("192.0.2.1")
    assert leave is not None
    assert other is not None
    leave()
    leave()
    assert places.waiting == 1
    other()
    assert places.waiting == 0
    assert places._of_prefix == {}


def test_loopback_needs_no_place() -> None:
    places = pending()
    for _ in range(100):
        leave = places.admit("127.0.0.1")
        assert leave is not None
        leave()
    assert (places.waiting, places.dropped) == (0, 0)


def test_the_log_is_told_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    places = Pending(lambda: LIMITS, draw=lambda: 0.999, monotonic=lambda: now)
    for _ in range(50):
        places.admit("192.0.2.1")
    now = 60.0
    places.admit("192.0.2.1")
    told = [line for line in capsys.readouterr().out.splitlines() if "not logged in" in line]
    assert len(told) == 2
