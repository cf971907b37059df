"""Log-ins of one address prefix wait for each other.

So a count of failures is exact however many tries are sent at once: the next one is looked at when the one before it
has been judged. And the lane in which passwords are checked is shared among prefixes, not taken by the one that sends
most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sysadmd.errors import TooManyRequests


@dataclass(slots=True)
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    inside: int = 0


class Turns:
    """One at a time for each prefix."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(self, prefix: str, queued: int) -> AsyncIterator[None]:
        """Wait for the prefix's turn and have it. Raises TooManyRequests when `queued` wait already."""
        line = self._lines.setdefault(prefix, _Line())
        if line.inside > queued:
            raise TooManyRequests(f"{queued} log-ins from this address wait already")
        line.inside += 1
        try:
            async with line.lock:
                yield
        finally:
            line.inside -= 1
            if not line.inside:
                del self._lines[prefix]  # one for each prefix that ever came would be a leak
