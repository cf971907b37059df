"""The relay, frame for frame: both dialects' dialogues, pairs and announcements, and what bad input gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from sysadmd.bridge.peer import PeerInfo
from tests.integration.bridges import (
    IDENTIFY,
    LIST_KEYS,
    BridgePeer,
    LiveRelay,
    private_key,
    running_relay,
    small_window,
    text,
)

ID = re.compile(r"::\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}")
CLASSIC = "sysadm-client"
NOWHERE = "::{b9bead97-69d7-4cce-8859-6e31b4a0fa7c}"
ORIGINAL_REPLY = (
    "eyJhcmdzIjpbIm1vRTBXRnJEaEJqVHkzU3N1bU1mIiwwXSwiaWQiOiJzeXNhZG0tY2xpZW50LWF1dGgtYXV0byIsIm5hbWUiOiJyZXNwb25zZSIs"
    "Im5hbWVzcGFjZSI6InJwYyJ9"
)
"""Appendix A5's payload."""


def rsa() -> Any:
    return private_key("original", "rsa")


# The dialogue


@pytest.mark.parametrize("origin", [None, CLASSIC])
async def test_the_first_frame_asks_who_it_is(tmp_path: Path, origin: Any) -> None:
    async with running_relay(tmp_path) as live, live.connect(origin) as peer:
        assert await peer.receive() == IDENTIFY


