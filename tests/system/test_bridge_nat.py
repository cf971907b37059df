"""A bridge between networks of their own: both sides are behind routers, a line is slow, a crowd comes.

The programs are real, and each runs on a host of the test's network; `networks` says what that is.
"""

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

from sysadmd.bridge.status import SOCKET, ask
from sysadmd.client import AsyncClient
from tests.integration.bridge_parties import Door, Person, sealing_key, server_at
from tests.integration.bridge_processes import RunningBridge, running_bridge
from tests.integration.servers import RunningServer
from tests.system.networks import Host, Network, can_masquerade, network, why_not

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]
ROOT = Path(__file__).resolve().parents[2]
PORT = 12149
PUBLIC = "203.0.113.1"
AT_ONCE = 2.0
"""Seconds that no call lasts, whoever else is busy: a few hundredths, and what a busy machine adds."""
GRACE = 4
"""Seconds for a log-in at the bridge: so long a crowd can hold all places for strangers, and then others get some."""
BEAT = 2
"""Seconds between two pings of the bridge, and for the answer, where a test waits for them."""
CROWD = 1000
"""Connections within a few seconds: several times as often as 10,000 a minute."""
LISTENER = "import socket; server = socket.create_server(('', 8000)); print('{}', flush=True); input()"


@dataclass
class Party:
    """The bridge, a server and somebody with a key that both know."""

    bridge: RunningBridge
    server: RunningServer
    person: Person

    def program(self, what: str) -> list[str]:
        pin = sealing_key(self.server.state_dir).public.fingerprint
        url = f"bridge://{PUBLIC}:{PORT}/alpha"
        trust = (str(self.person.key.file), pin, str(self.bridge.state_dir / "server.crt"))
        return [sys.executable, "-m", "tests.system.bridge_caller", what, url, *trust]

    def status(self) -> dict[str, Any]:
        return ask(self.bridge.state_dir / SOCKET)


