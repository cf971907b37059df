"""The newest records, in memory, for followers that resume after a short absence."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import islice

from sysadmd.events.record import Row

_OVERHEAD = 200
"""Bytes of the objects around a row's JSON."""


class Ring:
    """A bounded queue of rows in order of seq. All records after `floor` are in it; `floor` and before are not."""

    def __init__(self, floor: int, events: int, size: int) -> None:
        self.floor = floor
        self._events, self._size = events, size
        self._rows: deque[Row] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: Row) -> None:
        """Add the newest row; the oldest leave when there are too many rows or bytes."""
        self._rows.append(row)
        self._bytes += len(row[4]) + _OVERHEAD
        while len(self._rows) > self._events or self._bytes > self._size:
            old = self._rows.popleft()
            self._bytes -= len(old[4]) + _OVERHEAD
            self.floor = old[0]

    def after(self, seq: int) -> Iterator[Row]:
        """The rows after `seq`, which must not be before `floor`. Not valid after an append."""
        start = bisect_right(self._rows, seq, key=lambda row: row[0])
        return islice(self._rows, start, None)
