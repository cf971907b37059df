"""What a client says to the bridge itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.client.bridge import Bridge, BridgeKeys
from sysadmd.client.bridge.peers import Peer
from sysadmd.client.errors import AuthFailed, ClientError, ConnectFailed, ConnectionLost
from sysadmd.keys.signing import AT_BRIDGE, PrivateKey, verify
from tests.unit.client.bridge.scripted import LONG, Line, ScriptedBridge, ScriptedServer, same


async def opened(bridge: ScriptedBridge, keys: BridgeKeys) -> Bridge:
    found = Bridge(Line(bridge), keys, "bridge://relay")
    await found.open(5)
    return found


async def announced(bridge: Bridge) -> dict[str, Peer]:
    while not bridge.announced:
        await bridge.receive()
    return bridge.peers


async def test_a_client_says_that_it_is_one_and_wants_details(key: PrivateKey) -> None:
    bridge = ScriptedBridge(key.public)
    await opened(bridge, same(key))
    assert bridge.line.identity["type"] == "client"
    assert bridge.line.identity["details"] is True
    assert "." not in bridge.line.identity["hostname"]


async def test_one_key_opens_the_bridge_and_the_checksum_of_the_other_finds_servers(
    key: PrivateKey, rsa: PrivateKey
) -> None:
    bridge = ScriptedBridge(key.public)
    await announced(await opened(bridge, BridgeKeys(bridge=key, servers=rsa)))
    assert bridge.line.logged_in
    assert bridge.line.checksums == [rsa.public.checksum]


async def test_our_bridge_tells_the_names_of_the_peers(key: PrivateKey) -> None:
    bridge = ScriptedBridge(key.public)
    nas = bridge.join(ScriptedServer("nas.example", nick="the NAS"))
    peers = await announced(await opened(bridge, same(key)))
    assert peers == {nas.id: Peer(nas.id, "nas.example", "the NAS", "")}


async def test_our_bridge_tells_that_there_is_nobody(key: PrivateKey) -> None:
    assert await announced(await opened(ScriptedBridge(key.public), same(key))) == {}


async def test_an_original_bridge_gets_the_classic_proof_and_tells_ids(rsa: PrivateKey) -> None:
    bridge = ScriptedBridge(rsa.public, original=True)
    nas = bridge.join(ScriptedServer("nas"))
    found = await opened(bridge, same(rsa))
    assert await announced(found) == {nas.id: Peer(nas.id)}
    assert found.original


async def test_a_key_that_the_bridge_does_not_know_is_named(key: PrivateKey, rsa: PrivateKey) -> None:
    with pytest.raises(AuthFailed, match=rf"does not know the key {key.public.fingerprint}.*bridge key import"):
        await opened(ScriptedBridge(rsa.public), same(key))


async def test_the_refusal_of_an_original_bridge_is_understood(rsa: PrivateKey) -> None:
    bridge = ScriptedBridge(PrivateKey.generate().public, original=True)
    with pytest.raises(AuthFailed, match="does not know the key"):
        await opened(bridge, same(rsa))


async def test_an_ed25519_key_is_nothing_for_an_original_bridge(key: PrivateKey) -> None:
    with pytest.raises(AuthFailed, match="needs an RSA key"):
        await opened(ScriptedBridge(key.public, original=True), same(key))


async def test_what_a_bridge_is_given_opens_no_server(key: PrivateKey) -> None:
    bridge = ScriptedBridge(key.public)
    await opened(bridge, same(key))
    (proof,) = (json.loads(frame)["args"] for frame in bridge.line.sent if b"signature" in frame)
    signature = base64.b64decode(proof["signature"])
    assert verify(key.public.pem, proof["algorithm"], LONG, signature, AT_BRIDGE)
    assert not verify(key.public.pem, proof["algorithm"], LONG, signature)


async def test_a_server_in_place_of_a_bridge_is_told(key: PrivateKey) -> None:
    bridge = ScriptedBridge(key.public)
    bridge.type = "server"
    with pytest.raises(ConnectFailed, match="a server answers there, not a bridge"):
        await opened(bridge, same(key))


async def test_peers_come_and_go(key: PrivateKey) -> None:
    bridge = ScriptedBridge(key.public)
    found = await opened(bridge, same(key))
    await announced(found)
    nas = bridge.join(ScriptedServer("nas"))
    await found.receive()
    assert list(found.peers) == [nas.id]
    bridge.leave(nas)
    await found.receive()
    assert found.peers == {}


async def test_a_frame_to_a_peer_that_has_gone_takes_it_off_the_list(key: PrivateKey) -> None:
    bridge = ScriptedBridge(key.public)
    nas = bridge.join(ScriptedServer("nas"))
    found = await opened(bridge, same(key))
    await announced(found)
    bridge.leave(nas, silently=True)
    await found.relay(nas.id, b"{}")
    await found.receive()
    assert found.peers == {}


async def test_frames_that_are_no_relay_are_counted_and_passed_over(key: PrivateKey) -> None:
    bridge = ScriptedBridge(key.public)
    found = await opened(bridge, same(key))
    await announced(found)
    bridge.line.push(b"without a newline")
    bridge.line.push(b"::{x}\npayload")
    assert await found.receive() == ("::{x}", b"payload")
    assert found.dropped == 1


async def test_what_is_no_message_ends_the_connection(key: PrivateKey) -> None:
    bridge = ScriptedBridge(key.public)
    found = await opened(bridge, same(key))
    bridge.line.push(b"{broken")
    with pytest.raises(ConnectionLost, match="no message"):
        await announced(found)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.fixed_dictionaries(
    {
        "namespace": st.sampled_from(["rpc", "events"]) | ANY,
        "name": st.sampled_from(["bridge", "error", "response", "identify", "settings"]) | ANY,
        "id": st.sampled_from(["sysadmd-client-login", ""]) | ANY,
        "args": ANY
        | st.fixed_dictionaries({"available_connections": ANY, "connections": ANY})
        | st.fixed_dictionaries({"connection": ANY, "code": ANY})
        | st.fixed_dictionaries({"test_string": ANY}),
    }
)


@given(messages=st.lists(MESSAGES, max_size=4), frame=st.binary(max_size=80))
def test_whatever_a_bridge_says_the_client_goes_on_or_fails_in_order(
    messages: list[dict[str, Any]], frame: bytes
) -> None:
    private = _kept_key()

    async def converse() -> None:
        bridge = ScriptedBridge(private.public)
        found = Bridge(Line(bridge), same(private), "bridge://relay")
        bridge.welcomes = lambda line, message: line.drop()  # type: ignore[method-assign]
        original = bridge.logs_in

        def says(line: Line, message: dict[str, Any]) -> None:
            for each in messages:
                line.push(each)
            line.push(frame)
            original(line, message)

        bridge.logs_in = says  # type: ignore[method-assign]
        with contextlib.suppress(ClientError):
            await found.open(5)
            while True:
                await found.receive()

    asyncio.run(converse())


@functools.cache
def _kept_key() -> PrivateKey:
    return PrivateKey.generate("ed25519")


@pytest.mark.parametrize("args", [b'"x"', b"{}", b'{"test_string":7}', b'{"test_string":""}', b"null"])
async def test_what_is_no_challenge_is_not_signed(key: PrivateKey, args: bytes) -> None:
    bridge = ScriptedBridge(key.public)

    def nonsense(line: Line, message: dict[str, object]) -> None:
        line.push(b'{"namespace":"rpc","name":"response","id":"sysadmd-client-login","args":%b}' % args)

    bridge.logs_in = nonsense  # type: ignore[method-assign]
    with pytest.raises(AuthFailed):
        await opened(bridge, same(key))
    assert not any(b"signature" in frame or b"encrypted_string" in frame for frame in bridge.line.sent)
