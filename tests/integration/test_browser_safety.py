"""What a browser that comes here is told, and that it has no authority which a page could borrow."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from websockets.exceptions import InvalidStatus

from tests.integration.apps import LiveApp, running_app, status
from tests.integration.servers import PASSWORD
from tests.integration.test_rest import bearer, refused, replaced, rest_port
from tests.integration.test_websocket_listener import gone, raw_socket

EXPECTED = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
NAVIGATION = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nHost: x\r\n"


def assert_sealed(headers: Mapping[str, str], what: str, *, tls: bool = False) -> None:
    """The whole set, each header once, and nothing that gives a page or a stranger anything."""
    pairs = [(name.lower(), value) for name, value in headers.items()]
    assert {name: value for name, value in pairs if name in EXPECTED} == EXPECTED, what
    names = [name for name, _ in pairs]
    assert [name for name in names if name in EXPECTED and names.count(name) > 1] == [], what
    assert ("strict-transport-security" in names) == tls, what
    assert not {"set-cookie", "x-powered-by"} & set(names), what
    assert not [name for name in names if name.startswith("access-control-")], what
    assert dict(pairs).get("server", "sysadmd") == "sysadmd", what


def fail(call: object, services: object) -> None:
    raise RuntimeError("a fault of ours")


ANSWERS = [
    # verb, path, headers, status
    ("GET", "/rpc/identify", {}, 200),
    ("POST", "/rpc/dispatcher?action=fly", {}, 400),
    ("GET", "/rpc/query", {"Authorization": "Bearer x"}, 401),
    ("GET", "/rpc/identify", {"Origin": "https://evil.example"}, 403),
    ("GET", "/rpc/identify?token=x", {}, 403),
    ("GET", "/rpc/weather", {}, 404),
    ("GET", "/", {}, 404),
    ("BREW", "/healthz", {}, 405),
    ("DELETE", "/rpc/query", {}, 405),
    ("HEAD", "/rpc/query", {}, 405),
    ("OPTIONS", "/rpc/query", {}, 200),
    ("OPTIONS", "/rpc/query", {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}, 200),
    ("GET", "/healthz", {}, 200),
    ("GET", "/metrics", {}, 200),
    ("GET", "/openapi.json", {}, 200),
    ("GET", "/api/v1/events", {}, 200),
    ("GET", "/api/v1/events?topic=none", {}, 400),
    ("GET", "/ws", {}, 404),
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_every_answer_of_the_http_port_is_sealed(tmp_path: Path, tls: bool) -> None:
    credentials = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    async with running_app(tmp_path, tls=tls) as live, aiohttp.ClientSession(live.rest_url) as http:
        options = {"ssl": live.ssl_context()} if tls else {}
        for verb, path, headers, status in ANSWERS:
            sent = {"Authorization": f"Basic {credentials}", **headers}
            response = await http.request(verb, path, headers=sent, **options)  # type: ignore[arg-type]
            assert response.status == status, (verb, path, headers)
            assert_sealed(response.headers, f"{verb} {path}", tls=tls)
            response.close()


async def test_a_fault_is_sealed(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        with replaced(live.app, "rpc/query", fail):
            response = await http.get("/rpc/query")
        assert response.status == 500
        assert_sealed(response.headers, "a fault")


REFUSALS = [
    (b"GET /ws HTTP/1.1\r\n" + UPGRADE + KEY + b"Origin: https://evil.example\r\n\r\n", b"403"),
    (b"GET /ws?token=x HTTP/1.1\r\n" + UPGRADE + KEY + b"\r\n", b"403"),
    (b"GET /ws HTTP/1.1\r\n" + UPGRADE + b"\r\n", b"400"),
    (b"GET /elsewhere HTTP/1.1\r\n" + UPGRADE + KEY + b"\r\n", b"403"),
    (b"no http at all\r\n\r\n", b"400"),
    (b"POST /x/y HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
]


@pytest.mark.parametrize("sent,status", REFUSALS, ids=["origin", "token", "no key", "path", "no http", "smuggled"])
async def test_what_is_refused_before_any_route_is_sealed(tmp_path: Path, sent: bytes, status: bytes) -> None:
    async with running_app(tmp_path) as live:
        answered = await raw_answer(rest_port(live), sent)
    assert answered[0].split()[1] == status
    assert_sealed(dict(headers_of(answered)), "a refusal")


async def test_what_comes_beyond_the_limit_of_connections_is_sealed(tmp_path: Path) -> None:
    async with running_app(tmp_path, limits__connections=2) as live, contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(raw_socket(rest_port(live)))
        answered = await raw_answer(rest_port(live), b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answered[0].split()[1] == b"503"
    assert_sealed(dict(headers_of(answered)), "one too many")


@pytest.mark.parametrize(
    "path,options,status",
    [("", {"origin": "https://evil.example"}, 403), ("?token=x", {}, 400)],
    ids=["origin", "token"],
)
async def test_refusals_of_the_websocket_port_are_sealed(
    tmp_path: Path, path: str, options: dict[str, str], status: int
) -> None:
    async with running_app(tmp_path) as live:
        with pytest.raises(InvalidStatus) as caught:
            async with live.connect(login=None, path=path, **options):
                pass
        assert caught.value.response.status_code == status
        assert_sealed(dict(caught.value.response.headers.raw_items()), "a refused handshake")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_what_is_no_upgrade_on_the_websocket_port_is_sealed(tmp_path: Path, tls: bool) -> None:
    async with running_app(tmp_path, tls=tls) as live, aiohttp.ClientSession() as http:
        url = live.url.replace("ws", "http", 1)
        response = await http.get(url, **({"ssl": live.ssl_context()} if tls else {}))  # type: ignore[arg-type]
        assert response.status == 426
        assert_sealed(response.headers, "no upgrade", tls=tls)


async def raw_answer(port: int, sent: bytes) -> list[bytes]:
    """The lines of the answer's head."""
    async with raw_socket(port) as (reader, writer):
        writer.write(sent)
        return (await gone(reader)).partition(b"\r\n\r\n")[0].split(b"\r\n")


