"""The WebSocket transport against real sockets: TCP, TLS, Unix."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.http11 import Request, Response

from sysadmd.client import AsyncClient, ConnectFailed, ConnectionLost, Untrusted
from sysadmd.client.address import parse_address
from sysadmd.client.websocket import MAX_QUEUE, WebSocketTransport
from sysadmd.keys.certificate import ensure_certificate


async def echo(connection: ServerConnection) -> None:
    """Send every message back; `close` closes."""
    async for message in connection:
        if message == "close":
            await connection.close(1001, "the server is stopping")
            return
        if message == "abort":
            connection.transport.abort()
            return
        await connection.send(message)


@asynccontextmanager
async def echo_server(**options: Any) -> AsyncIterator[str]:
    """An echo server on a free port of the loopback; gives `127.0.0.1:PORT`."""
    server: Server
    async with serve(echo, "127.0.0.1", 0, **options) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[WebSocketTransport]:
    transport = WebSocketTransport(parse_address(url), **options)
    await transport.open(5)
    try:
        yield transport
    finally:
        await transport.aclose()


def tls_context(directory: Path) -> ssl.SSLContext:
    files = ensure_certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with server.crt and server.key: making the key takes a while, so it is made once."""
    directory = tmp_path_factory.mktemp("certificates")
    ensure_certificate(directory)
    return directory


async def test_messages_are_text_both_ways_over_tcp() -> None:
    async with echo_server() as where, opened(f"ws://{where}") as transport:
        await transport.send("grüße".encode())
        assert await transport.receive() == "grüße".encode()


async def test_a_unix_socket_carries_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a socket.sock"
    async with unix_serve(echo, str(path)), opened(f"unix://{path}") as transport:
        await transport.send(b"{}")
        assert await transport.receive() == b"{}"


async def test_the_server_certificate_in_a_file_is_trusted(certificates: Path) -> None:
    async with (
        echo_server(ssl=tls_context(certificates)) as where,
        opened(f"wss://{where}", ca=certificates / "server.crt") as transport,
    ):
        await transport.send(b"{}")
        assert await transport.receive() == b"{}"


async def test_an_unknown_certificate_is_refused_with_its_fingerprint(certificates: Path) -> None:
    async with echo_server(ssl=tls_context(certificates)) as where:
        with pytest.raises(Untrusted, match="not trusted") as caught:
            async with opened(f"wss://{where}"):
                pass
    assert caught.value.fingerprint == ensure_certificate(certificates).fingerprint
    assert str(caught.value.fingerprint) in str(caught.value)
    assert "--ca FILE" in str(caught.value)


async def test_another_server_is_refused_where_one_certificate_is_pinned(certificates: Path, tmp_path: Path) -> None:
    async with echo_server(ssl=tls_context(tmp_path)) as where:
        with pytest.raises(Untrusted):
            async with opened(f"wss://{where}", ca=certificates / "server.crt"):
                pass


async def test_insecure_takes_any_certificate(certificates: Path) -> None:
    async with (
        echo_server(ssl=tls_context(certificates)) as where,
        opened(f"wss://{where}", insecure=True) as transport,
    ):
        await transport.send(b"{}")
        assert await transport.receive() == b"{}"


@pytest.mark.parametrize("content,reason", [("no certificate", "no PEM certificate"), (None, "No such file")])
async def test_a_bad_ca_file_is_named(tmp_path: Path, content: str | None, reason: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConnectFailed, match=rf"ca\.pem: {reason}"):
        async with opened("wss://127.0.0.1:9", ca=file):
            pass


async def test_tls_to_a_plain_port_says_so() -> None:
    async with echo_server() as where:
        with pytest.raises(ConnectFailed, match="is this a TLS port"):
            async with opened(f"wss://{where}", insecure=True):
                pass


async def test_plain_to_a_tls_port_says_so(certificates: Path) -> None:
    async with echo_server(ssl=tls_context(certificates)) as where:
        with pytest.raises(ConnectFailed, match="needs wss"):
            async with opened(f"ws://{where}"):
                pass


async def test_nobody_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectFailed, match=f"^ws://127.0.0.1:{port}: .*(refused|Connect call failed)"):
        async with opened(f"ws://127.0.0.1:{port}"):
            pass


async def test_a_missing_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConnectFailed, match="the socket does not exist"):
        async with opened(f"unix://{tmp_path}/none.sock"):
            pass


async def test_a_server_that_never_answers_ends_by_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = WebSocketTransport(parse_address(f"ws://127.0.0.1:{silent.getsockname()[1]}"))
        with pytest.raises(ConnectFailed, match=r"no answer within 0\.1 s"):
            await transport.open(0.1)


async def test_an_http_error_is_told_with_its_status() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "origin\n")

    async with echo_server(process_request=refuse) as where:
        with pytest.raises(ConnectFailed, match="HTTP status 403"):
            async with opened(f"ws://{where}"):
                pass


async def test_redirects_are_not_followed() -> None:
    async with echo_server() as elsewhere:

        def redirect(connection: ServerConnection, request: Request) -> Response:
            response = connection.respond(HTTPStatus.FOUND, "")
            response.headers["Location"] = f"ws://{elsewhere}/"
            return response

        async with echo_server(process_request=redirect) as where:
            with pytest.raises(ConnectFailed, match="HTTP status 302"):
                async with opened(f"ws://{where}"):
                    pass


async def test_a_port_that_speaks_something_else_is_told() -> None:
    async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(banner, "127.0.0.1", 0)
    async with server:
        with pytest.raises(ConnectFailed, match="no WebSocket server answers there"):
            async with opened(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"):
                pass


async def test_the_reason_of_a_close_is_kept() -> None:
    async with echo_server() as where, opened(f"ws://{where}") as transport:
        await transport.send(b"close")
        with pytest.raises(ConnectionLost, match=r"closed the connection \(1001: the server is stopping\)"):
            await transport.receive()


async def test_a_broken_connection_is_told() -> None:
    async with echo_server() as where, opened(f"ws://{where}") as transport:
        await transport.send(b"abort")
        with pytest.raises(ConnectionLost, match="the connection broke"):
            await transport.receive()
        with pytest.raises(ConnectionLost):
            await transport.send(b"x")


async def test_a_message_above_one_mebibyte_is_received() -> None:
    async with echo_server(max_size=None) as where, opened(f"ws://{where}") as transport:
        await transport.send(b"x" * 3_000_000)
        assert len(await transport.receive()) == 3_000_000


async def test_an_unread_connection_holds_its_server_back() -> None:
    """What nobody reads is not read: a flood ends in the server's own queue, not in the client's memory."""
    sent = 0

    async def flood(connection: ServerConnection) -> None:
        nonlocal sent
        with contextlib.suppress(Exception):
            while True:
                await connection.send("x" * 100_000)
                sent += 1

    async with serve(flood, "127.0.0.1", 0, write_limit=1000) as server:
        async with opened(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"):
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.2)
        # The read-ahead of the client, and the socket buffers of both sides (tcp(7): up to 6 + 4 MiB).
        assert sent < MAX_QUEUE + 150


async def test_no_password_crosses_an_untrusted_connection(certificates: Path) -> None:
    seen: list[Any] = []

    async def record(connection: ServerConnection) -> None:
        seen.extend([message async for message in connection])

    async with serve(record, "127.0.0.1", 0, ssl=tls_context(certificates)) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Untrusted):
            async with AsyncClient(f"wss://127.0.0.1:{port}", username="admin", password="hunter2"):
                pass
    assert seen == []
