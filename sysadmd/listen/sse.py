"""Server-sent events: one subscription as an HTTP response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sysadmd.errors import Unavailable
from sysadmd.events.log import EventLog
from sysadmd.events.record import Record
from sysadmd.events.subscription import Framing, SubscriptionSpec
from sysadmd.wire.sse import COMMENT, SSE

KEEPALIVE = 15.0
"""Seconds between two comments on a quiet stream."""
RETRY = b"retry: 2000\n\n"
"""Milliseconds that a browser waits before it connects again."""


def unframed(message: bytes, record: Record) -> bytes:
    """The dialect's text is the stream's text."""
    return message


class StreamSink:
    """Holds one chunk: while the response has not taken it, events wait in the subscription's bounded queue."""

    framing: Framing = staticmethod(unframed)

    def __init__(self) -> None:
        self._chunk = b""
        self._ready = asyncio.Event()
        self._closed: str | None = None

    def writable(self) -> bool:
        """Whether the last chunk was taken."""
        return not self._chunk

    def write(self, data: bytes) -> None:
        """Hand over the next chunk. A subscription writes again only when this one was taken."""
        self._chunk += data
        self._ready.set()

    def overflow_close(self, reason: str) -> None:
        """End the stream with a stated reason."""
        self._closed = reason
        self._ready.set()

    async def take(self) -> bytes | None:
        """The next chunk, a comment after a quiet time, or None once the stream was closed."""
        try:
            await asyncio.wait_for(self._ready.wait(), KEEPALIVE)
        except TimeoutError:
            return COMMENT
        self._ready.clear()
        chunk, self._chunk = self._chunk, b""
        return chunk or (None if self._closed is not None else COMMENT)

    @property
    def reason(self) -> str:
        """Why the stream was closed."""
        return self._closed or ""


async def stream(events: EventLog, spec: SubscriptionSpec, open_sinks: set[StreamSink]) -> AsyncIterator[bytes]:
    """The body of the response. `open_sinks` lets a stopping server end every stream."""
    sink = StreamSink()
    open_sinks.add(sink)
    yield RETRY
    subscription = events.subscribe(spec, sink)
    try:
        while (chunk := await sink.take()) is not None:
            yield chunk
            subscription.resume()
        yield SSE.error(None, Unavailable(sink.reason))
    finally:
        subscription.close()
        open_sinks.discard(sink)
