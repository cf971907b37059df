"""How far a file has come, told at most once a second in the words of the pdm clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

INTERVAL = 1.0
"""Seconds between two reports."""


class Report(Protocol):
    """What a worker does with progress. `value` is 0 to 1; it must not block."""

    def __call__(self, value: float, message: str | None = None, data: Mapping[str, Any] | None = None) -> object:
        """Tell it."""


class Progress:
    """Reports of one file of `size` bytes, of which `start` were there before this attempt."""

    def __init__(self, report: Report, size: int, clock: Callable[[], float], start: int = 0) -> None:
        self._report, self._size, self._clock, self._start = report, size, clock, start
        self._begun = self._told = clock()
        self._told_bytes = self.transferred = start

    def reached(self, transferred: int, *, last: bool = False) -> None:
        """So many bytes are there. `last` is told whatever the time."""
        self.transferred = transferred
        now = self._clock()
        if last or now - self._told >= INTERVAL:
            figures = self.figures(now)
            self._told, self._told_bytes = now, transferred
            self._report(min(1.0, transferred / self._size) if self._size else 1.0, None, figures)

    def figures(self, now: float | None = None) -> dict[str, Any]:
        """`transferred` bytes, `elapsed` seconds, `instant` and `average` bytes a second (of this attempt)."""
        now = self._clock() if now is None else now
        elapsed, since = now - self._begun, now - self._told
        average = _rate(self.transferred - self._start, elapsed)
        instant = _rate(self.transferred - self._told_bytes, since) if since >= INTERVAL else average
        return {
            "transferred": self.transferred,
            "elapsed": round(elapsed, 3),
            "instant": round(instant, 1),
            "average": round(average, 1),
        }


def _rate(count: int, seconds: float) -> float:
    # A file that took no measurable time has no rate; its size a millisecond is the largest that is told.
    return count / max(seconds, 0.001)
