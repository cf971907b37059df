"""All of our own: clients, through our relay, to our server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sysadmd.client import AsyncClient, AuthFailed, ConnectFailed
from sysadmd.client.bridge import reachable
from sysadmd.events.record import Draft
from sysadmd.keys.bridge import bridge_key
from sysadmd.keys.signing import parse
from tests.integration.apps import LiveApp, running_app
from tests.integration.bridges import LiveRelay, running_relay
from tests.integration.originals import OriginalClient, Pair, kept_pair, until
from tests.integration.servers import PASSWORD

CLIENT, TO_BRIDGE = kept_pair("client"), kept_pair("client to bridge")


@dataclass
class Bridged:
    """A server behind a relay; the key CLIENT is the one of `admin` there."""

    live: LiveApp
    relay: LiveRelay
    directory: Path

    def client(self, key: Pair = CLIENT, port: int | None = None, **options: Any) -> AsyncClient:
        pin = bridge_key(self.live.app.config.state_dir).public.fingerprint
        shown = {
            "key": _written(self.directory / "client.key", key),
            "bridge_key": _written(self.directory / "to_bridge.key", TO_BRIDGE),
            "known_servers": self.directory / "known_servers",
            "ca": self.directory / "server.crt",
            "pin": pin,
        }
        url = f"bridge://127.0.0.1:{port or self.relay.port}/{self.live.app.config.node}"
        return AsyncClient(url, **{**shown, **options})

    def sessions(self) -> list[Any]:
        return [one for one in self.live.app.engine.sessions if one.peer.kind == "bridge"]


def _written(file: Path, pair: Pair) -> Path:
    file.write_bytes(pair.private_pem)
    return file


@contextlib.asynccontextmanager
async def bridged(directory: Path, **options: Any) -> AsyncIterator[Bridged]:
    state = directory / "state"
    state.mkdir(mode=0o700)
    async with running_relay(directory) as relay:
        relay.ring.add("client", parse(TO_BRIDGE.pem))
        relay.ring.add("server", bridge_key(state).public)
        link = {"url": f"127.0.0.1:{relay.port}", "ca": str(directory / "server.crt")}
        async with running_app(directory, bridges={"office": link}, node="attic", **options) as live:
            async with live.connect() as admin:
                text = base64.b64encode(CLIENT.pem.encode()).decode()
                await admin.call("rpc", "settings", {"action": "register_ssl_cert", "pub_key": text, "user": "admin"})
            await until(lambda: [one for one in live.app.links.listed() if one.state == "connected"])
            yield Bridged(live, relay, directory)


async def test_a_client_logs_in_with_its_key_calls_and_gets_events(tmp_path: Path) -> None:
    async with bridged(tmp_path) as it, it.client() as client:
        assert "rpc/dispatcher" in await client.call("rpc/query")
        async with client.events("life_preserver") as stream:
            it.live.app.events.publish(
                Draft("life_preserver", {"message": "m", "priority": 1, "class": "x"}, durable=False)
            )
            assert (await anext(stream)).args["message"] == "m"
        assert not any(one.peer.insecure for one in it.sessions())


async def test_a_password_is_safe_in_a_sealed_session(tmp_path: Path) -> None:
    async with bridged(tmp_path) as it, it.client(username="view", password=PASSWORD) as client:
        assert "rpc/dispatcher" in await client.call("rpc/query")


async def test_another_server_s_pin_is_not_talked_to(tmp_path: Path) -> None:
    async with bridged(tmp_path) as it:
        with pytest.raises(ConnectFailed, match="not the one that is known"):
            await it.client(pin="ab" * 32).__aenter__()


async def test_a_peer_is_told_apart_by_its_key_at_the_bridge(tmp_path: Path) -> None:
    """So that the lock-outs of a client outlive its connections."""
    async with bridged(tmp_path, limits__login_failures=2) as it:
        for _ in range(2):
            with pytest.raises(AuthFailed):
                await it.client(username="view", password="guess").__aenter__()
        with pytest.raises(AuthFailed):
            await it.client(username="view", password=PASSWORD).__aenter__()
        prefixes = {one.prefix for one in it.live.app.auth.throttle.list()}
        assert prefixes == {f"key:{parse(TO_BRIDGE.pem).fingerprint[:32]}"}


async def test_an_original_client_comes_through_our_bridge(tmp_path: Path) -> None:
    async with bridged(tmp_path) as it:
        client = OriginalClient(CLIENT, TO_BRIDGE)
        async with client.dialling(f"wss://127.0.0.1:{it.relay.port}"):
            server = await client.until(client.server)
            assert (await client.call(server.id, "rpc", "query", ""))["name"] == "response"
            assert [one.peer.insecure for one in it.sessions()] == [True]


async def test_a_client_that_leaves_ends_its_session_at_once(tmp_path: Path) -> None:
    async with bridged(tmp_path) as it:
        async with it.client() as client:
            await client.call("rpc/query")
            assert len(it.sessions()) == 1
        await until(lambda: not it.sessions())


async def test_a_key_that_is_registered_now_finds_the_server(tmp_path: Path) -> None:
    async with bridged(tmp_path) as it:
        other = Pair()
        options: dict[str, Any] = {
            "key": _written(tmp_path / "other.key", other),
            "bridge_key": _written(tmp_path / "to_bridge.key", TO_BRIDGE),
        }
        bridge = f"bridge://127.0.0.1:{it.relay.port}"
        assert await reachable(bridge, ca=tmp_path / "server.crt", **options) == []
        async with it.live.connect() as admin:
            text = base64.b64encode(other.pem.encode()).decode()
            await admin.call("rpc", "settings", {"action": "register_ssl_cert", "pub_key": text, "user": "view"})
        async with asyncio.timeout(20):
            while not (found := await reachable(bridge, ca=tmp_path / "server.crt", **options)):
                await asyncio.sleep(0.05)
        assert [one.hostname for one in found] == ["attic"]
