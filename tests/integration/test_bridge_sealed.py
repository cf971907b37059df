"""Our client, our bridge and our server over real sockets: what a sealed session carries, and what it survives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sysadmd.client import AsyncClient, AuthFailed, ConnectFailed, ConnectionLost, KnownServers, RemoteError, Untrusted
from sysadmd.client.address import parse_address
from sysadmd.client.bridge import Reachable, Route, reachable
from sysadmd.client.channel import Channel, Login
from sysadmd.client.trust import read_key
from sysadmd.keys.bridge import bridge_key
from sysadmd.keys.signing import PrivateKey
from sysadmd.wire.messages import Reply
from tests.integration.bridges import LiveRelay, running_relay
from tests.integration.originals import OriginalBridge
from tests.integration.servers import PASSWORD, RunningServer, running_server
from tests.unit.keys.openssl import make_key

CONFIG = """
node = "nas.example"
[bridges.relay]
url = "127.0.0.1:{port}"
{trust}
"""


@dataclass
class Behind:
    """A server process behind a bridge, which a client has registered its key with and pinned."""

    server: RunningServer
    key: Path
    known: Path
    url: str
    trust: dict[str, Any]

    @property
    def address(self) -> str:
        return f"{self.url}/nas"

    def client(self, peer: str = "nas", **options: Any) -> AsyncClient:
        found = {"key": self.key, "known_servers": self.known, **self.trust, **options}
        return AsyncClient(f"{self.url}/{peer}", **found)

    async def listed(self) -> Reachable:
        """The one server that is listed, as soon as it is."""
        async with asyncio.timeout(30):
            while True:
                found = await reachable(self.url, key=self.key, known_servers=self.known, **self.trust)
                if found:
                    (one,) = found
                    return one
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def our_bridge(
    directory: Path, key: PrivateKey, server: PrivateKey, **limits: Any
) -> AsyncIterator[tuple[int, Path | None]]:
    live: LiveRelay
    async with running_relay(directory, **limits) as live:
        live.ring.add("olga", key.public)
        live.ring.add("rack 1", server.public)
        yield live.port, live.directory / "server.crt"


@contextlib.asynccontextmanager
async def original_bridge(
    directory: Path, key: PrivateKey, server: PrivateKey
) -> AsyncIterator[tuple[int, Path | None]]:
    bridge = OriginalBridge(directory)
    bridge.keys = {"olga": key.public.pem, "rack 1": server.public.pem}
    async with bridge.serving():
        yield bridge.port, None


@contextlib.asynccontextmanager
async def behind(directory: Path, kind: str = "ours", **limits: Any) -> AsyncIterator[Behind]:
    relay, state = directory / "relay", directory / "state"
    relay.mkdir()
    state.mkdir(mode=0o700)
    key = make_key(directory, "rsa-2048", "olga")
    bridge = our_bridge if kind == "ours" else original_bridge
    async with bridge(relay, PrivateKey.load(key.read_bytes()), bridge_key(state), **limits) as (port, certificate):
        config = CONFIG.format(port=port, trust=f'ca = "{certificate}"' if certificate else "insecure = true")
        async with running_server(directory, config=config) as server:
            known = KnownServers(directory / "known_servers")
            socket = f"unix://{state}/sysadmd.sock"
            async with AsyncClient(socket, username="admin", password=PASSWORD) as admin:
                await admin.register(key, servers=known)
            trust: dict[str, Any] = {"ca": certificate}
            if kind == "original":
                # What is trusted blindly is the bridge alone: the pin is asked for all the same.
                trust = {"insecure": True, "pin": bridge_key(state).public.fingerprint}
            yield Behind(server, key, known.path, f"bridge://127.0.0.1:{port}", trust)


@pytest.mark.parametrize("kind", ["ours", "original"])
async def test_a_key_that_was_registered_reaches_the_server_through_a_bridge(tmp_path: Path, kind: str) -> None:
    async with behind(tmp_path, kind) as it, it.client() as client:
        assert (await client.call("rpc/identify"))["hostname"] == "nas.example"
        sessions = (await client.call("rpc/sessions/list"))["sessions"]
        (own,) = [one for one in sessions if one["method"] == "key"]
        assert own["account"] == "admin"
        assert len(json.dumps(await client.call("rpc/discover"))) > 50_000  # more than a payload holds


async def test_a_password_and_a_token_work_inside_the_session(tmp_path: Path) -> None:
    async with behind(tmp_path) as it:
        async with it.client(username="admin", password=PASSWORD) as client:
            token = (await client.call("rpc/tokens/create", {"name": "script"}))["token"]
        async with it.client(key=None, bridge_key=it.key, token=token) as client:
            assert await client.call("rpc/query")
        with pytest.raises(AuthFailed):
            await it.client(username="admin", password="wrong").__aenter__()


async def test_many_calls_at_once_and_a_large_one(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.client() as client:
        replies = await asyncio.gather(*(client.call("rpc/identify") for _ in range(60)))
        assert {reply["hostname"] for reply in replies} == {"nas.example"}
        with pytest.raises(RemoteError, match="400"):
            await client.call("rpc/dispatcher/run", {"job": ["x" * 700_000]})
        assert await client.call("rpc/identify")


async def test_a_slow_reader_is_not_taken_for_a_dead_one_and_loses_nothing(tmp_path: Path) -> None:
    """Replies of several windows wait at the server, and the bridge's pings are answered all the while."""
    async with behind(tmp_path, ping_interval=0.5, ping_timeout=2) as it:
        private = read_key(it.key)
        transport = Route(parse_address(it.address), private, None, None, it.known, ca=it.trust["ca"]).transport()
        channel = Channel(transport)
        await transport.open(20)
        await Login(None, None, None, private).authenticate(channel)
        ids = [await channel.send("rpc/discover", {}) for _ in range(40)]
        await asyncio.sleep(5)  # twice what a dead peer is given
        replies = [await channel.receive() for _ in ids]
        assert {reply.id for reply in replies if isinstance(reply, Reply)} == set(ids)
        await channel.aclose()


