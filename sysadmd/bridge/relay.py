"""The bridge's listener: servers and clients that cannot reach each other dial it, and it relays between them.

It is the asyncio server of `websockets` (`listen.websocket`), with TLS, whose connections hand over what they read
without a queue or a task of their own (`connection`). What becomes of it is `exchange`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from sysadmd.bridge.connection import BridgeConnection
from sysadmd.bridge.exchange import Exchange
from sysadmd.bridge.figures import Figures
from sysadmd.bridge.forwarded import Proxies
from sysadmd.bridge.login import Keys
from sysadmd.bridge.peer import PeerInfo
from sysadmd.limits import Limits
from sysadmd.listen.origin import CLASSIC_ORIGINS
from sysadmd.listen.pending import Pending
from sysadmd.listen.websocket import address_of, close_reason, harden

CLOSE_GOING_AWAY = 1001
BEATS = 4
"""How often within `ping_interval` it is looked who was silent."""


class Relay:
    """One bridge. `keyring` knows the keys that may log in, `hostname` is what the bridge calls itself, `pending` are
    the places for connections that are not logged in, `trusted_proxies` addresses and networks whose X-Forwarded-For is
    believed (ValueError for what is none). `answer` may answer a request that is none for a WebSocket.
    """

    def __init__(
        self,
        keyring: Keys,
        *,
        hostname: str,
        limits: Callable[[], Limits],
        pending: Pending | None = None,
        trusted_proxies: Sequence[str] = (),
        answer: Callable[[ServerConnection, Request], Response | None] | None = None,
    ) -> None:
        self.exchange = Exchange(keyring, hostname=hostname, limits=limits)
        self._limits, self._pending, self._answer = limits, pending, answer
        self._proxies = Proxies(trusted_proxies)
        self._server: Server | None = None
        self._beat: asyncio.TimerHandle | None = None

    @property
    def figures(self) -> Figures:
        """What was counted since the start."""
        return self.exchange.figures

    async def start(self, **address: Any) -> None:
        """Listen. `address` is what asyncio's `create_server` takes (`host`, `port`, `ssl`)."""
        limits = self._limits()
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
        self._look_around()

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
        await self.exchange.drain(code, reason)
        self._server.close(code=code, reason=close_reason(reason))
        await self._server.wait_closed()

    def trust(self, proxies: Sequence[str]) -> None:
        """From the next connection on, believe these proxies. Raises ValueError."""
        self._proxies = Proxies(proxies)

    def peers(self) -> list[PeerInfo]:
        """Those who are logged in, the one that came first in front."""
        return self.exchange.peers()

    def keys_changed(self) -> None:
        """The keyring changed: end the connections of keys that are gone."""
        self.exchange.keys_changed()

    def _look_around(self) -> None:
        step = self._limits().ping_interval / BEATS
        self._beat = asyncio.get_running_loop().call_later(step, self._look_around)  # first, whatever the look brings
        self.exchange.look_around()

    def _connection(self, protocol: ServerProtocol, server: Server, **options: Any) -> BridgeConnection:
        limits = self._limits()
        protocol.max_message_size = limits.frame_unauthenticated
        # No pings of the library's, each of which would have a task: `_look_around` sees to all connections.
        options = {**options, "ping_interval": None, "ping_timeout": limits.ping_timeout}
        options["write_limit"] = limits.write_buffer
        connection = BridgeConnection(self.exchange, self._proxies.trusts, protocol, server, **options)
        connection.pending = self._pending
        return connection

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, BridgeConnection)
        page = self._answer(connection, request) if self._answer is not None else None
        if page is not None:
            return page
        limits, headers = self._limits(), request.headers
        address = address_of(connection)
        full = len(connection.server.all_connections) >= limits.connections
        if self._proxies.trusts(address):
            address = self._proxies.client(address, headers.get_all("X-Forwarded-For"))
            if self._pending is not None and not full:
                connection.leave = self._pending.admit(address)
                full = connection.leave is None
        if full:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        classic = not CLASSIC_ORIGINS.isdisjoint(headers.get_all("Origin"))
        peer = self.exchange.open(connection, address, classic=classic)
        connection.attach(peer, limits.auth_timeout)
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        """One connection's task, which waits nearly always: it is where proofs are checked, one after the other."""
        assert isinstance(connection, BridgeConnection)
        peer, dialogue = connection.peer, self.exchange.dialogue
        assert peer is not None
        assert connection.request is not None
        connection.request.headers.clear()  # a peer may have sent a MiB, which nobody reads again
        connection.request.path = ""
        dialogue.begin(peer)
        while connection.writes() and not (peer.key or peer.gone):
            if peer.proof is None:
                await connection.woken()
            if peer.proof is not None:
                await dialogue.check(peer, peer.proof)
        await connection.wait_closed()
