"""WebSocket on the HTTP port: the same session, reached by an upgrade at `/ws`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import Peer


@contextlib.asynccontextmanager
async def upgraded(live: LiveApp, query: str = "", login: str | None = "admin", **options: Any) -> AsyncIterator[Peer]:
    url = live.rest_url.replace("http", "ws", 1) + "/ws" + query
    options = {"compression": None, "max_size": None, "ssl": live.ssl_context(), **options}
    async with connect(url, **options) as connection:
        peer = Peer(connection)
        if login is not None:
            await peer.login(login)
        yield peer


async def test_calls_and_events_over_tls(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True, tls=True) as live, upgraded(live) as peer:
        await peer.call("events", "subscribe", ["dispatcher"])
        assert await peer.call("rpc", "dispatcher", {"action": "run", "p": "echo here"}) == {"started": ["p"]}
        finished = await peer.event(lambda e: e["args"]["state"] == "finished")
        assert finished["args"]["process_details"]["echo here"] == "here\n"


async def test_the_dialect_follows_the_origin(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, upgraded(live, login=None, origin="sysadm-client") as peer:
        await peer.send({"namespace": "rpc", "name": "query", "id": "q", "args": ""})
        assert await peer.receive() == {
            "args": {"code": "401", "message": "Unauthorized"},
            "id": "q",
            "name": "error",
            "namespace": "error",
        }


@pytest.mark.parametrize("query,origin", [("?token=x", None), ("", "https://elsewhere.example")])
async def test_secrets_in_the_query_and_foreign_origins_are_refused(
    tmp_path: Path, query: str, origin: str | None
) -> None:
    async with running_app(tmp_path) as live:
        with pytest.raises(InvalidStatus) as refused:
            async with upgraded(live, query, login=None, origin=origin):
                pass
        assert refused.value.response.status_code == 403


async def test_a_stranger_may_send_small_frames_only(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, upgraded(live, login=None) as peer:
        limit = live.app.config.limits.frame_unauthenticated
        await peer.send(json.dumps("x" * (limit - 2)))
        assert (await peer.receive())["args"]["code"] == 400
        await peer.send(json.dumps("x" * (limit - 1)))
        with pytest.raises(ConnectionClosed) as closed:
            await peer.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_binary_frames_are_read_as_text(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, upgraded(live) as peer:
        await peer.send(b'{"namespace":"rpc","name":"identify","id":"b","args":{}}')
        assert (await peer.reply("b"))["args"]["type"] == "server"


async def test_a_stopping_server_closes_with_its_reason(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, upgraded(live) as peer:
        live.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await peer.receive()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the server is stopping")


async def test_a_session_ends_with_its_connection(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        async with upgraded(live):
            assert any(session.peer.kind == "upgrade" for session in live.app.engine.sessions)
        while any(session.peer.kind == "upgrade" for session in live.app.engine.sessions):
            await anyio.sleep(0.01)


async def test_large_replies_arrive_whole(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, upgraded(live) as peer:
        for number in range(40):
            await peer.send({"namespace": "rpc", "name": "discover", "id": str(number), "args": {}})
        replies = [await peer.reply(str(number)) for number in range(40)]
        assert all(reply["args"]["openrpc"] for reply in replies)
