"""Clients behind a bridge: our relay and the original one, our server and the original one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sysadmd.client import AsyncClient, AuthFailed, ConnectFailed, RemoteError
from sysadmd.client.bridge import reachable
from sysadmd.keys.signing import parse
from tests.integration.bridges import running_relay
from tests.integration.originals import OriginalBridge, OriginalServer, Pair, kept_pair

CLIENT, TO_BRIDGE, SERVER = kept_pair("client"), kept_pair("client to bridge"), kept_pair("server")


@dataclass
class Place:
    """A bridge that lets the test's keys in, and where a client finds it."""

    port: int
    directory: Path

    @property
    def url(self) -> str:
        return f"bridge://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        """The client's keys in files, and no server that is known."""
        return {
            "key": _written(self.directory / "client.key", CLIENT),
            "bridge_key": _written(self.directory / "bridge.key", TO_BRIDGE),
            "known_servers": self.directory / "known_servers",
        }


def _written(file: Path, pair: Pair) -> Path:
    file.write_bytes(pair.private_pem)
    return file


@contextlib.asynccontextmanager
async def some_bridge(directory: Path, kind: str) -> AsyncIterator[Place]:
    """Ours, or a simulated original."""
    if kind == "original":
        bridge = OriginalBridge(directory)
        bridge.keys = {"client": TO_BRIDGE.pem, "server": SERVER.pem}
        async with bridge.serving():
            yield Place(bridge.port, directory)
        return
    async with running_relay(directory) as live:
        live.ring.add("client", parse(TO_BRIDGE.pem))
        live.ring.add("server", parse(SERVER.pem))
        yield Place(live.port, directory)


@contextlib.asynccontextmanager
async def original_server(place: Place, *, knows: Pair = CLIENT) -> AsyncIterator[OriginalServer]:
    server = OriginalServer(place.directory, SERVER, hostname="attic")
    server.keys["olga"] = knows.pem
    async with server.dialling(f"wss://127.0.0.1:{place.port}"):
        await server.until(lambda: any("md5_keys" in frame for frame in server.sent))
        yield server


both = pytest.mark.parametrize("kind", ["ours", "original"])


@both
async def test_an_original_server_is_called_where_everything_is_trusted(tmp_path: Path, kind: str) -> None:
    async with (
        some_bridge(tmp_path, kind) as place,
        original_server(place) as server,
        AsyncClient(f"{place.url}/attic", insecure=True, **place.options) as client,
    ):
        assert await client.call("rpc/query") == {"rpc/dispatcher": "read/write"}
        with pytest.raises(RemoteError, match="Not Found"):
            await client.call("rpc/nothing")
        async with client.events("system_state") as stream:
            await server.publish("system-state", {"hostname": "attic", "priority": "9 - Urgent"})
            event = await anext(stream)
        assert (event.topic, event.args["priority"]) == ("system_state", "9 - Urgent")


@both
async def test_an_original_server_is_refused_where_it_is_not(tmp_path: Path, kind: str) -> None:
    async with some_bridge(tmp_path, kind) as place, original_server(place) as server:
        with pytest.raises(ConnectFailed, match="certificate"):
            await AsyncClient(f"{place.url}/attic", **place.options).__aenter__()
        options = {**place.options, "pin": "ab" * 32, "insecure": True}
        with pytest.raises(ConnectFailed, match="cannot seal"):
            await AsyncClient(f"{place.url}/attic", **options).__aenter__()
        assert not any("auth_ssl" in frame for frame in server.received if frame.startswith("::"))


@both
async def test_a_password_is_not_sent_to_an_original_server(tmp_path: Path, kind: str) -> None:
    async with some_bridge(tmp_path, kind) as place, original_server(place) as server:
        options = {**place.options, "username": "olga", "password": "hunter2", "insecure": True}
        with pytest.raises(AuthFailed, match="could read a password"):
            await AsyncClient(f"{place.url}/attic", **options).__aenter__()
        assert not any("hunter2" in frame for frame in server.received)


@both
async def test_a_server_that_does_not_know_the_key_is_not_there(tmp_path: Path, kind: str) -> None:
    async with some_bridge(tmp_path, kind) as place, original_server(place, knows=kept_pair("stranger")):
        found = await reachable(place.url, insecure=True, **place.options)
        assert found == []


@both
async def test_an_original_server_is_listed(tmp_path: Path, kind: str) -> None:
    async with some_bridge(tmp_path, kind) as place, original_server(place):
        (found,) = await reachable(place.url, insecure=True, **place.options)
    assert (found.hostname, found.sealed, found.pinned) == ("attic", False, False)
    assert found.nick == ("server" if kind == "ours" else "")


async def test_a_key_that_the_bridge_does_not_know_is_refused_by_it(tmp_path: Path) -> None:
    async with some_bridge(tmp_path, "ours") as place:
        options = {**place.options, "bridge_key": place.options["key"]}
        with pytest.raises(AuthFailed, match="does not know the key"):
            await reachable(place.url, insecure=True, **options)
