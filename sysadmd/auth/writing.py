"""What auth needs of the event log: an ordered, durable write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Writer(Protocol):
    """`EventLog`, or a stand-in of a test."""

    def submit(self, write: Callable[[Connection], tuple[T, Sequence[Any]]]) -> asyncio.Future[T]:
        """Run `write` in the next transaction; the future has its result after the commit."""
        ...
