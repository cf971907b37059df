"""Server-sent events: one subscription as an HTTP response.

A stream is a session like any other, so that an expired or revoked identity, a changed policy and a stopping server
end or change it in the same way; only its outlet is made for something that is pulled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from sysadmd.errors import Unavailable
from sysadmd.events.subscription import Framing
from sysadmd.listen.discard import unframed
from sysadmd.rpc.session import Session
from sysadmd.wire.sse import COMMENT, SSE

log = structlog.get_logger(__name__)

KEEPALIVE = 15.0
"""Seconds between two comments on a quiet stream."""
RETRY = b"retry: 2000\n\n"
"""Milliseconds that a browser waits before it connects again."""


class StreamOutlet:
    """Holds one chunk: while the response has not taken it, events wait in the subscription's bounded queue."""

    framing: Framing = staticmethod(unframed)

    def __init__(self, keepalive: float = KEEPALIVE) -> None:
        self._keepalive = keepalive
        self._chunk = b""
        self._ready = asyncio.Event()
        self._closed: str | None = None

    def writable(self) -> bool:
        """Whether the last chunk was taken."""
        return not self._chunk and self._closed is None

    def write(self, data: bytes) -> None:
        """Hand over the next chunk. A subscription writes again only when this one was taken."""
        self._chunk += data
        self._ready.set()

    def send(self, payload: bytes) -> None:
        """Drop: nothing is asked on a stream, so nothing is answered."""

    def limit_frames(self, size: int) -> None:
        """Nothing to do: nothing is read from a stream."""

    def close(self, code: int, reason: str) -> None:
        """End the stream, after the chunk that waits, with a stated reason."""
        self._closed = reason
        self._ready.set()

    def overflow_close(self, reason: str) -> None:
        """The same for a subscription that cannot go on."""
        self.close(0, reason)

    async def take(self) -> bytes | None:
        """The next chunk, a comment after a quiet time, or None once the stream was closed."""
        if not self._chunk and self._closed is None:
            self._ready.clear()
            try:
                await asyncio.wait_for(self._ready.wait(), self._keepalive)
            except TimeoutError:
                return COMMENT
        chunk, self._chunk = self._chunk, b""
        return chunk or None

    @property
    def reason(self) -> str:
        """Why the stream was closed."""
        return self._closed or ""


async def stream(session: Session, outlet: StreamOutlet) -> AsyncIterator[bytes]:
    """The body of the response: what the session's subscription writes, until somebody closes the outlet."""
    yield RETRY
    while (chunk := await outlet.take()) is not None:
        yield chunk
        session.subscriptions.resume()
    yield SSE.error(None, Unavailable(outlet.reason))


class EventStream(StreamingResponse):
    """The response. However it ends, and if it never begins, its session ends with it."""

    media_type = "text/event-stream"

    def __init__(self, session: Session, outlet: StreamOutlet, *, patience: float = 40.0) -> None:
        super().__init__(stream(session, outlet), headers={"X-Accel-Buffering": "no"})
        self._session, self._patience = session, patience

    def abandon(self) -> None:
        """It will not be sent."""
        self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. A client that takes nothing for `patience` seconds is gone: HTTP has no ping to ask it."""

        async def within_patience(message: Message) -> None:
            with anyio.fail_after(self._patience):
                await send(message)

        try:
            await super().__call__(scope, receive, within_patience)
        except (ClientDisconnect, TimeoutError):
            log.info("event stream ended", address=self._session.peer.address, reason="its client reads no more")
        finally:
            self._session.close()
