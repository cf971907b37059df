"""The WebSocket listener as a peer meets it: handshakes, frames, limits, and what bad input gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sysadmd.listen.websocket import Connection, WebSocketOutlet
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import Peer

KIB, MIB = 1024, 1024 * 1024


def sized(size: int) -> str:
    """A good request of exactly so many bytes."""
    empty = json.dumps({"namespace": "rpc", "name": "identify", "id": "1", "args": ""})
    return json.dumps({"namespace": "rpc", "name": "identify", "id": "1", "args": "x" * (size - len(empty))})


async def close_of(connection: ClientConnection, timeout: float = 10) -> tuple[int, str]:
    """Code and reason of the close that comes, past what comes before it."""
    with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012
        async with asyncio.timeout(timeout):
            while True:
                await connection.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def refusal(live: LiveApp, path: str = "", **options: Any) -> int:
    """The HTTP status of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with live.connect(login=None, path=path, **options):
            pass
    return caught.value.response.status_code


async def no_sessions(live: LiveApp) -> None:
    """A client knows of a close before the server has seen the end of it."""
    async with asyncio.timeout(5):
        while live.app.engine.sessions:
            await asyncio.sleep(0.01)


async def gone(reader: asyncio.StreamReader, timeout: float = 5) -> bytes:
    """What comes before the other end closes the connection, however it does."""
    async with asyncio.timeout(timeout):
        with contextlib.suppress(ConnectionError):
            return await reader.read()
    return b""


