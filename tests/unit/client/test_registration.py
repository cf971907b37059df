"""Registering a key and pinning the server: in which order, over which connections, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sysadmd.client import (
    AsyncClient,
    BadAddress,
    Client,
    ClientError,
    ConnectFailed,
    KnownServers,
    PinError,
    Pinned,
    RemoteError,
)
from sysadmd.client.mock import MockServer
from sysadmd.errors import Conflict
from sysadmd.keys.signing import parse
from tests.unit.client.test_async_client import methods
from tests.unit.keys.openssl import make_key, public_key

ONE, TWO = "1" * 64, "2" * 64
IDENTITY = {"hostname": "nas", "type": "server", "seal": {"version": 1, "key": ONE}}


class Rig:
    """A server that seals sessions, a key, and a file of known servers."""

    def __init__(self, directory: Path, identity: Any = IDENTITY) -> None:
        self.identity = identity
        handlers = {"rpc/identify": lambda args: self.identity, "rpc/settings/register_ssl_cert": lambda args: {}}
        self.server = MockServer(handlers)
        self.key = make_key(directory, "ed25519")
        self.known = KnownServers(directory / "known_servers")

    async def register(self, url: str = "wss://nas.example", insecure: bool = False, **options: Any) -> Pinned:
        async with AsyncClient(url, dial=self.server.dial, insecure=insecure) as client:
            return await client.register(self.key, servers=self.known, **options)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.mark.parametrize("url", ["wss://192.0.2.1", "unix:///run/sysadmd.sock", "bridge://bridge.example/nas"])
async def test_both_ends_know_each_other_then(rig: Rig, url: str) -> None:
    assert await rig.register(url, nickname="laptop", email="o@example.org") == Pinned("nas", ONE)
    assert rig.known.pins("nas") == {ONE}
    asked, registered = rig.server.requests
    assert asked.args == {"seal": 1}
    assert registered.args == {
        "pub_key": parse(public_key(rig.key)).registered,
        "nickname": "laptop",
        "email": "o@example.org",
    }


async def test_the_private_half_stays_where_it_is(rig: Rig) -> None:
    await rig.register()
    assert "PRIVATE" not in repr(rig.server.requests)


async def test_a_server_can_be_pinned_under_another_name(rig: Rig) -> None:
    assert await rig.register(pin_as="my nas") == Pinned("my nas", ONE)
    assert rig.known.names() == ("my nas",)


async def test_registering_again_changes_nothing(rig: Rig) -> None:
    await rig.register()
    assert await rig.register() == Pinned("nas", ONE)
    assert rig.known.pins("nas") == {ONE}


async def test_a_server_with_another_key_than_the_pinned_one_gets_no_key(rig: Rig) -> None:
    rig.known.add("nas", TWO)
    with pytest.raises(PinError, match=f"known by the key {TWO}, and this one is {ONE}"):
        await rig.register()
    assert methods(rig.server) == ["rpc/identify"]
    assert rig.known.pins("nas") == {TWO}


async def test_a_pin_is_replaced_when_that_is_asked_for(rig: Rig) -> None:
    rig.known.add("nas", TWO)
    assert await rig.register(replace=True) == Pinned("nas", ONE)
    assert rig.known.pins("nas") == {ONE}


async def test_a_key_that_is_refused_pins_nothing(rig: Rig) -> None:
    def refuse(args: Any) -> Any:
        raise Conflict("the key is registered already")

    rig.server.handlers["rpc/settings/register_ssl_cert"] = refuse
    with pytest.raises(RemoteError, match="registered already"):
        await rig.register()
    assert rig.known.names() == ()


@pytest.mark.parametrize(
    "identity",
    [{"hostname": "nas", "type": "server"}, {**IDENTITY, "seal": True}, None, "nas"],
)
async def test_a_server_without_sealed_sessions_gets_no_key(rig: Rig, identity: Any) -> None:
    rig.identity = identity
    with pytest.raises(ClientError, match="no sealed sessions"):
        await rig.register()
    assert methods(rig.server) == ["rpc/identify"]


@pytest.mark.parametrize("identity", [{**IDENTITY, "seal": {"key": "x"}}, {**IDENTITY, "hostname": "a\nb"}])
async def test_what_cannot_be_pinned_gets_no_key(rig: Rig, identity: Any) -> None:
    rig.identity = identity
    with pytest.raises(PinError, match="cannot be pinned"):
        await rig.register()
    assert methods(rig.server) == ["rpc/identify"]


@pytest.mark.parametrize("url,insecure", [("wss://nas.example", True), ("ws://127.0.0.1", False)])
async def test_where_somebody_could_stand_between_nothing_is_exchanged(rig: Rig, url: str, insecure: bool) -> None:
    with pytest.raises(BadAddress, match="keys are exchanged over wss"):
        await rig.register(url, insecure=insecure)
    assert rig.server.requests == []


async def test_a_file_that_is_no_private_key_is_named(rig: Rig) -> None:
    rig.key.write_text("dear olga")
    with pytest.raises(ConnectFailed, match="not a private key"):
        await rig.register()
    assert rig.server.requests == []


def test_the_client_without_a_loop_registers_too(rig: Rig) -> None:
    with Client("wss://nas.example", dial=rig.server.dial) as client:
        assert client.register(rig.key, pin_as="x", servers=rig.known) == Pinned("x", ONE)
    assert rig.known.pins("x") == {ONE}