@dataclass
class Program:
    """A program that tells lines of JSON, on some host."""

    process: asyncio.subprocess.Process

    async def told(self, timeout: float = 30.0) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout):
            line = await self.process.stdout.readline()
        assert line, "the program ended without a word"
        found: dict[str, Any] = json.loads(line)
        return found

    async def stopped(self) -> dict[str, Any]:
        """What it says in the end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.told()


@contextlib.asynccontextmanager
async def on(host: Host, argv: list[str]) -> AsyncIterator[Program]:
    """A program on a host; it is killed at the end."""
    pipe = asyncio.subprocess.PIPE
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(*host.argv(*argv), stdin=pipe, stdout=pipe, env=environ, cwd=ROOT)
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def party(directory: Path, public: Host, home: Host, beat: int = 20) -> AsyncIterator[Party]:
    """The bridge on one host, and the server on another one. `beat`: seconds between two pings of the bridge."""
    limits = f"[limits]\nauth_timeout = {GRACE}\nping_interval = {beat}\nping_timeout = {beat}\n"
    options: dict[str, Any] = {"prefix": public.argv(), "listen": f"0.0.0.0:{PORT}", "config": limits}
    async with running_bridge(directory, tls=True, **options) as bridge:
        person = Person.make(directory, "ann", bridge)
        door = Door(PORT, bridge.state_dir / "server.crt", PUBLIC)
        async with server_at(bridge, directory, "alpha", door=door, prefix=home.argv()) as server:
            async with AsyncClient(f"unix://{server.state_dir}/sysadmd.sock") as local:
                args = {"pub_key": person.key.pem, "user": "admin"}
                await local.call("rpc/settings/register_ssl_cert", args)
            yield Party(bridge, server, person)


@dataclass
class Router:
    """What somebody has at home, at a line of the public host, which is `outside`.1 there."""

    made: Network
    public: Host
    name: str
    outside: str

    def __post_init__(self) -> None:
        self.host = self.made.host(f"{self.name}-router")
        self.made.cable(self.public, self.host, (self.name, "line"), self.outside)
        self.host.ip("route", "add", "default", "via", f"{self.outside}.1")
        self.host.masquerade("line")

    def inside(self, name: str, subnet: str) -> Host:
        """A host at a cable of its own."""
        host = self.made.host(name)
        self.made.cable(self.host, host, (name, "cable"), subnet)
        host.ip("route", "add", "default", "via", f"{subnet}.1")
        if not can_masquerade():
            # The public host forwards nothing, so that it is the only one outside who is reached.
            self.public.ip("route", "add", f"{subnet}.0/24", "via", f"{self.outside}.2")
        return host


@pytest.fixture(autouse=True)
def networks_can_be_made() -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)


async def test_two_who_cannot_reach_each_other_meet_at_the_bridge_and_a_slow_line_is_nobody_else_s(
    tmp_path: Path,
) -> None:
    with network() as made:
        public = made.host("public")
        office, homes = Router(made, public, "office", "203.0.113"), Router(made, public, "homes", "198.51.100")
        server = office.inside("server", "192.168.1")
        client, slow = homes.inside("client", "192.168.2"), homes.inside("slow", "192.168.3")
        homes.host.slow_down("slow", "512kbit")
        async with party(tmp_path, public, server, BEAT) as it:
            async with on(server, [sys.executable, "-c", LISTENER]) as listener:
                assert await listener.told() == {}
                assert office.host.reaches("192.168.1.2", 8000)
                for address in ("192.168.1.2", "203.0.113.2"):
                    assert not client.reaches(address, 8000)
            assert client.reaches(PUBLIC, PORT)
            async with on(client, it.program("talk")) as fast, on(slow, it.program("load")) as loaded:
                assert await fast.told() == {"ready": "alpha"}
                assert await loaded.told() == {"ready": "alpha"}
                assert "answer" in await loaded.told()
                # Its pings wait behind that.
                await asyncio.sleep(1.0)
                seen = await fast.stopped()
                # The slow one has most of its answers before it still, and gets them.
                assert "answer" in await loaded.told()
                assert it.status()["figures"]["cut"] == {}
                assert seen["worst"] < AT_ONCE, seen
                assert seen["calls"] >= 20
                assert seen["events"] >= 2
                async with AsyncClient(f"unix://{it.server.state_dir}/sysadmd.sock") as local:
                    listed = (await local.call("rpc/sessions/list"))["sessions"]
                assert {one["insecure"] for one in listed if one["via"] == "bridge"} == {False}
                assert len(it.status()["peers"]) >= 2


async def test_a_cable_that_is_pulled_is_noticed_and_one_that_is_put_back_is_used(tmp_path: Path) -> None:
    """No end of a connection is told: nothing comes any more."""
    with network() as made:
        public, home, client = made.host("public"), made.host("home"), made.host("client")
        made.cable(public, home, ("home", "line"), "203.0.113")
        made.cable(public, client, ("client", "line"), "198.51.100")
        client.ip("route", "add", "default", "via", "198.51.100.1")
        async with party(tmp_path, public, home, BEAT) as it, on(client, it.program("talk")) as talking:
            assert await talking.told() == {"ready": "alpha"}
            public.ip("link", "set", "dev", "home", "down")
            async with asyncio.timeout(10 * BEAT):
                while any(peer["role"] == "server" for peer in it.status()["peers"]):
                    await asyncio.sleep(0.05)
            # The client learns it from the bridge: its own line is up.
            assert "left" in (await talking.told())["lost"]
            public.ip("link", "set", "dev", "home", "up")
            async with on(client, it.program("enter")) as back:
                assert (await back.told(60))["host"] == "alpha"


async def test_a_crowd_of_strangers_disturbs_nobody_who_is_logged_in_and_keeps_nobody_out(tmp_path: Path) -> None:
    with network() as made:
        public, home, outside = made.host("public"), made.host("home"), made.host("outside")
        made.cable(public, home, ("home", "line"), "203.0.113")
        made.cable(public, outside, ("outside", "line"), "198.51.100")
        outside.ip("route", "add", "local", "10.9.0.0/16", "dev", "lo")
        outside.ip("route", "add", "default", "via", "198.51.100.1")
        public.ip("route", "add", "10.9.0.0/16", "via", "198.51.100.2")
        crowd = [sys.executable, "-m", "tests.system.bridge_crowd", "198.51.100.1", str(PORT), "10.9", str(CROWD)]
        async with party(tmp_path, public, home) as it, on(home, it.program("talk")) as talking:
            assert await talking.told() == {"ready": "alpha"}
            async with on(outside, crowd) as strangers:
                counted = await strangers.told(60)
                assert counted.keys() <= {"asked", "dropped"}, counted
                assert sum(counted.values()) == CROWD
                assert counted["dropped"] > 0
                # Nobody had to wait for the crowd to leave.
                async with on(home, it.program("enter")) as late:
                    assert (await late.told(60))["host"] == "alpha"
                told = it.status()
                assert told["pending"] <= 256
                assert len([peer for peer in told["peers"] if peer["nick"]]) >= 2
                seen = await talking.stopped()
            assert seen["worst"] < AT_ONCE, seen
            assert seen["events"] >= 2
