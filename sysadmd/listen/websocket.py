"""The WebSocket listener: TLS on 12150, and the same protocol on the Unix socket.

It is the asyncio server of `websockets` with one change in the way out. Replies and events are written to the
transport as finished frames: a server's frames are not masked, and compression is off, so the bytes of a text message
are the same for every connection. An event is therefore encoded and framed once for all of its subscribers, and what
one subscriber gets in one turn of the loop is one `write`. The way in is `recv` as it is, with its flow control: a
peer whose write buffer is full is not read.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from sysadmd.auth.identity import Peer
from sysadmd.events.record import Record
from sysadmd.events.subscription import Framing
from sysadmd.listen.headers import security_headers
from sysadmd.listen.origin import CLASSIC_ORIGINS, origin_allowed
from sysadmd.listen.patience import PatientConnection
from sysadmd.listen.pending import Leave, Pending
from sysadmd.rpc.engine import Engine
from sysadmd.rpc.session import Session

log = structlog.get_logger(__name__)

SECRET_PARAMETERS = frozenset({"token", "password", "passwd", "secret", "access_token"})
CLOSE_TRY_LATER = 1013
REASON_BYTES = 123
"""RFC 6455 §5.5: a control frame has 125 bytes, and two of them are the code."""
TEXT_FRAME = 0x81
"""RFC 6455 §5.2: FIN and opcode 1."""


def text_frame(payload: bytes, record: Record | None = None) -> bytes:
    """A whole unmasked text message (RFC 6455 §5.2), which is the same for every record and every connection."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", TEXT_FRAME, length) + payload
    if length < 65536:
        return struct.pack("!BBH", TEXT_FRAME, 126, length) + payload
    return struct.pack("!BBQ", TEXT_FRAME, 127, length) + payload


def close_reason(text: str) -> str:
    """As much of a text as a close frame holds, in whole characters."""
    return text.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")


class Connection(PatientConnection, ServerConnection):
    """A connection that tells its session when the peer reads again.

    With `pending` it takes a place there, or is dropped.
    """

    session: Session | None = None
    pending: Pending | None = None
    leave: Leave | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The peer is connected, with TLS if there is to be any."""
        super().connection_made(transport)
        if self.pending is not None:
            self.leave = self.pending.admit(address_of(self))
            if self.leave is None:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        if self.leave is not None:
            self.leave()

    def resume_writing(self) -> None:
        """The transport's buffer is below its low-water mark."""
        super().resume_writing()
        if self.session is not None:
            self.session.subscriptions.resume()


