"""A client that trusts everything, and an original server: what is said can be read on the bridge."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from sysadmd.client import AsyncClient, AuthFailed, ConnectionLost, RemoteError
from sysadmd.client.bridge.transport import BridgeTransport
from sysadmd.client.errors import ClientError
from sysadmd.keys.signing import PrivateKey
from tests.unit.client.bridge.scripted import OriginalServer, ScriptedBridge, same, transport_to
from tests.unit.client.waiting import until

HANDLERS: dict[str, Any] = {
    "rpc/query": lambda args: {"rpc/dispatcher": "read/write"},
    "events/subscribe": lambda args: {"subscribe": args[-1]},
}


def behind(
    *, original: bool, key: PrivateKey, known: PrivateKey | None = None
) -> tuple[ScriptedBridge, OriginalServer]:
    bridge = ScriptedBridge(key.public, original=original)
    server = OriginalServer("nas", (known or key).public, HANDLERS)
    bridge.join(server)
    return bridge, server


def client_of(bridge: ScriptedBridge, own: PrivateKey, login: dict[str, Any]) -> AsyncClient:
    def dial() -> BridgeTransport:
        return transport_to(bridge, "nas", same(own), pins=None)

    client = AsyncClient("bridge://relay/nas", dial=dial, **login)
    if not login:
        client._login._key = own  # what `key` reads from a file
    return client


@pytest.mark.parametrize("original", [False, True])
async def test_a_key_logs_in_and_everything_after_its_first_half_is_base64(rsa: PrivateKey, original: bool) -> None:
    bridge, server = behind(original=original, key=rsa)
    async with client_of(bridge, rsa, {}) as client:
        assert await client.call("rpc/query") == {"rpc/dispatcher": "read/write"}
    plain = [payload.startswith(b"{") for payload in server.received if b'"identify"' not in payload]
    assert plain == [True, False, False]
    assert server.requests[-1]["name"] == "query"


async def test_errors_are_read_in_the_classic_dialect(rsa: PrivateKey) -> None:
    bridge, _ = behind(original=False, key=rsa)
    async with client_of(bridge, rsa, {}) as client:
        with pytest.raises(RemoteError) as caught:
            await client.call("rpc/nothing")
    assert (caught.value.code, caught.value.message) == (404, "Not Found")


@pytest.mark.parametrize("login", [{"token": "secret"}, {"username": "ann", "password": "secret"}])
async def test_a_password_and_a_token_are_not_sent(rsa: PrivateKey, login: dict[str, str]) -> None:
    bridge, server = behind(original=False, key=rsa)
    with pytest.raises(AuthFailed, match="could read a password or a token"):
        async with client_of(bridge, rsa, login):
            pass
    assert [message["name"] for message in server.requests] == ["identify"]


async def test_a_key_that_the_server_does_not_know_is_told(rsa: PrivateKey) -> None:
    bridge, server = behind(original=False, key=rsa, known=PrivateKey.generate())
    with pytest.raises(AuthFailed, match="does not know the key with the checksum"):
        async with client_of(bridge, rsa, {}):
            pass
    assert len(server.requests) == 2


async def test_a_key_that_cannot_give_the_classic_proof_is_told(key: PrivateKey) -> None:
    bridge, _ = behind(original=False, key=key)
    with pytest.raises(AuthFailed, match="RSA keys only"):
        async with client_of(bridge, key, {}):
            pass


async def test_a_second_connection_proves_the_key_again(rsa: PrivateKey) -> None:
    bridge, server = behind(original=False, key=rsa)
    async with client_of(bridge, rsa, {}) as client:
        await client.call("rpc/query")
        bridge.line.drop()
        await until(lambda: client._connection is None or not client._connection.alive)
        await client.call("rpc/query")
    assert "auth_token" not in [message["name"] for message in server.requests]


async def test_events_come_with_the_names_of_the_documented_topics(rsa: PrivateKey) -> None:
    bridge, server = behind(original=False, key=rsa)
    state = {"hostname": "nas", "hostnamechanged": False, "priority": 9}
    async with client_of(bridge, rsa, {}) as client, client.events(["dispatcher", "system_state"]) as stream:
        assert server.requests[-1]["args"] == ["dispatcher", "system-state"]
        server.emits(bridge.line, "system_state", state)
        event = await anext(stream)
    assert (event.topic, event.args["priority"]) == ("system_state", "9 - Urgent")


@pytest.mark.parametrize("more", [{"since": ("e", 1)}, {"snapshot": True}, {"filter": {"x": 1}}, {"policy": "close"}])
async def test_what_an_original_server_does_not_know_is_not_asked_of_it(rsa: PrivateKey, more: dict[str, Any]) -> None:
    bridge, _ = behind(original=False, key=rsa)
    async with client_of(bridge, rsa, {}) as client:
        with pytest.raises(ClientError, match="original server"):
            await client.events("dispatcher", **more).open()


async def test_a_slow_consumer_stops_the_reading(rsa: PrivateKey) -> None:
    bridge, server = behind(original=False, key=rsa)
    async with client_of(bridge, rsa, {}) as client, client.events("system_state") as stream:
        for n in range(100):
            server.emits(bridge.line, "system_state", {"hostname": f"h{n}", "hostnamechanged": False, "priority": 0})
        for _ in range(50):
            await asyncio.sleep(0)
        assert bridge.line.inbox.qsize() > 50
        assert [(await anext(stream)).args["hostname"] for _ in range(100)] == [f"h{n}" for n in range(100)]


async def test_what_the_server_asks_is_passed_over(rsa: PrivateKey) -> None:
    bridge, server = behind(original=False, key=rsa)
    async with client_of(bridge, rsa, {}) as client:
        question = b'{"args":"","id":"x","name":"identify","namespace":"rpc"}'
        server.tells(bridge.line, base64.b64encode(question))
        assert await client.call("rpc/query")


async def test_a_call_in_flight_is_lost_with_the_server(rsa: PrivateKey) -> None:
    bridge, server = behind(original=False, key=rsa)
    async with client_of(bridge, rsa, {}) as client:
        server.mute = True
        call = asyncio.create_task(client.call("rpc/query"))
        await asyncio.sleep(0)
        bridge.leave(server)
        with pytest.raises(ConnectionLost, match="left the bridge"):
            await call