async def test_an_original_logs_in_as_it_was_captured(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect("sysadm-server") as peer:
        live.ring.add("olga", rsa().public)
        await peer.identify("server")
        await peer.send('{"args":"","id":"server_to_bridge_auth","name":"auth_ssl","namespace":"rpc"}')
        asked = await peer.receive()
        found = re.fullmatch(
            r'{"args":{"test_string":"([A-Za-z0-9]{200})"},"id":"server_to_bridge_auth","name":"response",'
            r'"namespace":"rpc"}',
            asked,
        )
        assert found is not None, asked
        reply = await peer.prove(rsa(), found[1], classic=True)
        assert list(reply) == ["args", "id", "name", "namespace"]
        assert re.fullmatch("[A-Za-z0-9]{40}", reply["args"][0])
        assert (reply["args"][1], reply["name"], reply["id"]) == (900, "response", "a2")
        assert await peer.receive() == LIST_KEYS
        (info,) = live.relay.peers()
        assert (info.nick, info.role, info.hostname, info.classic) == ("olga", "server", "h", True)
        assert (info.key, info.address) == (rsa().public.fingerprint, "127.0.0.1")


async def test_ours_logs_in_with_a_modern_proof(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as peer:
        live.ring.add("olga", private_key().public)
        await peer.identify("client")
        reply = await peer.prove(private_key(), await peer.challenge())
        assert list(reply) == ["namespace", "name", "id", "args"]
        assert (reply["name"], reply["args"][1]) == ("response", 900)
        assert await peer.receive() == LIST_KEYS
        assert [info.classic for info in live.relay.peers()] == [False]


async def test_who_the_bridge_is_can_be_asked_before_the_log_in(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect(CLASSIC) as peer, live.connect() as ours:
        await peer.receive()
        await peer.send(text("rpc", "identify", "", "sysadm_client_identify"))
        assert await peer.receive() == text(
            "rpc", "response", {"hostname": "b", "type": "bridge"}, "sysadm_client_identify"
        )
        await ours.receive()
        reply = await ours.answer("rpc", "identify", {})
        assert reply == {
            "namespace": "rpc",
            "name": "response",
            "id": "q1",
            "args": {"hostname": "b", "type": "bridge"},
        }


async def test_an_original_that_is_refused_reads_unauthorized(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect(CLASSIC) as peer:
        await peer.receive()
        await peer.prove(rsa(), await peer.challenge(), classic=True)
        await peer.challenge()
        await peer.send(text("rpc", "auth_ssl", {"encrypted_string": "AAAA"}, "a2"))
        assert await peer.receive() == '{"args":"unauthorized","id":"a2","name":"error","namespace":"rpc"}'


async def test_ours_reads_why_it_is_refused(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as peer:
        await peer.receive()
        reply = await peer.prove(private_key(), await peer.challenge())
        assert (reply["namespace"], reply["name"], reply["args"]["code"]) == ("rpc", "error", 401)
        assert live.relay.figures.refused == {"proof": 1}


async def test_a_challenge_is_good_for_one_answer(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as peer:
        await peer.receive()
        challenge = await peer.challenge()
        await peer.prove(private_key(), challenge)
        live.ring.add("olga", private_key().public)
        assert (await peer.prove(private_key(), challenge))["args"]["code"] == 401
        assert live.relay.figures.refused == {"proof": 1, "challenge": 1}


async def test_a_challenge_is_good_for_its_connection_only(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as one, live.connect() as other:
        live.ring.add("olga", private_key().public)
        await one.receive()
        await other.receive()
        challenge = await one.challenge()
        await other.challenge()
        assert (await other.prove(private_key(), challenge))["args"]["code"] == 401
        assert (await one.prove(private_key(), challenge))["name"] == "response"


async def test_a_proof_that_was_made_for_a_server_opens_no_bridge(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as peer:
        live.ring.add("olga", private_key().public)
        await peer.receive()
        assert (await peer.prove(private_key(), await peer.challenge(), binding=""))["args"]["code"] == 401
        assert (await peer.prove(private_key(), await peer.challenge()))["name"] == "response"


async def test_a_challenge_is_over_after_its_time(tmp_path: Path) -> None:
    async with running_relay(tmp_path, challenge_life=0.0) as live, live.connect() as peer:
        live.ring.add("olga", private_key().public)
        await peer.receive()
        assert (await peer.prove(private_key(), await peer.challenge()))["args"]["code"] == 401


async def test_the_third_log_in_that_fails_ends_the_connection(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as peer:
        await peer.receive()
        for _ in range(3):
            assert (await peer.prove(private_key(), await peer.challenge()))["args"]["code"] == 401
        assert await peer.closed() == (1008, "too many log-ins failed")


async def test_a_key_that_is_imported_later_gets_in_at_the_next_attempt(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as peer:
        await peer.receive()
        assert (await peer.prove(private_key(), await peer.challenge()))["args"]["code"] == 401
        live.ring.add("olga", private_key().public)
        await peer.log_in(private_key())


async def test_failures_of_one_address_are_refused_unseen_after_a_while(tmp_path: Path) -> None:
    async with running_relay(tmp_path, bridge_logins=100) as live, live.connect() as peer:
        live.relay.exchange.dialogue.exempt = lambda address: False
        await peer.receive()
        codes = [(await peer.prove(private_key(), await peer.challenge()))["args"]["code"] for _ in range(22)]
        assert codes[:20] == [401] * 20
        assert 429 in codes[20:]


async def test_nobody_is_waited_for_longer_than_the_grace(tmp_path: Path) -> None:
    async with running_relay(tmp_path, auth_timeout=0.1) as live, live.connect() as peer:
        assert await peer.closed() == (1008, "log in first")


async def test_a_stranger_may_not_talk_for_ever(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as peer:
        for _ in range(65):
            await peer.send(text("rpc", "identify"))
        assert await peer.closed() == (1008, "log in first")


async def test_a_key_has_a_bound_of_connections(tmp_path: Path) -> None:
    async with running_relay(tmp_path, bridge_connections=1) as live, live.peer(), live.connect() as second:
        await second.receive()
        assert (await second.prove(private_key(), await second.challenge()))["args"]["code"] == 429
        assert len(live.relay.peers()) == 1


async def test_a_place_of_a_key_is_free_again_when_its_connection_ends(tmp_path: Path) -> None:
    async with running_relay(tmp_path, bridge_connections=1) as live:
        for _ in range(3):
            async with live.peer():
                pass
            await live.until(lambda: not live.relay.peers())


async def test_a_key_that_is_removed_ends_its_connections_and_no_others(tmp_path: Path) -> None:
    other = private_key("other")
    async with running_relay(tmp_path) as live, live.peer() as peer, live.peer(key=other) as stays:
        del live.ring.keys[private_key().public.fingerprint]
        live.relay.keys_changed()
        code, reason = await peer.closed()
        assert (code, reason) == (1008, "its key is no longer known to this bridge")
        await stays.silent()


async def test_other_frames_before_the_log_in(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect(CLASSIC) as original, live.connect() as ours:
        await original.receive()
        await original.send(text("sysadm", "zfs", {}, "x"))
        assert await original.receive() == '{"args":null,"id":"x","name":"error","namespace":"sysadm"}'
        await ours.receive()
        reply = await ours.answer("sysadm", "zfs", {}, "x")
        assert (reply["namespace"], reply["id"], reply["args"]["code"]) == ("sysadm", "x", 401)


async def test_other_frames_after_the_log_in(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.peer(origin=CLASSIC) as original, live.peer() as ours:
        await original.send(text("events", "subscribe", "dispatcher", "sysadm-client-event-auto"))
        wanted = '{"args":null,"id":"sysadm-client-event-auto","name":"response","namespace":"events"}'
        assert await original.receive() == wanted
        assert (await ours.answer("events", "subscribe", "dispatcher"))["args"]["code"] == 404
        assert (await ours.answer("rpc", "auth_ssl"))["args"]["code"] == 409


@pytest.mark.parametrize(
    "frame", ["{}", '{"namespace":"rpc","name":"identify","id":"x"}', "{", "[]", "hello", "\n", '{"a":1}\n']
)
async def test_what_is_no_frame_to_the_bridge(tmp_path: Path, frame: str) -> None:
    async with running_relay(tmp_path) as live, live.connect(CLASSIC) as original, live.connect() as ours:
        await original.receive()
        await original.send(frame)
        await original.silent()
        await ours.receive()
        await ours.send(frame)
        reply = json.loads(await ours.receive())
        assert reply["args"].get("code") == 400 or "identify" in frame


# Pairs and announcements


async def test_a_pair_is_announced_to_both(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        assert ID.fullmatch(server.id)
        assert ID.fullmatch(client.id)
        assert {info.id: info.paired for info in live.relay.peers()} == {
            server.id: [client.id],
            client.id: [server.id],
        }


@pytest.mark.parametrize(
    "origin,wanted",
    [
        (CLASSIC, '{"args":{"available_connections":["%s"]},"id":"","name":"bridge","namespace":"events"}'),
        (None, '{"id":"","namespace":"events","name":"bridge","args":{"available_connections":["%s"]}}'),
    ],
)
async def test_an_announcement_is_exactly_this(tmp_path: Path, origin: Any, wanted: str) -> None:
    async with running_relay(tmp_path) as live, live.peer("client", "k", origin=origin) as client:
        async with live.peer("server", "k"):
            (server,) = [info.id for info in live.relay.peers() if info.role == "server"]
            assert await client.receive() == wanted % server
        assert await client.receive() == wanted.replace('"%s"', "")


async def test_who_asks_for_details_gets_them_and_an_empty_list_too(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as peer:
        live.ring.add("laptop", private_key().public)
        await peer.identify("client", details=True)
        await peer.log_in(private_key())
        await peer.list_keys("k")
        assert json.loads(await peer.receive())["args"] == {"available_connections": [], "connections": {}}
        other = private_key("other")
        live.ring.add("web1", other.public)
        async with live.connect() as server:
            await server.identify("server")
            await server.log_in(other)
            await server.list_keys("k")
            args = json.loads(await peer.receive())["args"]
            (found,) = args["available_connections"]
            assert args["connections"] == {found: {"hostname": "h", "nick": "web1", "key": other.public.fingerprint}}


async def test_no_pair_without_a_checksum_in_common_or_of_the_same_kind(tmp_path: Path) -> None:
    async with (
        running_relay(tmp_path) as live,
        live.peer("server", "a") as one,
        live.peer("server", "a") as two,
        live.peer("client", "b") as three,
        live.peer("client") as four,
    ):
        await asyncio.sleep(0.1)
        for peer in (one, two, three, four):
            await peer.silent()
        assert [info.paired for info in live.relay.peers()] == [[]] * 4


async def test_a_list_that_changes_is_told_on_both_sides(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        await server.list_keys("other")
        assert (await server.announced(), await client.announced()) == ([], [])
        await server.list_keys("k", "other")
        assert (await server.announced(), await client.announced()) == ([client.id], [server.id])


async def test_an_end_is_told_to_the_counterpart(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        await client.connection.close()
        assert await server.announced() == []


async def test_a_list_that_is_the_same_again_is_not_told(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        await server.list_keys("k", "more")
        await server.list_keys("k")
        await asyncio.sleep(0.1)
        await server.silent()
        await client.silent()


async def test_nothing_is_relayed_before_its_sender_is_announced(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, _):
        for _ in range(20):
            async with live.peer("client", "k") as late:
                assert await late.announced() == [server.id]
                await late.relay(server.id, "hello")
                ids = await server.announced()
                head = (await server.receive()).partition("\n")[0]
                assert head in ids
                await late.connection.close()
                assert head not in await server.announced()


async def test_the_role_may_be_told_after_the_list(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.peer("client", "k") as client, live.connect() as server:
        await server.receive()
        await server.log_in(private_key())
        await server.list_keys("k")
        await server.silent()
        await server.send(text("rpc", "response", {"type": "server"}, "sysadm_bridge_request_ident"))
        assert len(await server.announced()) == len(await client.announced()) == 1
        await server.send(text("rpc", "response", {"type": "client"}, "sysadm_bridge_request_ident"))
        await server.silent()
        assert live.relay.figures.dropped == {"identity": 1}


# What is relayed


@pytest.mark.parametrize("origin", [None, CLASSIC])
@pytest.mark.parametrize(
    "payload", ["", "x", '{"a":1}', "~AAAA", "a\nb\n", "žluťoučký", "x" * 84, "x" * 85, "x" * 200_000]
)
async def test_a_payload_arrives_byte_for_byte(tmp_path: Path, origin: Any, payload: str) -> None:
    async with running_relay(tmp_path) as live, live.pair(origin=origin) as (server, client):
        await client.relay(server.id, payload)
        assert await server.receive() == f"{client.id}\n{payload}"
        await server.relay(client.id, payload)
        assert await client.receive() == f"{server.id}\n{payload}"


async def test_a_frame_of_the_originals_passes(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair(origin=CLASSIC) as (server, client):
        await server.relay(client.id, ORIGINAL_REPLY)
        assert await client.receive() == f"{server.id}\n{ORIGINAL_REPLY}"


async def test_a_binary_frame_arrives_as_text(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        await client.send(f"{server.id}\nhello".encode())
        received = await server.connection.recv()
        assert received == f"{client.id}\nhello"


async def test_fragments_arrive_as_one_message(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        parts = [server.id[:20], server.id[20:], "\nhé"[:2], "é", "", "llo"]
        await client.connection.send(iter(parts))
        assert await server.receive() == f"{client.id}\nhéllo"


async def test_messages_arrive_in_order(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        for number in range(500):
            await client.relay(server.id, str(number) * (number % 7 * 1000))
        for number in range(500):
            assert await server.receive() == f"{client.id}\n" + str(number) * (number % 7 * 1000)


@pytest.mark.parametrize(
    "frame,code,told,reason",
    [
        ("no newline", 400, "no newline", "no_header"),
        ("x" * 1000, 400, "x" * 64, "no_header"),
        (f"{NOWHERE}\nhello", 404, NOWHERE, "unknown"),
        (f" {NOWHERE}\nhello", 400, f" {NOWHERE}", "header"),
        (f"{NOWHERE} \nhello", 400, f"{NOWHERE} ", "header"),
        ("x" * 65 + "\nhello", 400, "x" * 64, "header"),
        ("x" * 64 + "\nhello", 404, "x" * 64, "unknown"),
        ("\nhello", 404, "", "unknown"),
    ],
)
async def test_what_cannot_be_relayed(tmp_path: Path, frame: str, code: int, told: str, reason: str) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client), live.peer(origin=CLASSIC) as original:
        await client.send(frame)
        reply = json.loads(await client.receive())
        assert (reply["namespace"], reply["name"], reply["id"]) == ("rpc", "error", "")
        assert (reply["args"]["code"], reply["args"]["connection"]) == (code, told)
        assert live.relay.figures.dropped == {reason: 1}
        await original.send(frame)
        await original.silent()
        assert live.relay.figures.dropped == {reason: 2}
        await server.silent()


async def test_a_connection_that_is_gone_and_one_that_is_no_counterpart_are_told_alike(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client), live.peer("server", "z") as other:
        (stranger,) = [info.id for info in live.relay.peers() if info.id not in (server.id, client.id)]
        await client.relay(stranger, "hello")
        unpaired = json.loads(await client.receive())["args"]
        await other.silent()
        await other.connection.close()
        await live.until(lambda: len(live.relay.peers()) == 2)
        await client.relay(stranger, "hello")
        assert json.loads(await client.receive())["args"] == unpaired
        assert live.relay.figures.dropped == {"unpaired": 1, "unknown": 1}


async def test_who_is_not_logged_in_relays_nothing(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, _), live.connect() as stranger:
        await stranger.receive()
        await stranger.relay(server.id, "hello")
        assert json.loads(await stranger.receive())["args"]["code"] == 400
        await server.silent()


async def _raw_text(peer: BridgePeer, payload: bytes) -> None:
    await peer.connection.send(payload, text=True)


async def test_what_is_not_utf8_is_refused_and_never_passed_on(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        await _raw_text(client, f"{server.id}\n".encode() + b"\xff\xfe")
        reply = json.loads(await client.receive())["args"]
        assert (reply["code"], reply["connection"]) == (400, server.id)
        assert live.relay.figures.dropped == {"utf8": 1}
        await server.silent()
        await client.silent()


@pytest.mark.parametrize(
    "args",
    [
        None,
        [],
        {},
        {"md5_keys": "k"},
        {"md5_keys": [1]},
        {"md5_keys": [""]},
        {"md5_keys": ["x" * 65]},
        {"md5_keys": ["a", "b", "c"]},
    ],
)
async def test_a_list_that_is_none_changes_nothing(tmp_path: Path, args: Any) -> None:
    async with running_relay(tmp_path, bridge_checksums=2) as live, live.pair() as (server, client):
        await client.send(text("rpc", "response", args, "bridge_request_list_keys"))
        assert json.loads(await client.receive())["args"]["code"] in (400, 413)
        await client.relay(server.id, "still")
        assert await server.receive() == f"{client.id}\nstill"
        assert live.relay.figures.dropped == {"key_list": 1}


async def test_replies_that_nobody_asked_for_are_ignored(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client), live.connect() as stranger:
        await client.send(text("rpc", "response", {"md5_keys": []}, "something else"))
        await client.send(text("rpc", "error", {"md5_keys": []}, "bridge_request_list_keys"))
        await client.silent()
        await stranger.receive()
        await stranger.list_keys("k")
        await stranger.silent()
        await client.relay(server.id, "still")
        assert await server.receive() == f"{client.id}\nstill"
        assert live.relay.figures.dropped == {"foreign_reply": 2}


async def test_one_beyond_the_frame_of_a_stranger(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as fits, live.connect() as large:
        await fits.receive()
        empty = text("rpc", "identify", "")
        assert (await fits.answer("rpc", "identify", "x" * (8192 - len(empty))))["name"] == "response"
        await large.send("x" * 8193)
        assert (await large.closed())[0] == 1009


async def test_one_beyond_the_frame_of_a_peer(tmp_path: Path) -> None:
    size = 100_000
    async with running_relay(tmp_path, frame_bridge=size) as live, live.pair() as (server, client):
        await client.relay(server.id, "x" * (size - 41))
        assert len(await server.receive()) == size
        await client.relay(server.id, "x" * (size - 40))
        assert (await client.closed())[0] == 1009
        assert await server.announced() == []


async def test_one_beyond_the_frame_to_the_bridge_itself(tmp_path: Path) -> None:
    async with running_relay(tmp_path, frame_authenticated=1000) as live, live.pair() as (_, client):
        await client.send(text("rpc", "identify", "x" * 1000))
        assert json.loads(await client.receive())["args"]["code"] == 413
        assert live.relay.figures.dropped == {"size": 1}


async def test_a_stop_says_so(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        await live.relay.stop(1001, "the bridge is stopping")
        assert await server.closed() == await client.closed() == (1001, "the bridge is stopping")


# Floods, and who does not read


@contextlib.asynccontextmanager
async def stalled(live: LiveRelay, role: str = "client", *checksums: str) -> AsyncIterator[BridgePeer]:
    """A peer that is paired and reads nothing more than what it needs for that."""
    with small_window(live.port) as sock:
        async with live.peer(role, *checksums, sock=sock, max_queue=1) as peer:
            yield peer


def listed(live: LiveRelay, role: str) -> list[PeerInfo]:
    return [info for info in live.relay.peers() if info.role == role]


SMALL: dict[str, Any] = {"bridge_queue": 256 * 1024, "bridge_patience": 0.4}


async def flood(peer: BridgePeer, to: str, count: int = 400) -> None:
    for _ in range(count):
        await peer.relay(to, "x" * 65_000)


async def test_a_peer_that_never_reads_is_cut_and_its_end_told(tmp_path: Path) -> None:
    async with (
        running_relay(tmp_path, **SMALL) as live,
        live.peer("server", "k") as server,
        stalled(live, "client", "k"),
    ):
        (client,) = await server.announced()
        await flood(server, client)
        assert await server.announced() == []
        assert live.relay.figures.cut == {"slow": 1}
        assert live.relay.figures.paused["slow"] >= 1


async def test_what_waits_for_a_peer_that_never_reads_is_bounded(tmp_path: Path) -> None:
    most = 0
    async with (
        running_relay(tmp_path, bridge_queue=256 * 1024, bridge_patience=30.0) as live,
        live.peer("server", "k") as server,
        stalled(live, "client", "k"),
    ):
        (client,) = await server.announced()
        sending = asyncio.create_task(flood(server, client))
        for _ in range(100):
            await asyncio.sleep(0.01)
            most = max(most, *(info.queued for info in live.relay.peers()))
        sending.cancel()
        assert 256 * 1024 < most < 1024 * 1024  # and what one read of the socket gives


async def test_a_peer_that_never_reads_delays_nobody_else(tmp_path: Path) -> None:
    async with (
        running_relay(tmp_path, bridge_queue=256 * 1024, bridge_patience=30.0) as live,
        live.peer("server", "a") as victim,
        stalled(live, "client", "a"),
        live.pair() as (server, client),
    ):
        (lazy,) = await victim.announced()
        sending = asyncio.create_task(flood(victim, lazy))
        await live.until(lambda: live.relay.figures.paused["slow"])
        for number in range(200):
            await client.relay(server.id, str(number))
            assert await server.receive() == f"{client.id}\n{number}"
        sending.cancel()


async def test_a_peer_that_reads_slowly_gets_everything(tmp_path: Path) -> None:
    async with (
        running_relay(tmp_path, **SMALL) as live,
        live.peer("server", "k") as server,
        stalled(live, "client", "k") as client,
    ):
        (lazy,) = await server.announced()
        sending = asyncio.create_task(flood(server, lazy, 100))
        await client.announced()
        for _ in range(100):
            assert len((await client.receive()).partition("\n")[2]) == 65_000
            await asyncio.sleep(0.005)
        await sending
        assert live.relay.figures.cut == {}
        assert live.relay.figures.paused["slow"] >= 1


async def test_a_message_above_the_queue_still_arrives(tmp_path: Path) -> None:
    async with running_relay(tmp_path, **SMALL) as live, live.pair() as (server, client):
        await server.relay(client.id, "x" * 3_000_000)
        await server.relay(client.id, "after")
        assert len(await client.receive()) == 3_000_041
        assert await client.receive() == f"{server.id}\nafter"


async def test_who_does_not_read_its_own_errors_is_cut(tmp_path: Path) -> None:
    async with running_relay(tmp_path, **SMALL) as live, stalled(live) as peer:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100_000):
                await peer.send("x" * 100)
                if live.relay.figures.cut:
                    break
        await live.until(lambda: live.relay.figures.cut == {"slow": 1})


async def test_who_does_not_read_its_pongs_is_cut(tmp_path: Path) -> None:
    async with running_relay(tmp_path, bridge_messages=10_000_000, **SMALL) as live, stalled(live) as peer:
        connection = peer.connection
        connection.transport.pause_reading()
        for _ in range(400):
            for _ in range(500):
                connection.protocol.send_ping(b"x" * 125)
            connection.transport.write(b"".join(connection.protocol.data_to_send()))
            await asyncio.sleep(0)
            if live.relay.figures.paused["slow"]:
                break
        await live.until(lambda: live.relay.figures.cut == {"slow": 1})


async def test_who_sends_too_much_is_read_more_slowly_and_loses_nothing(tmp_path: Path) -> None:
    async with running_relay(tmp_path, bridge_messages=1000) as live, live.pair() as (server, client):
        began = time.monotonic()
        for number in range(1500):
            await client.relay(server.id, str(number))
        for number in range(1500):
            assert await server.receive() == f"{client.id}\n{number}"
        await client.relay(server.id, "more")
        await server.receive()
        assert live.relay.figures.paused["rate"] >= 1
        assert time.monotonic() - began > 0.3  # 500 above what is free at once cost half a second


async def test_bytes_have_a_rate_too(tmp_path: Path) -> None:
    async with running_relay(tmp_path, bridge_bytes=1024 * 1024) as live, live.pair() as (server, client):
        await flood(client, server.id, 20)
        for _ in range(20):
            await server.receive()
        assert live.relay.figures.paused["rate"] >= 1


async def test_a_flood_of_connections_leaves_those_who_are_logged_in_alone(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"pending_connections": 16, "pending_connections_prefix": 8}
    async with running_relay(tmp_path, pending=True, **limits) as live, live.pair() as (server, client):
        places = live.places
        assert places is not None
        places.exempt, places.draw = (lambda address: False), (lambda: 0.999)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(20):
                with contextlib.suppress(ConnectionError, OSError, ConnectionClosed, InvalidMessage, EOFError):
                    await stack.enter_async_context(live.connect())
            assert (places.waiting, places.dropped) == (8, 12)
            await client.relay(server.id, "hello")
            assert await server.receive() == f"{client.id}\nhello"
        await live.until(lambda: not places.waiting)


async def test_a_log_in_frees_its_place(tmp_path: Path) -> None:
    async with running_relay(tmp_path, pending=True) as live:
        assert live.places is not None
        live.places.exempt = lambda address: False
        async with live.connect() as peer:
            live.ring.add("olga", private_key().public)
            await peer.identify()
            assert live.places.waiting == 1
            await peer.log_in(private_key())
            assert live.places.waiting == 0


async def test_one_connection_beyond_those_of_a_listener_is_refused(tmp_path: Path) -> None:
    async with running_relay(tmp_path, connections=2) as live, live.connect(), live.connect():
        with pytest.raises(InvalidStatus) as refused:
            async with live.connect():
                pass
        assert refused.value.response.status_code == 503


async def test_who_speaks_before_its_handshake_is_answered_is_dropped(tmp_path: Path) -> None:
    head = (
        b"GET / HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with running_relay(tmp_path) as live:
        for late in (b"\x81\x80mask", b"\x81"):
            _, writer = await asyncio.open_connection(
                "127.0.0.1", live.port, ssl=live.ssl_context(), server_hostname="localhost"
            )
            writer.write(head + late)
            await live.until(lambda: not live.relay.peers())
            writer.transport.abort()
        await live.until(lambda: live.relay.figures.cut == {"hasty": 2})


@pytest.mark.parametrize(
    "bytes_sent,code",
    [
        (b"\x83\x80mask", 1002),  # an opcode that there is not
        (b"\xc1\x80mask", 1002),  # a reserved bit
        (b"\x81\x01x", 1002),  # without a mask
        (b"\x80\x80mask", 1002),  # a continuation of nothing
        (b"\x01\x80mask\x81\x80mask", 1002),  # a message within another one
        (b"\x81\xff" + b"\x7f" + b"\xff" * 7 + b"mask", 1009),
    ],
)
async def test_what_breaks_the_protocol_ends_the_connection(tmp_path: Path, bytes_sent: bytes, code: int) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        client.connection.transport.write(bytes_sent)
        assert (await client.closed())[0] == code
        assert await server.announced() == []


async def test_a_frame_in_single_bytes_arrives(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.pair() as (server, client):
        client.connection.protocol.send_text(f"{server.id}\nhello".encode())
        for byte in b"".join(client.connection.protocol.data_to_send()):
            client.connection.transport.write(bytes((byte,)))
            await asyncio.sleep(0.002)
        assert await server.receive() == f"{client.id}\nhello"


async def test_who_is_silent_is_asked_and_dropped_if_it_does_not_answer(tmp_path: Path) -> None:
    async with running_relay(tmp_path, ping_interval=0.2, ping_timeout=0.4) as live, live.peer() as alive:
        async with live.peer() as dead:
            dead.connection.protocol.send_pong = lambda data: None  # type: ignore[method-assign]
            dead.connection.transport.pause_reading()
            await live.until(lambda: live.relay.figures.cut == {"silent": 1})
        await alive.silent()


async def test_a_stop_writes_what_waits_first(tmp_path: Path) -> None:
    async with (
        running_relay(tmp_path, bridge_queue=64 * 1024 * 1024) as live,
        live.peer("server", "k") as server,
        stalled(live, "client", "k") as client,
    ):
        (lazy,) = await server.announced()
        await flood(server, lazy, 200)
        await live.until(lambda: listed(live, "server")[0].messages_in == 200)
        assert listed(live, "client")[0].queued > 0
        stopping = asyncio.create_task(live.relay.stop(1001, "the bridge is stopping"))
        await client.announced()
        for _ in range(200):
            assert len(await client.receive()) == 65_041
        assert await client.closed() == (1001, "the bridge is stopping")
        assert await server.closed() == (1001, "the bridge is stopping")
        await stopping


async def test_a_stop_has_an_end_although_somebody_does_not_read(tmp_path: Path) -> None:
    async with (
        running_relay(tmp_path, drain=0.3) as live,
        live.peer("server", "k") as server,
        stalled(live, "client", "k"),
    ):
        (lazy,) = await server.announced()
        await flood(server, lazy, 40)
        async with asyncio.timeout(5):
            await live.relay.stop(1001, "the bridge is stopping")
        assert await server.closed() == (1001, "the bridge is stopping")


async def test_the_address_behind_a_trusted_proxy_is_the_peer_s(tmp_path: Path) -> None:
    headers = {"X-Forwarded-For": "1.1.1.1, 198.51.100.7"}
    async with (
        running_relay(tmp_path, proxies=("127.0.0.0/8",)) as trusted,
        trusted.peer(additional_headers=headers),
        running_relay(tmp_path) as other,
        other.peer(additional_headers=headers),
    ):
        assert [info.address for info in trusted.relay.peers()] == ["198.51.100.7"]
        assert [info.address for info in other.relay.peers()] == ["127.0.0.1"]


async def test_peers_behind_a_proxy_have_places_of_their_own(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"pending_connections": 16, "pending_connections_prefix": 2}
    async with running_relay(tmp_path, pending=True, proxies=("127.0.0.1",), **limits) as live:
        places = live.places
        assert places is not None
        places.draw = lambda: 0.999
        async with contextlib.AsyncExitStack() as stack:
            for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
                await stack.enter_async_context(live.connect(additional_headers={"X-Forwarded-For": address}))
            with pytest.raises(InvalidStatus) as refused:
                await stack.enter_async_context(live.connect(additional_headers={"X-Forwarded-For": "192.0.2.1"}))
            assert refused.value.response.status_code == 503
            assert places.waiting == 3
        await live.until(lambda: not places.waiting)


async def test_all_lists_of_a_key_together_have_a_bound(tmp_path: Path) -> None:
    async with running_relay(tmp_path, bridge_checksums=1) as live, contextlib.AsyncExitStack() as stack:
        for number in range(16):
            await stack.enter_async_context(live.peer("client", str(number)))
        one_more = await stack.enter_async_context(live.peer("client", "more"))
        assert json.loads(await one_more.receive())["args"]["code"] == 413
