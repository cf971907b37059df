"""Which certificates of a bridge are trusted, against real TLS on loopback."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from sysadmd.bridge import dial as module
from sysadmd.bridge.dial import DialFailed, Dialler, LinkConnection, Untrusted, full_url
from sysadmd.bridge.known import KnownBridges
from sysadmd.config import BridgeLink
from sysadmd.limits import Limits
from tests.unit.keys.openssl import make_certificate, make_key, openssl, public_key

LOOPBACK = "subjectAltName=IP:127.0.0.1"
ELSEWHERE = "subjectAltName=DNS:bridge.example.net"


@pytest.mark.parametrize(
    "given,url",
    [
        ("bridge.example.net", "wss://bridge.example.net:12149/"),
        ("bridge.example.net:443", "wss://bridge.example.net:443/"),
        ("wss://bridge.example.net/behind/proxy", "wss://bridge.example.net:12149/behind/proxy"),
        ("[2001:db8::1]", "wss://[2001:db8::1]:12149/"),
        ("wss://192.0.2.1:1", "wss://192.0.2.1:1/"),
    ],
)
def test_what_an_address_leaves_out(given: str, url: str) -> None:
    assert full_url(given) == url


class Shown:
    """A bridge that shows one certificate."""

    def __init__(self, directory: Path, name: str, *options: str) -> None:
        self.key = make_key(directory, "rsa-2048", name)
        self.file = make_certificate(self.key, "-days", "30", *options, name=name)
        self.port = 0

    @property
    def fingerprint(self) -> str:
        from sysadmd.keys.signing import parse

        return parse(public_key(self.key)).fingerprint

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0, **options: Any) -> AsyncIterator[Shown]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)

        async def wait(connection: ServerConnection) -> None:
            await connection.wait_closed()

        async with serve(wait, "127.0.0.1", port, ssl=context, close_timeout=1, **options) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self


def dialler(directory: Path, port: int, *, ca: Path | None = None, insecure: bool = False, **limits: float) -> Dialler:
    link = BridgeLink(f"127.0.0.1:{port}", ca=ca, insecure=insecure)
    return Dialler("office", link, KnownBridges(directory), lambda: Limits(**limits))  # type: ignore[arg-type]


async def succeeds(one: Dialler) -> None:
    connection = await one.dial()
    await connection.close()


async def test_any_certificate_where_the_link_is_insecure(tmp_path: Path) -> None:
    async with Shown(tmp_path, "one", "-addext", ELSEWHERE).serving() as bridge:
        await succeeds(dialler(tmp_path, bridge.port, insecure=True))
        assert not (tmp_path / "known_bridges").exists()


async def test_the_bridge_s_own_certificate_is_trusted_as_itself_whatever_its_name(tmp_path: Path) -> None:
    for name, options in (("one", ("-addext", ELSEWHERE)), ("two", ("-addext", LOOPBACK))):
        async with Shown(tmp_path, name, *options).serving() as bridge:
            await succeeds(dialler(tmp_path, bridge.port, ca=bridge.file))


async def test_another_certificate_than_the_one_in_the_file_is_not(tmp_path: Path) -> None:
    other = Shown(tmp_path, "other", "-addext", LOOPBACK)
    async with Shown(tmp_path, "one", "-addext", LOOPBACK).serving() as bridge:
        with pytest.raises(Untrusted, match=r"not the one of .*other\.crt"):
            await dialler(tmp_path, bridge.port, ca=other.file).dial()


@pytest.mark.parametrize("name,trusted", [(LOOPBACK, True), (ELSEWHERE, False)])
async def test_an_authority_vouches_for_the_name_that_was_dialled(tmp_path: Path, name: str, trusted: bool) -> None:
    authority = Shown(tmp_path, "authority")
    bridge = Shown(tmp_path, "one", "-addext", name)
    signed(bridge, authority, name)
    async with bridge.serving():
        one = dialler(tmp_path, bridge.port, ca=authority.file)
        if trusted:
            await succeeds(one)
        else:
            with pytest.raises(Untrusted, match="mismatch"):
                await one.dial()


def signed(bridge: Shown, authority: Shown, name: str) -> None:
    """Replace the bridge's certificate by one of the authority."""
    request, extensions = bridge.file.with_suffix(".csr"), bridge.file.with_suffix(".ext")
    openssl("req", "-new", "-key", bridge.key, "-subj", "/CN=one", "-out", request)
    extensions.write_text(name)
    by = ("-CA", authority.file, "-CAkey", authority.key, "-CAcreateserial", "-days", "30")
    openssl("x509", "-req", "-in", request, *by, "-extfile", extensions, "-out", bridge.file)


