"""A flood of connections that never log in. Loopback has no bound, so the server is told that there is none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sysadmd.server.app import App
from tests.integration.apps import LiveApp, running_app

FLOOD, ELSEWHERE = ("127.0.0.2", 0), ("127.0.0.3", 0)
LIMITS: dict[str, Any] = {"limits__pending_connections": 32, "limits__pending_connections_prefix": 8}


def far(app: App) -> None:
    """Every address is like one of another machine, and the dice only drop at the bound."""
    app.listeners.pending.exempt = lambda address: False
    app.listeners.pending.draw = lambda: 0.999


@contextlib.asynccontextmanager
async def flood(live: LiveApp, number: int) -> AsyncIterator[int]:
    """Connections that say nothing; how many of them the server kept."""
    writers, kept = [], 0
    for _ in range(number):
        context = live.ssl_context()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", live.port, ssl=context, local_addr=FLOOD)
        except (ConnectionError, OSError):
            continue
        writers.append(writer)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                with contextlib.suppress(ConnectionError):
                    await reader.read(1)
                continue  # it was dropped
        kept += 1
    try:
        yield kept
    finally:
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_flood_of_one_address_leaves_room_for_another(tmp_path: Path, tls: bool) -> None:
    async with running_app(tmp_path, tls=tls, prepare=far, **LIMITS) as live, flood(live, 20) as kept:
        assert kept == 8
        assert live.app.listeners.pending.dropped == 12
        async with live.connect("view", local_addr=ELSEWHERE) as peer:
            await peer.call("rpc", "query")


async def test_who_is_logged_in_has_no_place_and_keeps_its_connection(tmp_path: Path) -> None:
    async with running_app(tmp_path, prepare=far, **LIMITS) as live, contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(live.connect("view", local_addr=FLOOD)) for _ in range(20)]
        assert live.app.listeners.pending.waiting == 0
        async with flood(live, 12):
            for peer in peers:
                await peer.call("rpc", "query")


async def test_a_connection_that_goes_gives_its_place_back(tmp_path: Path) -> None:
    async with running_app(tmp_path, prepare=far, **LIMITS) as live:
        for _ in range(20):
            async with live.connect(login=None, local_addr=FLOOD) as peer:
                await peer.call("rpc", "identify")
        async with asyncio.timeout(5):
            while live.app.listeners.pending.waiting:
                await asyncio.sleep(0.01)


async def test_an_upgrade_on_the_other_port_needs_a_place_too(tmp_path: Path) -> None:
    async with running_app(tmp_path, prepare=far, **LIMITS) as live:
        url = live.rest_url.replace("http", "ws", 1) + "/ws"
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(8):
                await stack.enter_async_context(connect(url, local_addr=FLOOD))
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, local_addr=FLOOD)
            assert refused.value.response.status_code == 503
            async with connect(url, local_addr=ELSEWHERE):
                pass
        async with asyncio.timeout(5):
            while live.app.listeners.pending.waiting:
                await asyncio.sleep(0.01)


async def test_the_machine_itself_is_not_counted(tmp_path: Path) -> None:
    async with running_app(tmp_path, **LIMITS) as live, contextlib.AsyncExitStack() as stack:
        for _ in range(40):
            await stack.enter_async_context(live.connect(login=None))
        assert live.app.listeners.pending.waiting == 0