@contextlib.asynccontextmanager
async def raw_socket(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


# TLS


async def test_the_certificate_is_kept_over_restarts(tmp_path: Path) -> None:
    found = []
    for accounts in ({"admin": ("admin",)}, dict[str, tuple[str, ...]]()):
        async with running_app(tmp_path, accounts=accounts, tls=True) as live, live.connect() as peer:
            assert await peer.call("rpc", "query")
            presented = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", live.port))
            found.append((presented, live.certificate.read_text()))
    assert found[0] == found[1]
    assert found[0][0].strip() in found[0][1]


async def test_the_certificate_is_for_the_host_s_names(tmp_path: Path) -> None:
    async with running_app(tmp_path, tls=True) as live:
        certificate = x509.load_pem_x509_certificate(live.certificate.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "localhost" in names.get_values_for_type(x509.DNSName)
        assert {"127.0.0.1", "::1"} <= {str(one) for one in names.get_values_for_type(x509.IPAddress)}
        async with connect(live.url.replace("127.0.0.1", "localhost"), ssl=live.ssl_context()):
            pass


async def test_a_client_that_does_not_know_the_certificate_refuses_it(tmp_path: Path) -> None:
    async with running_app(tmp_path, tls=True) as live:
        with pytest.raises(ssl.SSLCertVerificationError):
            async with live.connect(login=None, ssl=ssl.create_default_context()):
                pass


async def test_plain_text_on_the_tls_port_gets_nothing(tmp_path: Path) -> None:
    async with running_app(tmp_path, tls=True) as live, raw_socket(live.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in await gone(reader)


# Frames


@pytest.mark.parametrize("login,limit", [(None, 8 * KIB), ("admin", MIB)])
async def test_a_frame_of_the_limit_is_answered_and_one_byte_more_closes_1009(
    tmp_path: Path, login: str | None, limit: int
) -> None:
    async with running_app(tmp_path) as live, live.connect(login) as peer:
        await peer.send(sized(limit))
        assert (await peer.receive())["name"] == "response"
        await peer.send(sized(limit + 1))
        assert (await close_of(peer.connection))[0] == 1009


async def test_fragments_count_together(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        text = sized(8 * KIB + 1)
        await peer.connection.send([text[:4096], text[4096:8000], text[8000:]])
        assert (await close_of(peer.connection))[0] == 1009


async def test_fragments_are_put_together(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        text = sized(300)
        await peer.connection.send([text[:7], text[7:100], text[100:]])
        assert (await peer.receive())["name"] == "response"


async def test_logging_out_lowers_the_limit_again(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        await peer.call("rpc", "auth_clear")
        await peer.send(sized(8 * KIB + 1))
        assert (await close_of(peer.connection))[0] == 1009


async def test_a_binary_frame_is_read_as_utf_8_and_answered_as_text(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        await peer.connection.send(sized(100).encode())
        assert isinstance(await peer.connection.recv(), str)


DEEP = '{"namespace":"rpc","name":"query","id":"bad","args":' + "[" * 40 + "]" * 40 + "}"
BAD_FRAMES = {
    "not json": ("{bad json}", ""),
    "no object": ('"text"', ""),
    "garbage": ("garbage", ""),
    "empty": ("", ""),
    "too deep": (DEEP, ""),
    "not utf-8": (b'{"namespace":"\xff"}', ""),
    "no name": ('{"id":"bad","namespace":"rpc"}', "bad"),
    "name of a wrong type": ('{"id":"bad","namespace":"rpc","name":7,"args":{}}', "bad"),
    "namespace of a wrong type": ('{"id":"bad","namespace":["rpc"],"name":"query","args":{}}', "bad"),
    "empty name": ('{"id":"bad","namespace":"rpc","name":"","args":{}}', "bad"),
    "bad timeout": ('{"id":"bad","namespace":"rpc","name":"query","args":{},"timeout":-1}', "bad"),
    "id that is no string": ('{"id":7,"namespace":"rpc","name":"","args":{}}', 7),
}


async def test_bad_frames_get_400_on_their_id_and_the_connection_lives(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        for name, (text, request_id) in BAD_FRAMES.items():
            await peer.send(text)
            reply = await peer.receive()
            assert (reply["name"], reply["args"]["code"], reply["id"]) == ("error", 400, request_id), name
            assert reply["args"]["message"] not in {"", "Bad Request"}, name
        assert await peer.call("rpc", "query")


async def test_invalid_utf_8_in_a_text_frame_gets_400(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        await peer.connection.send(b'{"a": "\xc3\x28"}', text=True)
        reply = await peer.receive()
        assert reply["args"]["code"] == 400
        assert "UTF-8" in reply["args"]["message"]
        assert await peer.call("rpc", "query")


REFUSED = [
    # account, namespace, name, args, code, what the message names
    (None, "rpc", "query", {}, 401, "Unauthorized"),
    (None, "weather", "report", {}, 401, "Unauthorized"),
    (None, "rpc", "Identify", {}, 401, "Unauthorized"),
    (None, "rpc", "dispatcher", {"action": "fly"}, 401, "Unauthorized"),
    ("admin", "weather", "report", {}, 404, "weather/report"),
    ("admin", "rpc", "weather", {}, 404, "rpc/weather"),
    ("admin", "rpc", "Identify", {}, 404, "rpc/Identify"),
    ("admin", "rpc", "dispatcher", {"action": "fly"}, 400, "args.action"),
    ("admin", "rpc", "dispatcher", {}, 400, "missing action"),
    ("admin", "rpc", "dispatcher", {"action": "kill", "job_id": 7}, 400, "args.job_id"),
    ("admin", "rpc", "dispatcher", {"action": "read_log", "process_id": "x", "offset": -1}, 400, "args.offset: -1"),
    ("view", "rpc", "dispatcher", {"action": "run", "a": "true"}, 403, "view may not call rpc/dispatcher/run"),
    ("oper", "rpc", "dispatcher", {"action": "run", "a": "true"}, 403, "rpc/dispatcher/run"),
    ("oper", "rpc", "dispatcher", {"action": "kill", "job_id": "a"}, 403, "rpc/dispatcher/kill"),
    ("view", "rpc", "accounts", {"action": "list"}, 403, "rpc/accounts/list"),
    # A bad argument does not tell who may not call that it is bad.
    ("view", "rpc", "dispatcher", {"action": "run", "a": 7}, 403, "rpc/dispatcher/run"),
]


async def test_refusals_have_their_codes_and_leave_the_connection_open(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, contextlib.AsyncExitStack() as stack:
        peers = {name: await stack.enter_async_context(live.connect(name)) for name in (None, "admin", "oper", "view")}
        for account, namespace, name, args, code, named in REFUSED:
            reply = await peers[account].request(namespace, name, args)
            assert (reply["name"], reply["namespace"]) == ("error", namespace)
            assert reply["args"]["code"] == code, (account, namespace, name, args)
            assert named in reply["args"]["message"]
        for peer in peers.values():
            assert await peer.call("rpc", "identify")


async def test_operators_and_viewers_may_read(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        for account in ("oper", "view"):
            async with live.connect(account) as peer:
                assert (await peer.call("rpc", "dispatcher", {"action": "list"})) == {"jobs": {}}
                assert (await peer.call("rpc", "query"))["rpc/dispatcher"] == "read"


# Handshakes


async def test_any_path_is_accepted_and_the_server_names_itself(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None, path="some/where?a=b") as peer:
        assert peer.connection.response is not None
        assert peer.connection.response.headers["Server"] == "sysadmd"
        assert "Sec-WebSocket-Extensions" not in peer.connection.response.headers


async def test_compression_is_not_negotiated(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None, compression="deflate") as peer:
        assert peer.connection.protocol.extensions == []


@pytest.mark.parametrize("query", ["?token=x", "?a=1&PASSWORD=x", "?access_token", "?%74oken=x"])
async def test_secrets_in_the_url_are_refused(tmp_path: Path, query: str) -> None:
    async with running_app(tmp_path) as live:
        assert await refusal(live, path=query) == 400


async def test_origins_decide_who_may_open_a_connection(tmp_path: Path) -> None:
    async with running_app(tmp_path, origins=("https://console.example.net",)) as live:
        assert await refusal(live, origin="https://evil.example.org") == 403
        assert await refusal(live, additional_headers={"Cookie": "a=b"}) == 403
        for origin in ("https://console.example.net", f"http://127.0.0.1:{live.port}", "sysadm-client"):
            async with live.connect(login=None, origin=origin):
                pass


async def test_a_request_that_is_no_upgrade_gets_an_http_answer(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, raw_socket(live.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await gone(reader)).startswith(b"HTTP/1.1 426 ")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("start", [b"", b"GET / HT"], ids=["silent", "partial"])
async def test_a_slow_handshake_is_cut_off(tmp_path: Path, tls: bool, start: bytes) -> None:
    options: dict[str, Any] = {"limits__handshake_timeout": 0.2}
    async with running_app(tmp_path, tls=tls, **options) as live, raw_socket(live.port) as (reader, writer):
        writer.write(start)
        await gone(reader, timeout=5)


async def test_the_headers_of_a_peer_are_not_kept(tmp_path: Path) -> None:
    """A stranger may send a MiB of them."""
    many = {f"X-Filler-{number}": "x" * 8000 for number in range(100)}
    async with running_app(tmp_path) as live, live.connect(login=None, additional_headers=many) as peer:
        await peer.call("rpc", "identify")
        (session,) = live.app.engine.sessions
        connection = cast(WebSocketOutlet, session.outlet)._connection
        assert connection.request is not None
        assert len(connection.request.headers) == 0


async def test_a_stranger_is_closed_after_the_grace(tmp_path: Path) -> None:
    async with running_app(tmp_path, limits__auth_timeout=0.2) as live, live.connect(login=None) as peer:
        assert await close_of(peer.connection) == (1008, "not authenticated within 0.2 s")


async def test_one_connection_above_the_limit_is_refused_until_another_ends(tmp_path: Path) -> None:
    async with running_app(tmp_path, limits__connections=2) as live, live.connect(login=None):
        async with live.connect(login=None):
            assert await refusal(live) == 503
        async with asyncio.timeout(5):
            while len(live.app.engine.sessions) > 1:
                await asyncio.sleep(0.01)
        async with live.connect():
            pass


# Keepalive


async def test_a_ping_is_answered(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        async with asyncio.timeout(5):
            assert await (await peer.connection.ping("are you there?")) >= 0


async def test_a_peer_that_does_not_answer_pings_is_gone(tmp_path: Path) -> None:
    options: dict[str, Any] = {"limits__ping_interval": 0.1, "limits__ping_timeout": 0.1, "limits__drain": 0.2}
    async with running_app(tmp_path, **options) as live, raw_socket(live.port) as (reader, writer):
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n".encode())
        received = await gone(reader)
        assert b" 101 " in received
        assert b"\x89" in received  # a ping
        await no_sessions(live)


async def test_a_peer_that_answers_pings_stays(tmp_path: Path) -> None:
    options: dict[str, Any] = {"limits__ping_interval": 0.05, "limits__ping_timeout": 0.5}
    async with running_app(tmp_path, **options) as live, live.connect() as peer:
        await asyncio.sleep(0.5)
        assert await peer.call("rpc", "query")


# Ends


async def test_a_long_close_reason_closes_one_connection_and_nothing_else(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer, live.connect() as other:
        session = next(s for s in live.app.engine.sessions if s.token is not None)
        session.outlet.overflow_close("x" * 1000)
        closed, open_one = (peer, other) if session.token == await _token_of(live, peer) else (other, peer)
        assert await close_of(closed.connection) == (1013, "x" * 123)
        assert await open_one.call("rpc", "query")


async def _token_of(live: LiveApp, peer: Peer) -> str | None:
    port = peer.connection.local_address[1]
    for session in live.app.engine.sessions:
        outlet = session.outlet
        if isinstance(outlet, WebSocketOutlet) and outlet._connection.remote_address[1] == port:
            return session.token
    return None


async def test_a_connection_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True) as live, live.connect() as peer:
        await peer.call("events", "subscribe", ["dispatcher"])
        await peer.send(
            {"namespace": "rpc", "name": "dispatcher", "id": "x", "args": {"action": "exec", "commands": "sleep 30"}}
        )
        await peer.event(lambda event: event["args"].get("state") == "running")
        peer.connection.transport.abort()
        await no_sessions(live)
        async with asyncio.timeout(10):
            while live.app.dispatcher.figures() != {"pending": 0, "running": 0}:
                await asyncio.sleep(0.02)
        assert live.app.events.followers == 0


async def test_a_fault_while_identifying_ends_one_connection(tmp_path: Path) -> None:
    async def fail(session: Any, connection: Connection) -> None:
        raise OSError("no credentials")

    async with running_app(tmp_path) as live:
        live.app.listeners.websocket._identify = fail
        async with live.connect(login=None) as peer:
            assert (await close_of(peer.connection))[0] == 1011
        live.app.listeners.websocket._identify = None
        async with live.connect() as peer:
            assert await peer.call("rpc", "query")
        await no_sessions(live)
