"""A way to a bridge that breaks without a word, a bridge that is away, and keys that are taken away meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sysadmd.client.errors import ClientError
from sysadmd.client.websocket import WebSocketTransport
from sysadmd.keys.bridge import bridge_key
from sysadmd.keys.signing import parse
from tests.integration.apps import running_app
from tests.integration.behind_bridges import KEY, SealedPeer, behind
from tests.integration.bridges import running_relay
from tests.integration.originals import until
from tests.integration.test_bridged_server import CLIENT, TO_BRIDGE, bridged


@dataclass
class Way:
    """TCP to a port of this machine, as a router makes it: it may forget what it carried, and then says nothing."""

    to: int
    port: int = 0
    carried: list[asyncio.StreamWriter] = field(default_factory=list)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Way]:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in [*self.tasks]:
                task.cancel()
            for writer in self.carried:
                writer.transport.abort()

    def forget(self) -> None:
        """Carry nothing more of the connections that there are; what begins from now on is carried."""
        for task in self.tasks:
            task.cancel()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        self.carried += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(_copy(source, sink))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
        sink.close()


BEAT: dict[str, Any] = {"ping_interval": 0.5, "ping_timeout": 1.5}
"""Asked for a sign of life every half a second: forty times as often as is shipped."""


async def test_a_link_whose_way_forgot_it_is_dialled_anew_and_the_bridge_drops_the_old_one(tmp_path: Path) -> None:
    state = tmp_path / "state"
    quick = {f"limits__{name}": value for name, value in {**BEAT, "drain": 1.0}.items()}
    state.mkdir(mode=0o700)
    async with running_relay(tmp_path, **BEAT) as relay, Way(relay.port).open() as way:
        relay.ring.add("server", bridge_key(state).public)
        link = {"url": f"127.0.0.1:{way.port}", "ca": str(tmp_path / "server.crt")}
        async with running_app(tmp_path, bridges={"office": link}, **quick) as live:
            links = live.app.links
            await until(lambda: links.listed()[0].state == "connected")
            (before,) = relay.relay.peers()
            way.forget()
            await until(lambda: before.id not in {one.id for one in relay.relay.peers()}, timeout=20)
            assert relay.relay.figures.cut["silent"] >= 1
            await until(lambda: relay.relay.peers() and links.listed()[0].state == "connected", timeout=20)


async def test_a_client_whose_way_forgot_it_loses_its_call_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = WebSocketTransport._options
    monkeypatch.setattr(WebSocketTransport, "_options", lambda self: {**shipped(self), **BEAT})
    async with bridged(tmp_path) as it, Way(it.relay.port).open() as way, it.client(port=way.port) as client:
        await client.call("rpc/query")
        way.forget()
        with pytest.raises(ClientError):
            await client.call("rpc/query")  # which has five minutes
        assert await client.call("rpc/query")


async def test_a_server_serves_while_its_bridge_is_away_and_finds_it_later(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    async with running_relay(tmp_path) as relay:
        port, certificate = relay.port, tmp_path / "server.crt"
    link = {"url": f"127.0.0.1:{port}", "ca": str(certificate)}
    async with running_app(tmp_path, bridges={"office": link}) as live:
        async with live.connect() as admin:
            await until(lambda: live.app.links.listed()[0].state == "waiting")
            (row,) = (await admin.call("rpc", "bridges", {"action": "list"}))["bridges"]
            assert "127.0.0.1" in row["error"]
        assert live.app.health()["healthy"]
        assert live.app.health()["bridges"] == {"links": 1, "connected": 0}


async def test_a_key_that_is_revoked_ends_its_sessions_and_is_told_to_the_bridge(tmp_path: Path) -> None:
    async with bridged(tmp_path) as it, it.client() as client:
        await client.call("rpc/query")
        (server,) = [one for one in it.relay.relay.peers() if one.role == "server"]
        assert server.paired
        async with it.live.connect() as admin:
            await admin.call("rpc", "settings", {"action": "revoke_ssl_cert", "pub_key": CLIENT.pem})
        await until(lambda: not it.sessions())
        await until(lambda: not [one for one in it.relay.relay.peers() if one.paired])


async def test_a_bridge_key_that_is_removed_ends_the_session_behind_it(tmp_path: Path) -> None:
    async with bridged(tmp_path) as it, it.client() as client:
        await client.call("rpc/query")
        del it.relay.ring.keys[parse(TO_BRIDGE.pem).fingerprint]
        it.relay.relay.keys_changed()
        await until(lambda: not it.sessions())
        with pytest.raises(ClientError):
            await client.call("rpc/query", timeout=5)


async def test_peers_that_vanish_with_the_link_leave_no_session(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.peer(SealedPeer) as one, it.peer() as other:
        await one.login()
        await other.exchange("rpc", "auth_ssl", {"md5_key": KEY.checksum})
        assert len(it.sessions()) == 2
        it.bridge.peers[0].connection.transport.abort()
        await until(lambda: not it.sessions())
        await it.state("connected")
