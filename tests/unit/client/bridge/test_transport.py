"""A client, a bridge and servers, all in memory: finding the server, sealing, the window, and every way to lose it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sysadmd.client import AsyncClient, ConnectFailed, ConnectionLost, RemoteError, Untrusted
from sysadmd.client.bridge import BridgeKeys
from sysadmd.client.bridge.transport import BridgeTransport
from sysadmd.keys.seal import WINDOW, SealingContext
from sysadmd.keys.signing import PrivateKey
from sysadmd.wire.messages import Meta
from sysadmd.wire.relay import relayed
from sysadmd.wire.sysadm import SYSADM
from tests.unit.client.bridge.scripted import Handler, Line, ScriptedBridge, ScriptedServer, same, transport_to
from tests.unit.client.waiting import until

ECHO: Mapping[str, Handler] = {"test/echo": lambda args: args}


def client_of(bridge: ScriptedBridge, wanted: str, key: PrivateKey, pin: str, **options: Any) -> AsyncClient:
    def dial() -> BridgeTransport:
        return transport_to(bridge, wanted, same(key), pins=frozenset({pin}))

    return AsyncClient("bridge://relay/" + wanted, dial=dial, **options)


@asynccontextmanager
async def opened(
    bridge: ScriptedBridge, wanted: str, keys: BridgeKeys, **options: Any
) -> AsyncIterator[BridgeTransport]:
    transport = transport_to(bridge, wanted, keys, **options)
    try:
        await transport.open(10)
        yield transport
    finally:
        await transport.aclose()


async def failure(bridge: ScriptedBridge, wanted: str, keys: BridgeKeys, **options: Any) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        async with opened(bridge, wanted, keys, **{"patience": 0.05, **options}):
            pass
    return caught.value


@pytest.fixture(params=["ours", "original"])
def bridge(request: pytest.FixtureRequest, rsa: PrivateKey) -> ScriptedBridge:
    return ScriptedBridge(rsa.public, original=request.param == "original")


# Calls


async def test_a_call_reaches_the_server_and_the_bridge_reads_nothing(
    bridge: ScriptedBridge, rsa: PrivateKey, context: SealingContext
) -> None:
    bridge.join(ScriptedServer("mail", context))
    nas = bridge.join(ScriptedServer("nas.example", context, ECHO))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        assert await client.call("test/echo", {"secret": "hunter2"}) == {"secret": "hunter2"}
    assert not any(b"hunter2" in payload for payload in nas.received)
    assert not any(b"hunter2" in frame for frame in bridge.line.sent)


async def test_an_error_reply_is_one(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.join(ScriptedServer("nas", context))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        with pytest.raises(RemoteError, match="404"):
            await client.call("test/nothing")


async def test_a_session_binds_proofs_to_the_servers_certificate(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.join(ScriptedServer("nas", context))
    async with opened(bridge, "nas", same(rsa), pins=frozenset({context.fingerprint})) as transport:
        assert transport.binding == context.binding
        assert not transport.in_clear


async def test_a_reply_of_many_windows_comes_whole(rsa: PrivateKey, context: SealingContext) -> None:
    bridge, text = ScriptedBridge(rsa.public), "x" * (5 * WINDOW)
    bridge.join(ScriptedServer("nas", context, {"test/large": lambda args: text}))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        assert await client.call("test/large") == text


async def test_a_request_of_several_windows_goes_whole(rsa: PrivateKey, context: SealingContext) -> None:
    bridge, text = ScriptedBridge(rsa.public), "x" * (3 * WINDOW)
    bridge.join(ScriptedServer("nas", context, ECHO))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        assert await client.call("test/echo", {"text": text}) == {"text": text}


async def test_a_sender_waits_for_the_window(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    nas = bridge.join(ScriptedServer("nas", context))
    async with opened(bridge, "nas", same(rsa), pins=frozenset({context.fingerprint})) as transport:
        nas.mute = True
        first = asyncio.create_task(transport.send(b"x" * (2 * WINDOW)))
        await first
        second = asyncio.create_task(transport.send(b"y"))
        await until(lambda: sum(frame.count(b"\n~") for frame in bridge.line.sent) >= 5)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not second.done()
        bridge.line.drop()
        with pytest.raises(ConnectionLost):
            await second


async def test_a_slow_consumer_holds_the_server_back_and_loses_nothing(
    rsa: PrivateKey, context: SealingContext
) -> None:
    bridge = ScriptedBridge(rsa.public)
    nas = bridge.join(ScriptedServer("nas", context))
    async with opened(bridge, "nas", same(rsa), pins=frozenset({context.fingerprint})) as transport:
        line = bridge.line
        sent = [b"%d" % n + b"x" * 30_000 for n in range(40)]
        for message in sent:
            nas.says(line, message)
        await until(line.inbox.empty)
        assert nas.seals[line.id].pending > 0  # the window holds back what nobody takes
        bridge.announce()  # the bridge itself is read all the same
        await until(line.inbox.empty)
        assert [await transport.receive() for _ in sent] == sent


# Finding the server


async def test_an_id_names_a_server(bridge: ScriptedBridge, rsa: PrivateKey, context: SealingContext) -> None:
    bridge.join(ScriptedServer("nas", context))
    second = bridge.join(ScriptedServer("nas", context, ECHO))
    async with client_of(bridge, second.id, rsa, context.fingerprint) as client:
        assert await client.call("test/echo", {"n": 1}) == {"n": 1}


async def test_a_nick_names_a_server(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.join(ScriptedServer("nas", context, ECHO, nick="rack 1"))
    async with opened(bridge, "rack 1", same(rsa), pins=frozenset({context.fingerprint})):
        pass


async def test_two_servers_of_one_name_are_told_apart_by_their_ids(
    bridge: ScriptedBridge, rsa: PrivateKey, context: SealingContext
) -> None:
    one, two = bridge.join(ScriptedServer("nas", context)), bridge.join(ScriptedServer("nas", context))
    error = await failure(bridge, "nas", same(rsa), pins=None, patience=5)
    assert "names 2 servers" in str(error)
    assert one.id in str(error)
    assert two.id in str(error)
    assert not any(payload.startswith(b"~") for payload in one.received + two.received)


async def test_a_server_that_is_not_there_is_told_with_those_that_are(
    bridge: ScriptedBridge, rsa: PrivateKey, context: SealingContext
) -> None:
    bridge.join(ScriptedServer("mail", context))
    assert "reaches no server 'nas'; it reaches mail" in str(await failure(bridge, "nas", same(rsa)))


async def test_a_bridge_that_reaches_nobody_says_so(bridge: ScriptedBridge, rsa: PrivateKey) -> None:
    assert "nor any other that knows this key" in str(await failure(bridge, "nas", same(rsa)))


async def test_a_server_that_comes_a_little_later_is_waited_for(
    bridge: ScriptedBridge, rsa: PrivateKey, context: SealingContext
) -> None:
    transport = transport_to(bridge, "nas", same(rsa), pins=frozenset({context.fingerprint}))
    opening = asyncio.create_task(transport.open(10))
    await until(lambda: bool(bridge.lines) and bool(bridge.line.checksums))
    assert not opening.done()
    bridge.join(ScriptedServer("nas", context))
    await opening
    await transport.aclose()


async def test_of_two_connections_of_one_server_the_one_that_answers_is_taken(
    rsa: PrivateKey, context: SealingContext
) -> None:
    """The other one broke, and our bridge has not noticed yet."""
    bridge = ScriptedBridge(rsa.public)
    bridge.join(ScriptedServer("nas", context)).mute = True
    bridge.join(ScriptedServer("nas", context, ECHO))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        assert await client.call("test/echo", {}) == {}


async def test_a_server_that_comes_at_the_last_moment_is_taken(rsa: PrivateKey, context: SealingContext) -> None:
    """The time for it is over while others are still asked whether they have the name, too."""
    bridge = ScriptedBridge(rsa.public, original=True)
    bridge.join(ScriptedServer("mail", context)).mute = True
    bridge.join(ScriptedServer("nas", context))
    options: dict[str, Any] = {"pins": frozenset({context.fingerprint}), "patience": 0.2}
    async with opened(bridge, "nas", same(rsa), **options):
        pass


async def test_the_stale_ids_of_an_original_bridge_do_no_harm(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public, original=True)
    gone = bridge.join(ScriptedServer("nas", context))
    gone.mute = True
    bridge.join(ScriptedServer("nas", context, ECHO))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        assert await client.call("test/echo", {}) == {}


# Trust


async def test_a_server_whose_key_nobody_knows_gets_nothing_and_its_key_is_told(
    bridge: ScriptedBridge, rsa: PrivateKey, context: SealingContext
) -> None:
    nas = bridge.join(ScriptedServer("nas", context))
    error = await failure(bridge, "nas", same(rsa))
    assert not isinstance(error, Untrusted)
    assert f"sysadmd key pin nas {context.fingerprint}" in str(error)
    assert "sysadmd key register" in str(error)
    assert all(b'"identify"' in payload for payload in nas.received)


async def test_a_server_with_another_key_gets_nothing(
    bridge: ScriptedBridge, rsa: PrivateKey, context: SealingContext, other_context: SealingContext
) -> None:
    nas = bridge.join(ScriptedServer("nas", context))
    error = await failure(bridge, "nas", same(rsa), pins=frozenset({other_context.fingerprint}))
    assert isinstance(error, Untrusted)
    assert error.fingerprint == context.fingerprint
    assert all(b'"identify"' in payload for payload in nas.received)


async def test_a_server_that_offers_the_right_key_and_has_another_gets_nothing(
    bridge: ScriptedBridge, rsa: PrivateKey, context: SealingContext, other_context: SealingContext
) -> None:
    """What the bridge itself could do: it knows the right fingerprint, and not the key."""
    nas = bridge.join(ScriptedServer("nas", other_context, ECHO))
    nas.offers = context.fingerprint
    error = await failure(bridge, "nas", same(rsa), pins=frozenset({context.fingerprint}))
    assert isinstance(error, Untrusted)
    assert error.fingerprint == other_context.fingerprint
    assert not nas.seals[bridge.line.id].established


async def test_a_client_that_trusts_all_takes_any_key(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.join(ScriptedServer("nas", context))
    async with opened(bridge, "nas", same(rsa), pins=None) as transport:
        assert not transport.in_clear


async def test_a_server_that_cannot_seal_is_refused(bridge: ScriptedBridge, rsa: PrivateKey) -> None:
    nas = bridge.join(ScriptedServer("nas"))
    error = await failure(bridge, "nas", same(rsa), pins=frozenset({"aa"}))
    assert "cannot seal" in str(error)
    assert "--insecure" in str(error)
    assert len(nas.received) <= 2


async def test_what_is_said_in_the_clear_is_not_the_servers(rsa: PrivateKey, context: SealingContext) -> None:
    """The bridge cannot answer for the server once the session is sealed."""
    bridge = ScriptedBridge(rsa.public)
    nas = bridge.join(ScriptedServer("nas", context, ECHO))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        for n in range(1, 5):
            forged = {"namespace": "test", "name": "response", "id": f"c{n}", "args": "forged"}
            bridge.line.push(relayed(nas.id, json.dumps(forged).encode()))
        assert await client.call("test/echo", {}) == {}


# Losing it


async def in_flight(client: AsyncClient, server: ScriptedServer) -> asyncio.Task[Any]:
    """A call that the server has and does not answer."""
    server.answers = lambda line, message: server.requests.append(message)  # type: ignore[method-assign]
    call = asyncio.create_task(client.call("test/echo"))
    await until(lambda: bool(server.requests))
    return call


async def test_a_call_in_flight_is_lost_with_the_server(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    nas = bridge.join(ScriptedServer("nas", context))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        call = await in_flight(client, nas)
        bridge.leave(nas)
        with pytest.raises(ConnectionLost, match="the server left the bridge"):
            await call


async def test_a_call_in_flight_is_lost_when_the_server_closes_the_session(
    rsa: PrivateKey, context: SealingContext
) -> None:
    bridge = ScriptedBridge(rsa.public)
    nas = bridge.join(ScriptedServer("nas", context))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        call = await in_flight(client, nas)
        nas.tells(bridge.line, b"!the session was ended by an administrator")
        with pytest.raises(ConnectionLost, match="ended by an administrator"):
            await call


async def test_a_call_in_flight_is_lost_with_the_bridge(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    nas = bridge.join(ScriptedServer("nas", context))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        call = await in_flight(client, nas)
        bridge.line.drop()
        with pytest.raises(ConnectionLost, match="the bridge closed the connection"):
            await call


async def test_a_frame_that_the_bridge_cannot_deliver_loses_the_connection(
    rsa: PrivateKey, context: SealingContext
) -> None:
    bridge = ScriptedBridge(rsa.public)
    nas = bridge.join(ScriptedServer("nas", context, ECHO))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        bridge.leave(nas, silently=True)
        with pytest.raises(ConnectionLost, match="the server left the bridge"):
            await client.call("test/echo")


@pytest.mark.parametrize("payload", [b"~" + b"eHh4" * 16, b"~not base64", b"^x", b"^99999999"])
async def test_a_broken_session_is_lost(rsa: PrivateKey, context: SealingContext, payload: bytes) -> None:
    bridge = ScriptedBridge(rsa.public)
    nas = bridge.join(ScriptedServer("nas", context))
    async with opened(bridge, "nas", same(rsa), pins=frozenset({context.fingerprint})) as transport:
        nas.tells(bridge.line, payload)
        with pytest.raises(ConnectionLost):
            await transport.receive()


async def test_the_next_call_finds_the_server_under_its_new_id(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    first = bridge.join(ScriptedServer("nas", context, ECHO))
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        await client.call("test/echo")
        bridge.leave(first)
        again = bridge.join(ScriptedServer("nas", context, ECHO))
        await until(lambda: not client._connection or not client._connection.alive)
        await client.call("test/echo")
    assert len(again.requests) == 1


async def test_events_go_on_after_the_server_came_back_under_another_id(
    rsa: PrivateKey, context: SealingContext
) -> None:
    bridge = ScriptedBridge(rsa.public)

    def server() -> ScriptedServer:
        return bridge.join(ScriptedServer("nas", context, {"events/subscribe": lambda args: {"epoch": "e", "seq": 0}}))

    def emit(server: ScriptedServer, seq: int) -> None:
        args = {"message": "m", "priority": 2, "class": "snapshot"}
        for frame in SYSADM.event("life_preserver", args, Meta("e", seq, 1.0, "nas")):
            server.says(bridge.line, frame)

    first = server()
    async with client_of(bridge, "nas", rsa, context.fingerprint) as client:
        async with client.events("life_preserver") as stream:
            emit(first, 1)
            assert (await anext(stream)).seq == 1
            bridge.leave(first)
            second = server()
            coming = asyncio.create_task(anext(stream))
            await until(lambda: bool(second.requests))
            emit(second, 2)
            assert (await coming).seq == 2
        assert second.requests[0].args["since"] == {"epoch": "e", "seq": 1}


async def test_the_server_is_told_that_the_client_is_done(rsa: PrivateKey, context: SealingContext) -> None:
    """An original bridge would not tell it."""
    bridge = ScriptedBridge(rsa.public)
    nas = bridge.join(ScriptedServer("nas", context))
    async with opened(bridge, "nas", same(rsa), pins=None):
        assert nas.farewells == []
    assert nas.farewells == [b"!the client is done"]


async def test_closing_ends_the_tasks_and_may_be_repeated(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.join(ScriptedServer("nas", context)).mute = False
    transport = transport_to(bridge, "nas", same(rsa), pins=None)
    await transport.open(5)
    waiting = asyncio.create_task(transport.receive())
    await asyncio.sleep(0)
    bridge.servers.clear()
    await transport.aclose()
    await transport.aclose()
    with pytest.raises(ConnectionLost):
        await waiting
    assert [task for task in asyncio.all_tasks() if "bridge" in task.get_name()] == []


# Deadlines


async def test_a_bridge_that_says_nothing_is_given_up(rsa: PrivateKey) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.hears = lambda line, frame: None  # type: ignore[method-assign]
    transport = transport_to(bridge, "nas", same(rsa))
    with pytest.raises(ConnectFailed, match=r"no answer of the bridge within 0\.05 s"):
        await transport.open(0.05)
    await transport.aclose()


async def test_a_server_that_says_nothing_is_given_up(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.join(ScriptedServer("nas", context)).mute = True
    transport = transport_to(bridge, "nas", same(rsa), pins=frozenset({context.fingerprint}))
    with pytest.raises(ConnectFailed, match=r"no answer of the server within 0\.3 s"):
        await transport.open(0.3)
    await transport.aclose()


async def test_a_handshake_that_does_not_end_is_given_up(rsa: PrivateKey, context: SealingContext) -> None:
    class Silent(ScriptedServer):
        def hears(self, line: Line, payload: bytes) -> None:
            if payload.startswith(b"{"):
                super().hears(line, payload)

    bridge = ScriptedBridge(rsa.public)
    bridge.join(Silent("nas", context))
    transport = transport_to(bridge, "nas", same(rsa), pins=frozenset({context.fingerprint}))
    with pytest.raises(ConnectFailed, match=r"no sealed session within 0\.3 s"):
        await transport.open(0.3)
    await transport.aclose()


async def test_a_server_that_leaves_during_the_handshake_is_told(rsa: PrivateKey, context: SealingContext) -> None:
    class Leaving(ScriptedServer):
        def hears(self, line: Line, payload: bytes) -> None:
            assert self.bridge is not None
            self.bridge.leave(self)

    bridge = ScriptedBridge(rsa.public)
    bridge.join(Leaving("nas", context))
    assert "left the bridge" in str(await failure(bridge, "nas", same(rsa), patience=5))


async def test_a_bridge_that_is_away_is_told(rsa: PrivateKey) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.away = True
    assert "no bridge there" in str(await failure(bridge, "nas", same(rsa)))