async def test_events_go_on_after_the_server_was_restarted(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.client() as client:
        async with client.events("dispatcher") as stream:
            await client.call("rpc/dispatcher/run", {"one": ["true"]})
            first = await asyncio.wait_for(anext(stream), 20)
            assert first.args["process_id"] == "one"
            before = (await it.listed()).id
            await it.server.end()
            await it.server.restart()
            await _run(client, {"two": ["true"]})
            async with asyncio.timeout(30):
                while (await anext(stream)).args.get("process_id") != "two":
                    pass
            assert stream.reconnects >= 1
        assert (await it.listed()).id != before


async def _run(client: AsyncClient, jobs: dict[str, list[str]]) -> None:
    """Again and again until the server is back."""
    async with asyncio.timeout(60):
        while True:
            try:
                await client.call("rpc/dispatcher/run", jobs)
            except (ConnectFailed, ConnectionLost):
                await asyncio.sleep(0.2)
            else:
                return


async def test_the_server_is_listed_as_one_that_seals_and_is_pinned(tmp_path: Path) -> None:
    async with behind(tmp_path) as it:
        found = await it.listed()
        assert (found.hostname, found.nick, found.sealed, found.pinned) == ("nas.example", "rack 1", True, True)
        assert found.key == bridge_key(it.server.state_dir).public.fingerprint
        async with it.client(found.id) as by_id:
            assert await by_id.call("rpc/query")


async def test_a_server_under_another_name_or_with_another_key_gets_nothing(tmp_path: Path) -> None:
    async with behind(tmp_path) as it:
        with pytest.raises(ConnectFailed, match="sysadmd key pin 'rack 1'"):
            await it.client("rack%201").__aenter__()
        with pytest.raises(Untrusted):
            await it.client(pin="ab" * 32).__aenter__()
        with pytest.raises(ConnectFailed, match=r"reaches no server 'nowhere'; it reaches nas\.example"):
            await it.client("nowhere").__aenter__()


async def test_the_commands_go_through_the_bridge(tmp_path: Path) -> None:
    async with behind(tmp_path) as it:
        config = tmp_path / "config"
        (config / "sysadmd").mkdir(parents=True)
        (config / "sysadmd" / "known_servers").write_bytes(it.known.read_bytes())
        env = {**os.environ, "SYSADMD_KEY": str(it.key), "XDG_CONFIG_HOME": str(config)}

        async def command(*args: str) -> Any:
            argv = (sys.executable, "-m", "sysadmd", *args, "--ca", str(it.trust["ca"]))
            process = await asyncio.create_subprocess_exec(*argv, env=env, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
            assert process.returncode == 0
            return json.loads(out)

        assert (await command("call", "rpc/identify", "--server", it.address))["hostname"] == "nas.example"
        assert (await command("status", "--json", "--server", it.address))["node"] == "nas.example"
        assert (await command("bridge", "list", "--server", it.url))["pinned"] is True
