"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before the n-th attempt to connect again: doubled each time, with jitter so that many who lost
    the same peer do not come back at once.
    """

    first: float = 0.2
    limit: float = 15.0
    jitter: Callable[[], float] = random.random

    def delay(self, attempt: int) -> float:
        """The wait before attempt 0, 1, 2, …: between half and the whole of min(limit, first * 2**attempt)."""
        longest = min(self.limit, self.first * 2.0 ** min(attempt, 30))
        return longest * (0.5 + 0.5 * self.jitter())