def headers_of(lines: list[bytes]) -> list[tuple[str, str]]:
    pairs = [line.decode("latin-1").partition(": ") for line in lines[1:]]
    return [(name, value) for name, _, value in pairs]


# No ambient authority


async def test_a_browser_is_never_asked_for_a_password_that_it_would_remember(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http:
        for headers in (NAVIGATION, {"Origin": live.rest_url}):
            response = await http.get("/rpc/query", headers=headers)
            assert await refused(response) == 401
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="sysadmd"'


async def test_cookies_are_no_identity_and_none_is_set(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http, live.http() as admin:
        token, _ = await bearer(live)
        for name in ("token", "session", "auth_token", "Authorization", "access_token"):
            response = await http.get("/rpc/query", headers={"Cookie": f"{name}={token}"})
            assert await refused(response) == 401, name
        assert len((await admin.get("/rpc/query")).cookies) == 0
        assert "Set-Cookie" not in (await admin.post("/rpc/auth", json=log_in("admin"))).headers


def log_in(name: str) -> dict[str, str]:
    return {"username": name, "password": PASSWORD}


@pytest.mark.parametrize("headers", [NAVIGATION, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://127.0.0.1:1"}])
async def test_being_on_this_machine_opens_nothing_to_a_browser(tmp_path: Path, headers: dict[str, str]) -> None:
    """A page's visitor may be on the server's own machine; the page is not."""
    async with running_app(tmp_path) as live, live.http(None) as http:
        assert await status(http, "/metrics") == 200
        assert await refused(await http.get("/metrics", headers=headers)) in {401, 403}


async def test_a_preflight_allows_nothing(tmp_path: Path) -> None:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with running_app(tmp_path, origins=("https://console.example",)) as live:
        for origin in ("https://evil.example", "https://console.example", "null"):
            headers = await preflight(live, {**wanted, "Origin": origin})
            assert [name for name in headers if name.lower().startswith("access-control-")] == []


async def preflight(live: LiveApp, headers: dict[str, str]) -> Mapping[str, str]:
    async with live.http(None) as http:
        return (await http.options("/rpc/dispatcher", headers=headers)).headers
