"""uvicorn, driven by us: our sockets, our TLS context, our signals, our log, and a deadline for each request's head."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Response
from websockets.server import ServerProtocol

from sysadmd.limits import Limits
from sysadmd.listen.headers import security_headers
from sysadmd.listen.upgrade import LIMIT_FRAMES

DRAIN = 5
"""Seconds for the responses that are being sent when the server stops; the calls themselves are done by then."""


class _Protocol(H11Protocol):
    """uvicorn waits for the first request, and for the end of each head, for ever; here whoever is late is cut off."""

    def __init__(self, *args: Any, patience: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience = patience
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(self._patience, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._in_time()
        elif self._late is None:
            self._late = self.loop.call_later(self._patience, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an answer like any other; uvicorn's has no other headers than its own."""
        text = b"the request is no HTTP\n"
        own = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text)), (b"connection", b"close")]
        answer = h11.Response(status_code=400, headers=[*self.config.encoded_headers, *own])
        self.transport.write(
            b"".join(self.conn.send(event) or b"" for event in (answer, h11.Data(data=text), h11.EndOfMessage()))
        )
        self.transport.close()

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Handshake(ServerProtocol):
    """A WebSocket's protocol whose refusals have the headers of every other answer."""

    def __init__(self, headers: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self._headers = headers

    def send_response(self, response: Response) -> None:
        """Send it, with those that it lacks."""
        for name, value in self._headers.items():
            if name not in response.headers:
                response.headers[name] = value
        super().send_response(response)


class _WebSocket(WebSocketsSansIOProtocol):
    """An upgraded connection, whose endpoint may change the limit of a message (websockets refuses above it)."""

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.conn = _Handshake(dict(config.headers), max_size=config.ws_max_size, logger=self.logger)

    async def run_asgi(self) -> None:
        def limit_frames(size: int) -> None:
            self.conn.max_message_size = size

        self.scope["extensions"] = {**(self.scope["extensions"] or {}), LIMIT_FRAMES: {"set": limit_frames}}
        await super().run_asgi()


class _Server(uvicorn.Server):
    """A server that leaves the process's signal handlers alone."""

    def __init__(self, config: uvicorn.Config, limits: Limits) -> None:
        super().__init__(config)
        self.ready = anyio.Event()
        self._handshake_timeout = limits.handshake_timeout

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Like the original, which has no deadline for the TLS handshake."""
        await self.lifespan.startup()
        self.server_state.default_headers = self.config.encoded_headers  # until the first tick adds the date
        config, loop = self.config, asyncio.get_running_loop()
        protocol = partial(
            _Protocol, config, self.server_state, self.lifespan.state, loop, patience=self._handshake_timeout
        )
        late = self._handshake_timeout if config.ssl else None
        self.servers = [
            await loop.create_server(protocol, sock=sock, ssl=config.ssl, ssl_handshake_timeout=late)
            for sock in sockets or []
        ]
        self.started = True
        self.ready.set()


class HttpListener:
    """Serves one ASGI application on sockets that are already bound."""

    def __init__(
        self,
        app: ASGIApp,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
        *,
        trusted_proxies: Sequence[str],
        limits: Limits,
    ) -> None:
        self._inner = self._app = app
        self.trust(trusted_proxies)
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            log_config=None,
            access_log=False,
            lifespan="off",
            ws=_WebSocket,
            ws_max_size=limits.frame_unauthenticated,
            ws_ping_interval=limits.ping_interval,
            ws_ping_timeout=limits.ping_timeout,
            ws_per_message_deflate=False,
            server_header=False,
            headers=security_headers(tls=tls is not None),
            proxy_headers=False,
            limit_concurrency=limits.connections,
            timeout_graceful_shutdown=DRAIN,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=64 * 1024,
        )
        config.load()
        config.ssl = tls
        self._server = _Server(config, limits)
        self._ended = anyio.Event()
        self._sockets = list(sockets)

    @property
    def addresses(self) -> list[object]:
        """The addresses that it listens on."""
        return [sock.getsockname() for sock in self._sockets]

    def trust(self, proxies: Sequence[str]) -> None:
        """Believe what these addresses and networks say of the client (`X-Forwarded-For`), from the next request on."""
        self._app = ProxyHeadersMiddleware(self._inner, list(proxies)) if proxies else self._inner  # type: ignore[arg-type, assignment]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (_refuse_smuggling if _is_ambiguous(scope) else self._app)(scope, receive, send)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._server.serve, self._sockets)
                await self._server.ready.wait()
                task_status.started()
        finally:
            for sock in self._sockets:
                sock.close()  # uvicorn does it, unless it is cancelled
            self._ended.set()

    async def stop(self) -> None:
        """Finish the requests that run, at most five seconds, and end `run`."""
        self._server.should_exit = True
        await self._ended.wait()


def _is_ambiguous(scope: Scope) -> bool:
    """Whether two headers say how long the body is, of which a proxy may believe the other one (RFC 9112 §6.1)."""
    names = {name for name, _ in scope["headers"]}
    return scope["type"] == "http" and b"transfer-encoding" in names and b"content-length" in names


async def _refuse_smuggling(scope: Scope, receive: Receive, send: Send) -> None:
    text = b"Content-Length and Transfer-Encoding exclude each other\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of `host` (all addresses when it is empty). Raises OSError."""
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _, found in infos:
            # Port 0 asks for any port; every address then gets the one that the first got.
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(socket.socket(family, kind, proto))
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and len(infos) > 1:
                    continue  # a kernel without IPv6 may still know the name of such an address
                raise
            _bind(sockets[-1], (found[0], chosen, *found[2:]))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(sock: socket.socket, address: tuple[Any, ...]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    sock.setblocking(False)
