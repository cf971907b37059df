"""WebSocket on the HTTP port: an upgrade at `/ws`, for peers to whom a firewall or a proxy leaves that one port.

It is the same session as on the WebSocket port. The ASGI interface takes one message at a time and waits for each, so
the outlet keeps whole messages, joined with their lengths before them, until a task of the connection has sent them;
while more than the write buffer's limit waits there, events stay in the bounded queues of their subscriptions and
nothing is read from the peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import anyio
import structlog
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from sysadmd.auth.identity import Peer
from sysadmd.events.subscription import Framing
from sysadmd.listen.measured import measured, messages
from sysadmd.listen.pending import Leave
from sysadmd.listen.websocket import CLOSE_TRY_LATER, SECRET_PARAMETERS, WebSocketListener, close_reason
from sysadmd.rpc.engine import CLOSE_POLICY, Engine
from sysadmd.rpc.session import Session

log = structlog.get_logger(__name__)

LIMIT_FRAMES = "sysadmd.limit_frames"
"""Name of the ASGI extension whose key `set` takes the largest message that is accepted, in bytes."""


class UpgradeOutlet:
    """What a session writes to. `limit` is the bytes that may wait before the peer counts as slow."""

    framing: Framing = staticmethod(measured)

    def __init__(self, limit: int, limit_frames: Callable[[int], None]) -> None:
        self.closing: tuple[int, str] | None = None
        self._limit_frames = limit_frames
        self._limit = limit
        self._waiting: list[bytes] = []
        self._size = 0
        self._filled, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()

    def writable(self) -> bool:
        """Whether the peer keeps up."""
        return self._size < self._limit and self.closing is None

    def write(self, data: bytes) -> None:
        """Keep messages until they are sent."""
        self._waiting.append(data)
        self._size += len(data)
        self._filled.set()
        if self._size >= self._limit:
            self._room.clear()

    def send(self, payload: bytes) -> None:
        """Keep one message, unless the connection is closing."""
        if payload and self.closing is None:
            self.write(measured(payload))

    def limit_frames(self, size: int) -> None:
        """Refuse messages above `size` bytes with the close code 1009."""
        self._limit_frames(size)

    def close(self, code: int, reason: str) -> None:
        """Close after what waits."""
        if self.closing is None:
            self.closing = (code, close_reason(reason))
            self._filled.set()
            self._room.set()

    def overflow_close(self, reason: str) -> None:
        """A subscription with the policy `close` overflowed."""
        self.close(CLOSE_TRY_LATER, reason)

    async def take(self) -> bytes:
        """What waits, at least one message unless the outlet is closing."""
        while not self._waiting and self.closing is None:
            self._filled.clear()
            await self._filled.wait()
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._room.set()
        return data

    async def room(self) -> None:
        """Wait until the peer has taken enough."""
        await self._room.wait()


class Upgrade:
    """The endpoint. `rules` is the listener whose origins and dialect apply here too."""

    def __init__(self, engine: Engine, rules: WebSocketListener) -> None:
        self._engine, self._rules = engine, rules

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, from its handshake to its end."""
        if not self._is_allowed(websocket):
            await websocket.close(CLOSE_POLICY)  # before the handshake: the peer gets 403
            return
        address = websocket.client.host if websocket.client else "unknown"
        pending = self._rules.pending
        leave = None if pending is None else pending.admit(address)
        if pending is not None and leave is None:
            await websocket.send_denial_response(
                PlainTextResponse("too many connections\n", HTTPStatus.SERVICE_UNAVAILABLE)
            )
            return
        try:
            await self._converse(websocket, address, leave)
        finally:
            if leave is not None:
                leave()

    async def _converse(self, websocket: WebSocket, address: str, leave: Leave | None) -> None:
        await websocket.accept()
        limits = self._engine.limits
        outlet = UpgradeOutlet(limits.write_buffer, websocket.scope["extensions"][LIMIT_FRAMES]["set"])
        classic = self._rules.speaks_classic(websocket.headers.get("origin"))
        session = self._engine.open(outlet, Peer(address, "upgrade"), classic=classic)
        session.leave = leave
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send, websocket, session, outlet, tasks.cancel_scope)
                await _receive(websocket, session, outlet)
                tasks.cancel_scope.cancel()
        finally:
            session.close()

    def _is_allowed(self, websocket: WebSocket) -> bool:
        headers = websocket.headers
        if SECRET_PARAMETERS & {name.lower() for name in websocket.query_params}:
            return False
        return self._rules.allows(headers.getlist("origin"), headers.getlist("host"), cookie="cookie" in headers)

    async def _send(
        self, websocket: WebSocket, session: Session, outlet: UpgradeOutlet, connection: anyio.CancelScope
    ) -> None:
        limits = self._engine.limits
        try:
            while True:
                for message in messages(await outlet.take()):
                    with anyio.fail_after(limits.ping_interval + limits.ping_timeout):
                        await websocket.send_text(message.decode())
                if outlet.closing is not None:
                    await websocket.close(*outlet.closing)
                    break
                session.subscriptions.resume()
        except (TimeoutError, WebSocketDisconnect, RuntimeError) as error:
            # RuntimeError is how Starlette says that the other side has closed already.
            log.info("connection ended", address=session.peer.address, reason=str(error) or "the peer does not read")
        connection.cancel()


async def _receive(websocket: WebSocket, session: Session, outlet: UpgradeOutlet) -> None:
    """Hand over frames until the peer has gone."""
    while outlet.closing is None:
        event = await websocket.receive()
        if event["type"] == "websocket.disconnect":
            return
        text = event.get("text")
        session.receive(event["bytes"] if text is None else text)
        await outlet.room()
    await anyio.sleep_forever()  # the sender closes, after what waits
