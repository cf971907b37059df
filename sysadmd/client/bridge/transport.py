"""A connection to a server behind a bridge, as a transport like any other.

Each is a connection to the bridge of its own, and one session with one server. `open` does all that is needed one after
the other: the log-in at the bridge, the choice of the peer, the question for its key, the handshake. From then on one
task reads the bridge and one writes to it. They belong to the transport: `aclose` ends and awaits them.

The reading does not wait for the reader of the messages. What a sealed session has on the way is bounded by its window,
which is given back when the messages were taken; so a slow reader slows the server down, and the bridge, whose pings
come on the same connection, notices nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from sysadmd.client.bridge.finder import Finder
from sysadmd.client.bridge.login import Bridge
from sysadmd.client.bridge.peers import PROBE, Peer, identity_in, is_id, shown
from sysadmd.client.bridge.session import ClearSession, SealedSession, Session
from sysadmd.client.bridge.trust import ServerTrust, Trusting, wrong_key
from sysadmd.client.errors import ConnectFailed, ConnectionLost
from sysadmd.keys.seal import Seal, SealError
from sysadmd.wire.relay import sealed_close

PATIENCE = 5.0
"""Seconds for a server that is not there (yet): it may be connecting again, as after a restart of the bridge."""
FAREWELL = 1.0
"""Seconds for telling the server that the session is over; an original bridge would not."""


class BridgeTransport:
    """One session with the server that `wanted` names, through `bridge`, which is not open yet.

    `trusting` tells which servers' keys are accepted, `where` names the two in error texts. `patience`: seconds to wait
    for the server to appear.
    """

    def __init__(
        self, bridge: Bridge, wanted: str, trusting: Trusting, where: str, *, patience: float = PATIENCE
    ) -> None:
        self._bridge, self._wanted, self._trusting, self._where = bridge, wanted, trusting, where
        self._patience = patience
        self.binding = ""
        self._doing = "no answer of the bridge"
        self._peer = Peer("")
        self._session: Session | None = None
        self._inbox: deque[bytes] = deque()
        self._lost: ConnectionLost | None = None
        self._tasks: list[asyncio.Task[None]] = []
        # Each is set when the thing may have changed that somebody waits for.
        self._arrived, self._taken = asyncio.Event(), asyncio.Event()
        self._to_write, self._written = asyncio.Event(), asyncio.Event()

    @property
    def in_clear(self) -> bool:
        """Whether the bridge can read and forge what is said."""
        return self._session is not None and self._session.in_clear

    async def open(self, timeout: float) -> None:
        """Log in at the bridge, find the server and agree on a session, within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._bridge.open(timeout)
                self._peer = await self._choose()
                self._session = await self._agree()
        except TimeoutError as error:
            raise ConnectFailed(f"{self._where}: {self._doing} within {timeout:g} s") from error
        except ConnectionLost as error:
            raise ConnectFailed(str(error)) from error
        self.binding = self._session.binding
        self._tasks = [
            asyncio.create_task(self._reading(), name="sysadmd bridge reader"),
            asyncio.create_task(self._writing(self._session), name="sysadmd bridge writer"),
        ]

    async def send(self, message: bytes) -> None:
        """Send one message, as soon as what was sent before it has gone."""
        session = self._opened()
        while not session.writable and self._lost is None:
            self._written.clear()
            await self._written.wait()
        if self._lost is not None:
            raise ConnectionLost(str(self._lost))
        session.send(message)
        self._to_write.set()

    async def receive(self) -> bytes:
        """The next message."""
        session = self._opened()
        while not self._inbox:
            if self._lost is not None:
                raise ConnectionLost(str(self._lost))
            self._arrived.clear()
            await self._arrived.wait()
        message = self._inbox.popleft()
        self._taken.set()
        if not self._inbox:
            session.release()
            self._to_write.set()
        return message

    async def aclose(self) -> None:
        """Take leave of the server, and close the connection to the bridge."""
        alive = self._lost is None and self._session is not None
        self._end(ConnectionLost("the client was closed"))
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if alive and not self.in_clear:
            with contextlib.suppress(ConnectionLost, TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await self._bridge.relay(self._peer.id, sealed_close("the client is done"))
        await self._bridge.aclose()

    # Opening

    async def _choose(self) -> Peer:
        """The peer that is meant, as soon as it is announced."""
        self._doing = "no such server"
        finder = Finder(self._bridge)
        try:
            async with asyncio.timeout(self._patience):
                found = await finder.find(self._wanted)
        except TimeoutError:
            found = finder.matching(self._wanted)
        if not found:
            reached = shown(finder.peers())
            hint = f"; it reaches {reached}" if reached else ", nor any other that knows this key"
            raise ConnectFailed(f"{self._where}: the bridge reaches no server {self._wanted!r}{hint}")
        if len(found) > 1:
            raise ConnectFailed(
                f"{self._where}: {self._wanted!r} names {len(found)} servers; say which by its id: {shown(found)}"
            )
        return found[0]

    async def _agree(self) -> Session:
        """Ask the server for its key, and seal a session with it; nothing else was sent if that fails."""
        trust, self._doing = await asyncio.to_thread(self._trusting), "no answer of the server"
        await self._bridge.relay(self._peer.id, PROBE)
        identity = None
        while identity is None:
            identity = identity_in(await self._payload())
        name = (identity.hostname or self._peer.hostname) if is_id(self._wanted) else self._wanted
        trust.check(self._where, name, identity.seal)
        if identity.seal is None:
            return ClearSession()
        return await self._seal(trust)

    async def _seal(self, trust: ServerTrust) -> SealedSession:
        self._doing = "no sealed session"
        seal = Seal.client(trust.accepts)
        session = SealedSession(seal)
        try:
            while True:
                for payload in seal.outgoing():
                    await self._bridge.relay(self._peer.id, payload)
                if seal.established:
                    return session
                payload = await self._payload()
                if payload[:1] in (b"~", b"^", b"!"):
                    self._inbox.extend(seal.receive(payload))
        except SealError as error:
            if error.code == "untrusted":
                raise wrong_key(self._where, seal.peer_key) from error
            raise ConnectFailed(f"{self._where}: {error}") from error

    async def _payload(self) -> bytes:
        """The next payload of the peer. Raises `ConnectionLost` when it has gone."""
        while True:
            relayed = await self._bridge.receive()
            if self._peer.id not in self._bridge.peers:
                raise ConnectionLost(f"{self._where}: the server left the bridge")
            if relayed is not None and relayed[0] == self._peer.id:
                return relayed[1]

    # Running

    async def _reading(self) -> None:
        session = self._opened()
        try:
            while True:
                self._inbox.extend(session.receive(await self._payload()))
                self._arrived.set()
                self._to_write.set()
                while session.full(len(self._inbox)):
                    self._taken.clear()
                    await self._taken.wait()
        except ConnectionLost as error:
            self._end(error)
        finally:
            self._end(ConnectionLost(f"{self._where}: the connection is no longer read"))

    async def _writing(self, session: Session) -> None:
        try:
            while True:
                self._to_write.clear()
                for payload in session.outgoing():
                    await self._bridge.relay(self._peer.id, payload)
                self._written.set()
                await self._to_write.wait()
        except ConnectionLost as error:
            self._end(error)

    def _opened(self) -> Session:
        if self._session is None:
            raise AssertionError("the transport is not open")
        return self._session

    def _end(self, error: ConnectionLost) -> None:
        self._lost = self._lost or error
        for event in (self._arrived, self._taken, self._to_write, self._written):
            event.set()
