"""The pages of a bridge, asked for over HTTP on a port that serves WebSockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from sysadmd.bridge import pages
from sysadmd.bridge.pages import Pages
from sysadmd.listen.websocket import harden


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@contextlib.asynccontextmanager
async def served(*, healthy: bool = True) -> AsyncIterator[str]:
    """Host and port of a server with both pages."""
    made = Pages(health=lambda: {"healthy": healthy, "version": "1"}, metrics=lambda: b"# figures\n")
    async with serve(echo, "127.0.0.1", 0, process_request=made.answer, process_response=harden) as server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"{host}:{port}"


async def get(address: str, path: str, **headers: str) -> tuple[int, str, str, Any]:
    """Status, media type, text and headers."""
    async with aiohttp.ClientSession() as session:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with session.get(f"http://{address}{path}", headers=named) as response:
            return response.status, response.content_type, await response.text(), response.headers


async def test_the_health_is_for_everybody() -> None:
    async with served() as address:
        status, kind, text, headers = await get(address, "/healthz?x=1", Origin="https://example.net")
    assert (status, kind, text) == (200, "application/json", '{"healthy":true,"version":"1"}')
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_a_bridge_that_stops_is_not_healthy() -> None:
    async with served(healthy=False) as address:
        assert (await get(address, "/healthz"))[0] == 503


async def test_this_machine_gets_the_figures() -> None:
    async with served() as address:
        status, kind, text, _ = await get(address, "/metrics")
    assert (status, kind, text) == (200, "text/plain", "# figures\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"X_Real_IP": "127.0.0.1"},
        {"Origin": "https://example.net"},
        {"Sec_Fetch_Site": "none"},
    ],
)
async def test_what_a_proxy_or_a_browser_asks_for_is_not_asked_by_this_machine(headers: dict[str, str]) -> None:
    async with served() as address:
        assert (await get(address, "/metrics", **headers))[0] == 403


@pytest.mark.parametrize(
    "address,own",
    [
        (("127.0.0.1", 1), True),
        (("127.8.9.1", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("192.0.2.1", 1), False),
        (("::ffff:192.0.2.1", 1, 0, 0), False),
        (("fe80::1%lo", 1, 0, 0), False),
        ("", False),
        (None, False),
    ],
)
def test_only_loopback_is_this_machine(address: Any, own: bool) -> None:
    class Fake:
        remote_address = address
        headers: dict[str, str] = {}  # noqa: RUF012

    assert pages._from_this_machine(Fake(), Fake()) is own  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/"])
async def test_a_peer_may_use_any_path(path: str) -> None:
    async with served() as address, connect(f"ws://{address}{path}") as peer:
        await peer.send("hello")
        assert await peer.recv() == "hello"


async def test_another_page_is_none() -> None:
    async with served() as address:
        assert (await get(address, "/metrics/"))[0] == 426
