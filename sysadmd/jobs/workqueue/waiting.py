"""Wakes those who wait for a job, by the log's events: nobody asks the database again and again.

All who wait share one subscription, which there is only while somebody waits. What it writes down of a record is the
job's id and whether the record is about the whole job, so each record is one dictionary look-up, however many wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio

from sysadmd.auth.scope import Scope
from sysadmd.errors import RpcError
from sysadmd.events.catalogue import GAP
from sysadmd.events.log import EventLog
from sysadmd.events.record import Record
from sysadmd.events.subscription import Framing, Subscription, SubscriptionSpec
from sysadmd.wire.messages import Frame, Meta, Request

TOPICS = frozenset({"queue", "workqueue"})
WAKER = Scope("", (), ("event:queue", "event:workqueue", "job:*:read"))
"""Who waits learns that something happened to their job, and nothing else of the record."""
ID_LENGTH = 24
_EVERYBODY = b"*" * ID_LENGTH
_JOB, _ELEMENT = b"j", b"e"


class Waiter:
    """One who waits for a job. `elements`: for what happens to its elements too."""

    def __init__(self, *, elements: bool) -> None:
        self.elements = elements
        self._woken = anyio.Event()

    def wake(self) -> None:
        """Something happened."""
        self._woken.set()

    async def changed(self) -> None:
        """Wait until something has happened since the last time that this returned."""
        await self._woken.wait()
        self._woken = anyio.Event()


class Watch:
    """All who wait for jobs of one log."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._waiting: dict[bytes, set[Waiter]] = {}
        self._subscription: Subscription | None = None

    def __len__(self) -> int:
        return sum(len(waiters) for waiters in self._waiting.values())

    @contextmanager
    def following(self, job_id: str, *, elements: bool) -> Iterator[Waiter]:
        """One who is woken by what happens to this job from now on."""
        key, waiter = job_id.encode(), Waiter(elements=elements)
        if self._subscription is None or self._subscription.closed:
            spec = SubscriptionSpec(topics=TOPICS, dialect=_Wakes(), scope=WAKER, policy="coalesce")
            self._subscription = self._events.subscribe(spec, _Bell(self))
        self._waiting.setdefault(key, set()).add(waiter)
        try:
            yield waiter
        finally:
            self._waiting[key].discard(waiter)
            if not self._waiting[key]:
                del self._waiting[key]
            if not self._waiting:
                self._subscription.close()

    def ring(self, data: bytes) -> None:
        """Wake those whom what the subscription wrote is about."""
        for start in range(0, len(data), ID_LENGTH + 1):
            key = data[start : start + ID_LENGTH]
            if key == _EVERYBODY:
                self.ring_all()
            for waiter in self._waiting.get(key, ()):
                if waiter.elements or data[start + ID_LENGTH : start + ID_LENGTH + 1] == _JOB:
                    waiter.wake()

    def ring_all(self) -> None:
        """Wake everybody: records are missing."""
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.wake()


class _Wakes:
    """The dialect: a job's id and what the record is about."""

    name = "wakes"

    def decode(self, text: str | bytes, depth: int) -> Frame:
        raise NotImplementedError

    def reply(self, request: Request, result: Any) -> bytes:
        raise NotImplementedError

    def error(self, request: Request | None, error: RpcError) -> bytes:
        raise NotImplementedError

    def event(self, topic: str, data: Any, meta: Meta | None = None) -> Sequence[bytes]:
        """25 bytes; none for what is about no job."""
        if topic == GAP:
            return [_EVERYBODY + _JOB]
        job = data.get("job")
        if not isinstance(job, dict):
            return []
        key = str(job.get("id", "")).encode()
        about = _ELEMENT if data.get("event") == "element" else _JOB
        return [key + about] if len(key) == ID_LENGTH else []


def _unframed(message: bytes, record: Record) -> bytes:
    return message


class _Bell:
    """The sink, which always takes."""

    framing: Framing = staticmethod(_unframed)

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        self._watch.ring(data)

    def overflow_close(self, reason: str) -> None:
        self._watch.ring_all()
