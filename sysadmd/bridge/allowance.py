"""How much one peer may ask of a bridge, or of a server behind it: token buckets that fill with time (RFC 2697)."""

from __future__ import annotations

from collections import OrderedDict

from sysadmd.limits import Limits

FAILURES, FAILURE_RATE = 20.0, 1.0
"""Log-ins that fail, of one address prefix: at once, and a second. A fleet behind one address whose keys are not
imported yet tries every minute; who guesses tries as often as it can."""
HANDSHAKES, HANDSHAKE_RATE = 256.0, 16.0
"""Sealed sessions that a key may begin at once, and a second: each costs half a millisecond, and fleets share keys."""
PREFIXES = 4096
"""Prefixes that are remembered; the one that was quiet for longest is forgotten first."""


class Meter:
    """What one peer may send: frames and bytes, a second's worth of each at once."""

    __slots__ = ("_at", "_bytes", "_messages")

    def __init__(self, limits: Limits, now: float) -> None:
        self._messages, self._bytes, self._at = float(limits.bridge_messages), float(limits.bridge_bytes), now

    def take(self, messages: int, size: int, limits: Limits, now: float) -> float:
        """Count what was read; seconds until more may be read, 0 for at once. A debt is at most what one read gave."""
        elapsed, self._at = now - self._at, now
        often, much = limits.bridge_messages, limits.bridge_bytes
        self._messages = min(often, self._messages + elapsed * often) - messages
        self._bytes = min(much, self._bytes + elapsed * much) - size
        return max(0.0, -self._messages / often, -self._bytes / much)


class Tries:
    """How often something was tried that costs, by address prefix: `at_once`, and so many a second (`rate`). Nobody is
    shut out for longer than the bucket takes to fill, so that a peer whose key is imported gets in with its next
    attempt.
    """

    def __init__(self, at_once: float, rate: float) -> None:
        self._at_once, self._rate = at_once, rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, prefix: str, now: float) -> bool:
        """Whether one more may be tried."""
        return self._left(prefix, now) >= 1

    def add(self, prefix: str, now: float) -> None:
        """One counts."""
        self._buckets[prefix] = (max(0.0, self._left(prefix, now) - 1), now)
        self._buckets.move_to_end(prefix)
        if len(self._buckets) > PREFIXES:
            self._buckets.popitem(last=False)

    def _left(self, prefix: str, now: float) -> float:
        left, at = self._buckets.get(prefix, (self._at_once, now))
        return min(self._at_once, left + (now - at) * self._rate)
