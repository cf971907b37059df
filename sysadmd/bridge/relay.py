"""The bridge's listener: servers and clients that cannot reach each other dial it, and it relays between them.

It is the asyncio server of `websockets` (`listen.websocket`), with TLS, whose connections hand over what they read
without a queue or a task of their own (`connection`). What a peer says to the bridge is answered by `dialogue`, who is
paired with whom is known to `roster`, and `switch` moves everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from sysadmd.auth.lane import Lane
from sysadmd.bridge.allowance import Meter
from sysadmd.bridge.connection import BridgeConnection
from sysadmd.bridge.dialogue import CLOSE_POLICY, COST, Dialogue
from sysadmd.bridge.figures import Figures
from sysadmd.bridge.forwarded import Proxies
from sysadmd.bridge.login import Desk, Keys
from sysadmd.bridge.peer import Peer, PeerInfo
from sysadmd.bridge.roster import Roster
from sysadmd.bridge.switch import Switch
from sysadmd.limits import Limits
from sysadmd.listen.origin import CLASSIC_ORIGINS
from sysadmd.listen.pending import Pending
from sysadmd.listen.websocket import address_of, close_reason, harden

log = structlog.get_logger(__name__)

CLOSE_GOING_AWAY = 1001
LONGEST_PAUSE = 10.0
"""Seconds for which a peer that sent too much is not read, whatever it owes."""
BEATS = 4
"""How often within `ping_interval` it is looked who was silent."""


class Relay:
    """One bridge. `keyring` knows the keys that may log in, `hostname` is what the bridge calls itself, `pending` are
    the places for connections that are not logged in, `trusted_proxies` addresses and networks whose X-Forwarded-For is
    believed (ValueError for what is none). `lane` is where proofs are checked; `answer` may answer a request that is
    none for a WebSocket.
    """

    def __init__(
        self,
        keyring: Keys,
        *,
        hostname: str,
        limits: Callable[[], Limits],
        pending: Pending | None = None,
        trusted_proxies: Sequence[str] = (),
        lane: Lane | None = None,
        answer: Callable[[ServerConnection, Request], Response | None] | None = None,
    ) -> None:
        self.figures = Figures()
        self._hostname, self._limits, self._pending = hostname, limits, pending
        self._desk, self._proxies, self._answer = Desk(keyring, lane), Proxies(trusted_proxies), answer
        self._server: Server | None = None
        self._beat: asyncio.TimerHandle | None = None

    async def start(self, **address: Any) -> None:
        """Listen. `address` is what asyncio's `create_server` takes (`host`, `port`, `ssl`)."""
        limits = self._limits()
        self._loop = asyncio.get_running_loop()
        self._roster = Roster(self._limits, self.figures, self._say)
        self._switch = Switch(
            self._limits,
            self.figures,
            converse=self._converse,
            known=self._roster.__contains__,
            announce=self._roster.announce,
            lost=self.lost,
        )
        self.dialogue = Dialogue(
            self._limits, self.figures, self._desk, self._roster, self._switch, hostname=self._hostname
        )
        self._server = await serve(
            self._serve,
            compression=None,
            process_request=self._process_request,
            process_response=harden,
            server_header="sysadmd-bridge",
            open_timeout=limits.handshake_timeout,
            close_timeout=limits.drain,
            create_connection=self._connection,  # type: ignore[arg-type]  # documented: a wrapper or a subclass
            **address,
        )
        self._beat = self._loop.call_later(limits.ping_interval / BEATS, self._look_around)

    @property
    def addresses(self) -> list[Any]:
        """The addresses that it listens on, as the sockets tell them."""
        return [] if self._server is None else [sock.getsockname() for sock in self._server.sockets]

    def stop_accepting(self) -> None:
        """Close the listening sockets; open connections go on."""
        if self._server is not None:
            self._server.server.close()

    async def stop(self, code: int = CLOSE_GOING_AWAY, reason: str = "the bridge is stopping") -> None:
        """Take no more, write what waits, and close every connection: both have `drain` at most."""
        if self._server is None:
            return
        self.stop_accepting()
        if self._beat is not None:
            self._beat.cancel()
        for peer in self._roster:
            self._switch.hold(peer, "stop")
        try:
            async with asyncio.timeout(self._limits().drain):
                await self._switch.drained()
        except TimeoutError:
            log.warning("some peers did not read to the end")
        for peer in self._roster:
            self._switch.release(peer)  # its closing handshake is to be read
            self._switch.end(peer, code, reason, why="stop")
        self._server.close(code=code, reason=close_reason(reason))
        await self._server.wait_closed()

    def trust(self, proxies: Sequence[str]) -> None:
        """From the next connection on, believe these proxies. Raises ValueError."""
        self._proxies = Proxies(proxies)

    def peers(self) -> list[PeerInfo]:
        """Those who are logged in, the one that came first in front."""
        return [peer.info() for peer in self._roster if peer.key]

    def keys_changed(self) -> None:
        """The keyring changed: end the connections of keys that are gone."""
        keys = self._desk.changed()
        for peer in self._roster:
            if peer.key and peer.key not in keys:
                self._switch.end(peer, CLOSE_POLICY, "its key is no longer known to this bridge", why="key")

    # Connections

    def _connection(self, protocol: ServerProtocol, server: Server, **options: Any) -> BridgeConnection:
        limits = self._limits()
        protocol.max_message_size = limits.frame_unauthenticated
        # No pings of the library's, each of which would have a task: `_look_around` sees to all connections.
        options = {**options, "ping_interval": None, "write_limit": limits.write_buffer}
        connection = BridgeConnection(self, self._proxies.trusts, protocol, server, **options)
        connection.ping_timeout = limits.ping_timeout
        connection.pending = self._pending
        return connection

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, BridgeConnection)
        page = self._answer(connection, request) if self._answer is not None else None
        if page is not None:
            return page
        limits, headers = self._limits(), request.headers
        address = address_of(connection)
        full = len(connection.server.all_connections) > limits.connections
        if self._proxies.trusts(address):
            address = self._proxies.client(address, headers.get_all("X-Forwarded-For"))
            if self._pending is not None and not full:
                connection.leave = self._pending.admit(address)
                full = connection.leave is None
        if full:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        classic = not CLASSIC_ORIGINS.isdisjoint(headers.get_all("Origin"))
        now = self._loop.time()
        peer = Peer(connection, address, classic, Meter(limits, now), time.time(), now)
        self.figures.connections += 1
        self._roster.add(peer)
        connection.attach(peer, limits.auth_timeout, self._late)
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        """One connection's task, which waits nearly always: it is where proofs are checked, one after the other."""
        assert isinstance(connection, BridgeConnection)
        peer = connection.peer
        assert peer is not None
        assert connection.request is not None
        connection.request.headers.clear()  # a peer may have sent a MiB, which nobody reads again
        connection.request.path = ""
        self.dialogue.begin(peer)
        while not (peer.key or peer.gone):
            if peer.proof is None:
                await connection.woken()
            if peer.proof is not None:
                await self.dialogue.check(peer, peer.proof)
        await connection.wait_closed()

    def _late(self, peer: Peer) -> None:
        self._switch.end(peer, CLOSE_POLICY, "log in first", why="late")

    def _look_around(self) -> None:
        """Ask whoever was silent for a sign of life, and drop whoever gave none."""
        limits, now = self._limits(), self._loop.time()
        self._beat = self._loop.call_later(limits.ping_interval / BEATS, self._look_around)
        for peer in self._roster:
            silent = now - peer.heard
            if peer.held or silent < limits.ping_interval:
                continue
            if silent >= limits.ping_interval + limits.ping_timeout:
                self._switch.cut(peer, "silent")
            elif peer.pinged < peer.heard:
                peer.pinged = now
                peer.wire.beat()

    # What connections tell (connection.Exchange)

    def received(self, peer: Peer, payloads: list[bytes], frames: int, size: int) -> None:
        """Messages came, in `frames` frames of `size` bytes together."""
        if payloads:
            self._switch.relay(peer, payloads)
        now = self._loop.time()
        peer.heard = now
        frames += peer.extra
        peer.extra = 0
        pause = peer.meter.take(frames, size, self._limits(), now)
        if pause > 0 and not peer.gone:
            self._switch.hold(peer, "rate")
            self._loop.call_later(min(pause, LONGEST_PAUSE), self._switch.release, peer)

    def resumed(self, peer: Peer) -> None:
        """The socket takes more."""
        self._switch.resumed(peer)

    def lost(self, peer: Peer) -> None:
        """The connection is gone, or as good as gone."""
        if not peer.gone:
            peer.gone = True
            self._switch.forget(peer)
            self._roster.remove(peer)
            if peer.key:
                log.info("left", peer=peer.nick, address=peer.address, id=peer.id)

    def hasty(self, address: str) -> None:
        """Somebody spoke before its handshake was answered, and was dropped."""
        self.figures.cut["hasty"] += 1
        log.info("connection cut", reason="hasty", address=address)

    def _say(self, peer: Peer, message: bytes) -> None:
        self._switch.say(peer, message)

    def _converse(self, peer: Peer, payload: bytes) -> None:
        peer.extra += COST
        self.dialogue.receive(peer, payload)