class WebSocketOutlet:
    """What a session writes to."""

    __slots__ = ("_closing", "_connection", "_spawn")

    framing: Framing = staticmethod(text_frame)

    def __init__(self, connection: Connection, spawn: Callable[..., None]) -> None:
        self._connection, self._spawn = connection, spawn
        self._closing = False

    def writable(self) -> bool:
        """Whether the transport takes more without piling up."""
        connection = self._connection
        return not connection.paused and connection.protocol.state is State.OPEN

    def write(self, data: bytes) -> None:
        """Write finished frames."""
        self._connection.transport.write(data)

    def send(self, payload: bytes) -> None:
        """Write one text message, unless the connection is closing."""
        if payload and self._connection.protocol.state is State.OPEN:
            self._connection.transport.write(text_frame(payload))

    def limit_frames(self, size: int) -> None:
        """Refuse messages above `size` bytes with the close code 1009."""
        self._connection.protocol.max_message_size = size

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake."""
        if not self._closing:
            self._closing = True
            self._spawn(self._connection.close, code, close_reason(reason))

    def overflow_close(self, reason: str) -> None:
        """A subscription with the policy `close` overflowed."""
        self.close(CLOSE_TRY_LATER, reason)


class WebSocketListener:
    """Serves sessions on one address. `identify` may give a peer its identity at once: by its uid on the Unix
    socket, by its certificate with TLS. `pending` bounds the connections that are not logged in, where strangers come
    from afar.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        kind: str,
        origins: Sequence[str] = (),
        classic: str = "auto",
        identify: Callable[[Session, Connection], Awaitable[None]] | None = None,
        pending: Pending | None = None,
    ) -> None:
        self._engine, self._kind, self.pending = engine, kind, pending
        self.origins, self.classic, self._identify = tuple(origins), classic, identify
        self._server: Server | None = None

    async def start(self, **address: Any) -> None:
        """Listen. `address` is what asyncio's `create_server` takes (`host`, `port`, `ssl`) or `unix=True, path=…`.

        The limits that each connection has are read when it comes (`_connection`), the others here.
        """
        limits = self._engine.limits
        self._server = await serve(
            self._serve,
            compression=None,
            process_request=self._process_request,
            process_response=harden,
            server_header="sysadmd",
            open_timeout=limits.handshake_timeout,
            close_timeout=limits.drain,
            create_connection=self._connection,  # type: ignore[arg-type]  # documented: a wrapper or a subclass
            **address,
        )

    @property
    def addresses(self) -> list[Any]:
        """The addresses that it listens on, as the sockets tell them."""
        return [] if self._server is None else [sock.getsockname() for sock in self._server.sockets]

    def stop_accepting(self) -> None:
        """Close the listening sockets; open connections go on."""
        if self._server is not None:
            self._server.server.close()

    async def stop(self, code: int, reason: str) -> None:
        """Close every connection and wait until they are gone."""
        if self._server is not None:
            self._server.close(code=code, reason=close_reason(reason))
            await self._server.wait_closed()

    def _connection(self, protocol: ServerProtocol, server: Server, **options: Any) -> Connection:
        limits = self._engine.limits
        protocol.max_message_size = limits.frame_unauthenticated
        beats = {"ping_interval": limits.ping_interval, "ping_timeout": limits.ping_timeout}
        connection = Connection(protocol, server, **{**options, **beats, "write_limit": limits.write_buffer})
        connection.pending = self.pending
        return connection

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        if len(connection.server.all_connections) >= self._engine.limits.connections:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        if SECRET_PARAMETERS & _parameters(request.path):
            return connection.respond(
                HTTPStatus.BAD_REQUEST, "secrets do not belong into a URL; log in with rpc/auth\n"
            )
        headers = request.headers
        if not self.allows(headers.get_all("Origin"), headers.get_all("Host"), cookie="Cookie" in headers):
            return connection.respond(HTTPStatus.FORBIDDEN, "this origin is not allowed; see the option `origins`\n")
        return None

    def allows(self, origins: Sequence[str], hosts: Sequence[str], *, cookie: bool) -> bool:
        """Same host or listed; a request without Origin comes from no browser, unless it carries a cookie.

        `origins` and `hosts` are the values of all headers of that name.
        """
        if not origins:
            return not cookie
        return origin_allowed(origins, hosts, self.origins)

    def speaks_classic(self, origin: str | None) -> bool:
        """Whether frames of a peer with this Origin are the original programs'."""
        return origin in CLASSIC_ORIGINS if self.classic == "auto" else self.classic == "always"

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Connection)
        outlet = WebSocketOutlet(connection, self._engine.spawn)
        assert connection.request is not None
        origin = connection.request.headers.get("Origin")
        connection.request.headers.clear()  # a peer may have sent a MiB, which nobody reads again
        classic = self.speaks_classic(origin)
        session = self._engine.open(outlet, Peer(address_of(connection), self._kind), classic=classic)
        connection.session, session.leave = session, connection.leave
        try:
            if self._identify is not None:
                await self._identify(session, connection)
            while True:
                session.receive(await connection.recv(decode=False))
                if connection.paused:
                    await connection.drain()
        except (ConnectionClosed, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            connection.session = None
            session.close()


def harden(connection: ServerConnection, request: Request, response: Response) -> None:
    """A refusal is an answer that a browser might show: it has the headers of every other one."""
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        tls = connection.transport.get_extra_info("sslcontext") is not None
        for name, value in security_headers(tls=tls):
            response.headers[name] = value


def _parameters(path: str) -> set[str]:
    """The names in a request's query, in lower case."""
    return {name.lower() for name in parse_qs(path.partition("?")[2], keep_blank_values=True)}


def address_of(connection: ServerConnection) -> str:
    """The address of the other end; `unix` on a Unix socket."""
    address = connection.remote_address
    return str(address[0]) if isinstance(address, tuple) and address else "unix"
