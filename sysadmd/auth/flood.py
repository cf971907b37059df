"""How many records strangers may cause in the audit trail."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

KINDS = frozenset({"refused", "login_failed"})
"""What strangers can cause without end."""
RATE, BURST = 5.0, 50.0
"""Records of one kind a second of one address prefix, and at once."""
TOTAL = 20
"""How many prefixes' worth of them all together may cause."""
BUCKETS = 4096
"""How many prefixes and kinds are remembered."""


class Flood:
    """A token bucket for each address prefix and kind, so that refusals do not hide log-ins that failed, the one that
    was quiet for longest forgotten first; and one for all.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._all = (BURST * TOTAL, monotonic())
        self._counts: Counter[str] = Counter()

    def admits(self, prefix: str, kind: str) -> bool:
        """Whether one more record fits."""
        now = self._monotonic()
        left, at = self._buckets.pop((prefix, kind), (BURST, now))
        left = min(BURST, left + (now - at) * RATE)
        total = min(BURST * TOTAL, self._all[0] + (now - self._all[1]) * RATE * TOTAL)
        fits = left >= 1 and total >= 1
        self._buckets[prefix, kind] = (left - fits, now)
        self._all = (total - fits, now)
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        if not fits:
            self._counts[kind] += 1
        return fits

    def taken(self) -> dict[str, int]:
        """How many were left out since the last time, by kind."""
        counts = dict(self._counts)
        self._counts.clear()
        return counts
