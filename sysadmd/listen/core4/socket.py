"""The event socket: a WebSocket at `/core4/api/v1/event` (spec job-queues §1.6, §3.7).

It is a session like any other, which ends with its token, its account or the server; only what is said on it is
core4's. Who opens it is asked at the handshake, and refused with 401 there.

A client that does not read is cut with a close code of its own, 4008, once more waits for it than one subscription may
have. It comes back and names the `seq` of the last record that it got. Summaries never do that: of those that wait, the
newest is sent, and none that says what the last one said.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anyio
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from sysadmd.auth.identity import Peer
from sysadmd.errors import Forbidden, RpcError, Unauthorized
from sysadmd.events.record import Draft, Record
from sysadmd.events.subscription import Framing
from sysadmd.listen.core4.arguments import Arguments, query_of
from sysadmd.listen.core4.channels import Channels
from sysadmd.listen.core4.envelope import code_of, failure, new_id
from sysadmd.listen.core4.names import EVENT
from sysadmd.listen.door import Door
from sysadmd.listen.measured import measured, messages
from sysadmd.listen.upgrade import LIMIT_FRAMES, Upgrade, UpgradeOutlet
from sysadmd.listen.websocket import WebSocketListener
from sysadmd.rpc.engine import CLOSE_POLICY
from sysadmd.rpc.session import Session
from sysadmd.wire import core4
from sysadmd.wire.core4 import SUMMARY, Chat, Core4Dialect, Incoming, Interest

CLOSE_OVERFLOW = 4008
"""The client did not read (RFC 6455 §7.4.2: 4000 to 4999 are for applications)."""
_PLAIN, _SUMMARY = b"-", b"s"
"""The first byte of a frame on its way to the socket."""


def marked(message: bytes, record: Record) -> bytes:
    """A framed message that says whether it is a summary. One plain function for all sockets."""
    is_summary = record.topic == "queue" and record.data["event"] == SUMMARY
    return measured((_SUMMARY if is_summary else _PLAIN) + message)


class EventOutlet(UpgradeOutlet):
    """What the session of an event socket writes to."""

    framing: Framing = staticmethod(marked)

    def __init__(self, limit: int, limit_frames: Callable[[int], None]) -> None:
        super().__init__(limit, limit_frames)
        self._told: bytes | None = None

    def forget(self) -> None:
        """Send the next summary even if it says what the last one said."""
        self._told = None

    def send(self, payload: bytes) -> None:
        """Keep one answer, unless the connection is closing."""
        if self.closing is None:
            self.write(measured(_PLAIN + payload))

    def overflow_close(self, reason: str) -> None:
        """Too much waits."""
        self.close(CLOSE_OVERFLOW, reason)

    async def take(self) -> bytes:
        """What waits and is worth sending."""
        return b"".join(map(measured, self._worth(list(messages(await super().take())))))

    def _worth(self, waiting: Sequence[bytes]) -> Iterator[bytes]:
        newest = max((n for n, frame in enumerate(waiting) if frame[:1] == _SUMMARY), default=-1)
        for n, frame in enumerate(waiting):
            if frame[:1] == _PLAIN:
                yield frame[1:]
            elif n == newest and (rows := core4.rows_of(frame)) != self._told:
                self._told = rows
                yield frame[1:]


class EventSocket(Upgrade):
    """The endpoint. `summary` tells what is in the queue now."""

    def __init__(self, door: Door, rules: WebSocketListener, summary: Callable[[], Sequence[Any]]) -> None:
        super().__init__(door.engine, rules)
        self._door, self._summary = door, summary
        self._dialect = Core4Dialect(_user())

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, from its handshake to its end."""
        headers = websocket.headers
        if not self._rules.allows(headers.getlist("origin"), headers.getlist("host"), cookie="cookie" in headers):
            await websocket.close(CLOSE_POLICY)  # before the handshake: the peer gets 403
            return
        address = websocket.client.host if websocket.client else "unknown"
        pending = self._rules.pending
        leave = None if pending is None else pending.admit(address)
        if pending is not None and leave is None:
            await websocket.send_denial_response(PlainTextResponse("too many connections\n", 503))
            return
        outlet = EventOutlet(self._engine.limits.write_buffer, websocket.scope["extensions"][LIMIT_FRAMES]["set"])
        session = self._engine.open(outlet, Peer(address, "upgrade"))
        session.leave = leave
        try:
            if await self._is_admitted(websocket, session):
                await self._listen(websocket, session, outlet)
        finally:
            session.close()
            if leave is not None:
                leave()

    async def _is_admitted(self, websocket: WebSocket, session: Session) -> bool:
        """Log in and authorise, or refuse the handshake."""
        engine, key = self._engine, EVENT.key("read")
        try:
            engine.refuse_while_draining()
            with anyio.fail_after(engine.limits.auth_timeout):
                await self._identify(websocket, session)
            if session.scope is None:
                raise Unauthorized
            if not EVENT.permits(session.scope, "read"):
                raise Forbidden(f"{session.scope.account} may not call {key}")
        except RpcError as error:
            engine.count(key, code_of(error))
            now = engine.events.now()
            challenge = {"WWW-Authenticate": 'Bearer realm="sysadmd"'} if isinstance(error, Unauthorized) else None
            await websocket.send_denial_response(failure(new_id(now), now, error, challenge))
            return False
        engine.count(key, 200)
        return True

    async def _identify(self, websocket: WebSocket, session: Session) -> None:
        await self._door.identify(websocket, session)
        if session.scope is None:
            args = Arguments(query_of(websocket.scope))
            token, name, password = args.text("token"), args.text("username"), args.secret()
            if token is not None:
                await self._door.by_token(token, session)
            elif name is not None and password is not None:
                await self._door.by_password(name, password, session)

    async def _listen(self, websocket: WebSocket, session: Session, outlet: EventOutlet) -> None:
        assert session.scope is not None
        channels = Channels(self._engine, outlet, session.scope, self._dialect, self._summary)
        session.subscriptions = channels
        await websocket.accept()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send, websocket, session, outlet, tasks.cancel_scope)
            await self._receive(websocket, session, channels, outlet)
            tasks.cancel_scope.cancel()

    async def _receive(self, websocket: WebSocket, session: Session, channels: Channels, outlet: EventOutlet) -> None:
        """Do what the client says until it has gone, one thing after the other."""
        while outlet.closing is None and session.scope is not None:
            event = await websocket.receive()
            if event["type"] == "websocket.disconnect":
                return
            session.last_message = self._engine.monotonic()
            text = event.get("text")
            said = core4.decode(event["bytes"] if text is None else text, self._engine.limits.json_depth)
            await self._do(said, session, channels, outlet)
            await outlet.room()
        await anyio.sleep_forever()  # the sender closes, after what waits

    async def _do(self, said: Incoming, session: Session, channels: Channels, outlet: EventOutlet) -> None:
        if isinstance(said, bytes):
            outlet.send(said)
            return
        try:
            if isinstance(said, Interest):
                outlet.send(core4.accepted(said.channels))
                outlet.forget()
                channels.replace(said.channels, said.since)
            elif session.scope is not None:
                outlet.send(await self._publish(said, session.scope.account, channels))
        except RpcError as error:
            outlet.send(core4.refusal(error, sent=isinstance(said, Chat)))

    async def _publish(self, said: Chat, author: str, channels: Channels) -> bytes:
        """Keep a message and give it to all who listen, the author among them from now on."""
        joined = said.channel not in channels.names
        if joined:
            channels.add_channel(said.channel)
        events = self._engine.events
        message_id = new_id(events.now())
        named = {"event": "message", "id": message_id, "author": author, "channel": said.channel, "data": said.text}
        draft = Draft("event", named, durable=True)
        await asyncio.shield(events.submit(lambda connection: (None, [draft])))
        return core4.sent(message_id, joined=joined)


def _user() -> str:
    """The user that the server runs as; by its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "sysadmd"