async def test_the_first_key_is_remembered_and_said(tmp_path: Path) -> None:
    async with Shown(tmp_path, "one").serving() as bridge:
        with structlog.testing.capture_logs() as logs:
            await succeeds(dialler(tmp_path, bridge.port))
            await succeeds(dialler(tmp_path, bridge.port))
        assert KnownBridges(tmp_path).get("office") == bridge.fingerprint
        (line,) = logs
        assert (line["log_level"], line["link"], line["key"]) == ("warning", "office", bridge.fingerprint)


async def test_the_same_key_may_have_another_certificate(tmp_path: Path) -> None:
    bridge = Shown(tmp_path, "one")
    async with bridge.serving():
        await succeeds(dialler(tmp_path, bridge.port))
    make_certificate(bridge.key, "-days", "60", name="renewed")
    async with bridge.serving():
        await succeeds(dialler(tmp_path, bridge.port))


async def test_another_key_is_refused_later_and_what_to_do_is_said(tmp_path: Path) -> None:
    async with Shown(tmp_path, "one").serving() as first:
        await succeeds(dialler(tmp_path, first.port))
    async with Shown(tmp_path, "two").serving() as second:
        with pytest.raises(Untrusted) as refused:
            await dialler(tmp_path, second.port).dial()
    text = str(refused.value)
    assert first.fingerprint in text
    assert second.fingerprint in text
    assert "known_bridges" in text
    assert "insecure = true" in text
    assert KnownBridges(tmp_path).get("office") == first.fingerprint


async def test_a_connection_whose_key_cannot_be_read_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[LinkConnection] = []

    def shown(connection: LinkConnection) -> bytes:
        seen.append(connection)
        return b""

    monkeypatch.setattr(module, "_shown", shown)
    async with Shown(tmp_path, "one", "-addext", LOOPBACK).serving() as bridge:
        with pytest.raises(DialFailed, match=r"is not an X\.509 certificate"):
            await dialler(tmp_path, bridge.port).dial()
        assert [connection.transport.is_closing() for connection in seen] == [True]


async def test_a_certificate_that_the_machine_trusts_needs_no_pin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    KnownBridges(tmp_path).add("office", "ab" * 32)
    async with Shown(tmp_path, "one", "-addext", LOOPBACK).serving() as bridge:
        monkeypatch.setenv("SSL_CERT_FILE", str(bridge.file))
        await succeeds(dialler(tmp_path, bridge.port))
        assert KnownBridges(tmp_path).get("office") == "ab" * 32


async def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "absent.pem"):
        with pytest.raises(DialFailed, match=name):
            await dialler(tmp_path, 9, ca=tmp_path / name).dial()


async def test_a_bridge_does_not_send_its_servers_elsewhere(tmp_path: Path) -> None:
    asked: list[str] = []

    def redirect(connection: ServerConnection, request: Request) -> Response:
        asked.append(request.path)
        response = connection.respond(HTTPStatus.FOUND, "")
        response.headers["Location"] = f"wss://127.0.0.1:{bridge.port}/elsewhere"
        return response

    bridge = Shown(tmp_path, "one")
    async with bridge.serving(process_request=redirect):
        with pytest.raises(DialFailed, match="HTTP status 302"):
            await dialler(tmp_path, bridge.port, insecure=True).dial()
    assert asked == ["/"]


async def test_nobody_there_is_said(tmp_path: Path) -> None:
    async with Shown(tmp_path, "one").serving() as bridge:
        port = bridge.port
    with pytest.raises(DialFailed, match=rf"wss://127\.0\.0\.1:{port}/: .*"):
        await dialler(tmp_path, port, insecure=True).dial()


async def test_who_does_not_answer_is_left_after_the_deadline(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = dialler(tmp_path, silent.getsockname()[1], insecure=True, handshake_timeout=0.2)
        with pytest.raises(DialFailed, match=r"no answer within 0\.2 s"):
            await one.dial()
