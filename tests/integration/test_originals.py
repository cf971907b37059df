"""The simulators of the original programs among themselves: they say what was captured, and have the captured faults
(spec sysadm §3.5, §3.8, §6, §9.1, appendix A).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.keyrings import Keypair
from tests.integration.originals import (
    BRIDGE_IDENTIFY,
    BRIDGE_LIST,
    BridgePeer,
    OriginalBridge,
    OriginalClient,
    OriginalServer,
    Pair,
    checksum,
    envelope,
    recovered,
    registered_form,
    server_tls,
    to_base64,
    tolerated,
    until,
)
from tests.integration.test_client_certificates import expired
from tests.unit.keys.openssl import make_certificate, make_key, sign_classic
from tests.unit.keys.vectors import CHALLENGE, CHECKSUM, ENCRYPTED_STRING, REGISTERED_KEY

PEM = base64.b64decode(REGISTERED_KEY).decode()
UUID = r"::\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}"


@dataclass
class Originals:
    """All three, connected."""

    bridge: OriginalBridge
    server: OriginalServer
    client: OriginalClient

    @property
    def server_id(self) -> str:
        peer = self.bridge.of("server")
        assert peer is not None
        return peer.id

    @property
    def client_id(self) -> str:
        peer = self.bridge.of("client")
        assert peer is not None
        return peer.id


@contextlib.asynccontextmanager
async def originals(directory: Path) -> AsyncIterator[Originals]:
    bridge, server, client = OriginalBridge(directory), OriginalServer(directory), OriginalClient()
    server.keys["alice"] = client.key.pem
    bridge.keys = {"the server": server.bridge_key.pem, "the client": client.bridge_key.pem}
    async with bridge.serving(), server.dialling(bridge.url), client.dialling(bridge.url):
        yield Originals(bridge, server, client)


@contextlib.asynccontextmanager
async def stranger(bridge: OriginalBridge) -> AsyncIterator[ClientConnection]:
    """A connection to a bridge that has been asked who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with connect(bridge.url, ssl=context, compression=None, proxy=None) as connection:
        assert await connection.recv() == BRIDGE_IDENTIFY
        yield connection


async def exchange(connection: ClientConnection, text: str) -> str:
    async with asyncio.timeout(10):
        await connection.send(text)
        return str(await connection.recv())


def login_of(peer: BridgePeer, id: str, hostname: str, kind: str) -> list[str]:
    """The frames of spec sysadm §6.2 up to the key list, each with its way, as patterns."""
    token = f'{{"args":["TOKEN",0],"id":"{id}","name":"response","namespace":"rpc"}}'
    frames = [
        f"> {BRIDGE_IDENTIFY}",
        f'< {{"args":"","id":"{id}","name":"auth_ssl","namespace":"rpc"}}',
        "< " + envelope("rpc", "response", "sysadm_bridge_request_ident", {"hostname": hostname, "type": kind}),
        f'> {{"args":{{"test_string":"CHALLENGE"}},"id":"{id}","name":"response","namespace":"rpc"}}',
        f'< {{"args":{{"encrypted_string":"PROOF"}},"id":"{id}","name":"auth_ssl","namespace":"rpc"}}',
        f"> {token}",
        f"> {BRIDGE_LIST}",
    ]
    values = {"TOKEN": "[A-Za-z0-9]{40}", "CHALLENGE": "[A-Za-z0-9]{40}", "PROOF": "[A-Za-z0-9+/]{342}=="}
    return [re.sub("TOKEN|CHALLENGE|PROOF", lambda found: values[found[0]], re.escape(frame)) for frame in frames]


def said(peer: BridgePeer) -> list[str]:
    return [f"{frame.way} {frame.text}" for frame in peer.frames]


def has_all(found: list[str], patterns: list[str]) -> bool:
    return all(any(re.fullmatch(pattern, text) for text in found) for pattern in patterns)


# With each other


async def test_the_three_come_together(tmp_path: Path) -> None:
    async with originals(tmp_path) as all_three:
        bridge, server, client = all_three.bridge, all_three.server, all_three.client
        remote = await client.until(client.server)
        assert remote.hostname == "h"
        reply = await client.call(remote.id, "rpc", "query", "simple-query")
        assert (reply["name"], reply["args"]) == ("response", {"rpc/dispatcher": "read/write"})
        await until(lambda: server.remotes[all_three.client_id].events == ["system-state", "life-preserver"])
        await server.publish("system-state", {"hostname": "h", "priority": "0 - Information"})
        await client.until(lambda: client.events)
        assert client.events == [(remote.id, "system-state", {"hostname": "h", "priority": "0 - Information"})]
        assert re.fullmatch(UUID, remote.id)
        assert [peer.role for peer in bridge.peers] in (["server", "client"], ["client", "server"])


async def test_a_link_is_made_frame_by_frame_as_captured(tmp_path: Path) -> None:
    async with originals(tmp_path) as all_three:
        client = all_three.client
        await client.until(client.server)
        server_peer, client_peer = all_three.bridge.of("server"), all_three.bridge.of("client")
        assert server_peer is not None
        assert client_peer is not None
        assert has_all(said(server_peer), login_of(server_peer, "server_to_bridge_auth", "h", "server"))
        assert has_all(said(client_peer), login_of(client_peer, "sysadm-client-auth-auto", "c", "client"))
        keys = envelope("rpc", "response", "bridge_request_list_keys", {"md5_keys": [client.key.checksum]})
        assert f"< {keys}" in said(server_peer)
        assert f"< {keys}" in said(client_peer)
        announced = envelope("events", "bridge", "", {"available_connections": [server_peer.id]})
        assert f"> {announced}" in said(client_peer)
        told = (
            '> {"args":{"hostname":"b","type":"bridge"},"id":"sysadm_client_identify",'
            '"name":"response","namespace":"rpc"}'
        )
        assert said(client_peer)[1] == (
            '< {"args":"","id":"sysadm_client_identify","name":"identify","namespace":"rpc"}'
        )
        asked = '< {"args":"","id":"sysadm-client-auth-auto","name":"auth_ssl","namespace":"rpc"}'
        assert said(client_peer).index(told) < said(client_peer).index(asked)
        nothing = '> {"args":null,"id":"sysadm-client-event-auto","name":"response","namespace":"events"}'
        assert said(client_peer).count(nothing) == 2


async def test_the_list_of_keys_is_asked_for_after_the_token(tmp_path: Path) -> None:
    async with originals(tmp_path) as all_three:
        await all_three.client.until(all_three.client.server)
        for peer in all_three.bridge.peers:
            (token,) = [frame.at for frame in peer.frames if re.match(r'\{"args":\["[A-Za-z0-9]{40}",0\]', frame.text)]
            (asked,) = [frame.at for frame in peer.frames if frame.text == BRIDGE_LIST]
            assert asked - token >= 0.009


async def test_a_session_is_made_frame_by_frame_as_captured(tmp_path: Path) -> None:
    """Spec sysadm §6.6: the first step in clear, from the second one on base64."""
    async with originals(tmp_path) as all_three:
        client = all_three.client
        remote = await client.until(client.server)
        sent = [text.partition("\n")[2] for text in client.sent if text.startswith(remote.id)]
        received = [text.partition("\n")[2] for text in client.received if text.startswith(remote.id)]
        assert sent[:2] == [
            '{"args":"","id":"sysadm_client_identify","name":"identify","namespace":"rpc"}',
            (
                f'{{"args":{{"md5_key":"{client.key.checksum}"}},"id":"sysadm-client-auth-auto",'
                '"name":"auth_ssl","namespace":"rpc"}'
            ),
        ]
        assert received[0] == (
            '{"args":{"hostname":"h","type":"server"},"id":"sysadm_client_identify",'
            '"name":"response","namespace":"rpc"}'
        )
        shown = re.fullmatch(
            r'\{"args":\{"new_ssl_key":"([A-Za-z0-9+/]+=*)","test_string":"([A-Za-z0-9+/]+=*)"\},'
            r'"id":"sysadm-client-auth-auto","name":"response","namespace":"rpc"\}',
            received[1],
        )
        assert shown
        assert b" PUBLIC KEY--" in base64.b64decode(shown[1])
        second = json.loads(base64.b64decode(sent[2], validate=True))
        challenge = recovered(client.key.pem, second["args"].pop("encrypted_string"))
        assert challenge == base64.b64decode(shown[2]).decode()
        assert second == {"args": {}, "id": "sysadm-client-auth-auto", "name": "auth_ssl", "namespace": "rpc"}
        done = base64.b64decode(received[2], validate=True).decode()
        assert re.fullmatch(
            r'\{"args":\["[A-Za-z0-9]{20}",0\],"id":"sysadm-client-auth-auto","name":"response","namespace":"rpc"\}',
            done,
        )
        reply = await client.call(remote.id, "weather", "report", "")
        assert (reply["name"], reply["namespace"], reply["args"]["code"]) == ("error", "error", "404")
        for text in [one.partition("\n")[2] for one in client.sent if one.startswith(remote.id)][2:]:
            base64.b64decode(text, validate=True)


async def test_each_dials_again_and_gets_a_new_name(tmp_path: Path) -> None:
    async with originals(tmp_path) as all_three:
        client, server = all_three.client, all_three.server
        client.redial = server.redial = 0.05
        first = await client.until(client.server)
        peer = all_three.bridge.of("server")
        assert peer is not None
        peer.connection.transport.abort()
        second = await client.until(lambda: (one := client.server()) and one.id != first.id and one)
        assert list(client.servers) == [second.id]
        client.close()
        await client.until(lambda: client.dials == 2 and client.server())


async def test_the_client_stays_in_touch(tmp_path: Path) -> None:
    async with originals(tmp_path) as all_three:
        client = all_three.client
        client.keepalive = 0.4
        remote = await client.until(client.server)
        pair = [envelope("rpc", "identify", "sysadm_client_identify", ""), *_pings(remote.enc_key)]
        await client.until(lambda: client.sent.count(pair[1]) and client.sent.count(f"{remote.id}\n{pair[2]}"))
        assert client.sent.count(pair[0]) >= 2
        assert remote.token
        assert client.dials == 1


def _pings(enc_key: str) -> list[str]:
    assert enc_key
    ping = envelope("rpc", "query", "sysadm_client_ping", "")
    return [ping, to_base64(ping)]


async def test_the_client_leaves_who_is_no_server_and_no_bridge(tmp_path: Path) -> None:
    client = OriginalClient(Pair(), Pair())
    bridge = OriginalBridge(tmp_path)
    bridge._own = _weather  # type: ignore[method-assign]
    async with bridge.serving(), client.dialling(bridge.url):
        await client.until(lambda: client.refused)
    assert client.refused == ["the type weather"]


async def _weather(peer: BridgePeer, message: dict[str, Any]) -> None:
    if message["name"] == "identify":
        await peer.send(envelope("rpc", "response", message["id"], {"hostname": "b", "type": "weather"}))


async def test_a_certificate_is_taken_that_is_its_own_and_has_not_run_out(tmp_path: Path) -> None:
    key = make_key(tmp_path, "rsa-2048", "authority")
    good = make_certificate(key)
    assert tolerated(ssl.PEM_cert_to_DER_cert(good.read_text()))
    assert not tolerated(ssl.PEM_cert_to_DER_cert(expired(Keypair.make(tmp_path)).read_text()))
    assert isinstance(server_tls(tmp_path, "x"), ssl.SSLContext)


# What they do wrong, and ours must live with


async def test_the_bridge_lets_an_unknown_key_in_while_somebody_is_logged_in(tmp_path: Path) -> None:
    key = Pair()
    async with originals(tmp_path) as all_three:
        await all_three.client.until(all_three.client.server)
        async with stranger(all_three.bridge) as connection:
            asked = json.loads(await exchange(connection, envelope("rpc", "auth_ssl", "a", "")))
            proof = {"encrypted_string": key.encrypted(asked["args"]["test_string"])}
            done = await exchange(connection, envelope("rpc", "auth_ssl", "a", proof))
            assert done == '{"args":["",0],"id":"a","name":"response","namespace":"rpc"}'


async def test_the_bridge_refuses_an_unknown_key_while_it_is_alone(tmp_path: Path) -> None:
    async with OriginalBridge(tmp_path).serving() as bridge, stranger(bridge) as connection:
        asked = json.loads(await exchange(connection, envelope("rpc", "auth_ssl", "a", "")))
        proof = {"encrypted_string": Pair().encrypted(asked["args"]["test_string"])}
        refused = '{"args":"unauthorized","id":"a","name":"error","namespace":"rpc"}'
        assert await exchange(connection, envelope("rpc", "auth_ssl", "a", proof)) == refused
        nothing = '{"args":null,"id":"q","name":"error","namespace":"weather"}'
        assert await exchange(connection, envelope("weather", "report", "q", "")) == nothing
        await connection.send('{"id":"q","name":"identify","namespace":"rpc"}')
        await connection.send("no frame")
        known = '{"args":{"hostname":"b","type":"bridge"},"id":"i","name":"response","namespace":"rpc"}'
        assert await exchange(connection, envelope("rpc", "identify", "i", "")) == known


async def test_the_bridge_relays_from_anybody_to_anybody(tmp_path: Path) -> None:
    async with originals(tmp_path) as all_three:
        await all_three.client.until(all_three.client.server)
        async with stranger(all_three.bridge) as connection:
            identify = envelope("rpc", "identify", "i", "")
            found = await exchange(connection, f"{all_three.server_id}\n{identify}")
            known = envelope("rpc", "response", "i", {"hostname": "h", "type": "server"})
            assert found == f"{all_three.server_id}\n{known}"


async def test_the_bridge_tells_of_who_left_when_something_else_changes(tmp_path: Path) -> None:
    async with originals(tmp_path) as all_three:
        client, server = all_three.client, all_three.server
        await client.until(client.server)
        server.redial = 60
        gone = all_three.server_id
        peer = all_three.bridge.of("server")
        assert peer is not None
        peer.connection.transport.abort()
        await until(lambda: all_three.bridge.of("server") is None)
        await asyncio.sleep(0.05)
        assert list(client.servers) == [gone]
        client._say(client.main, "rpc", "response", "whatever", {})
        await client.until(lambda: not client.servers)


async def test_any_answer_to_the_bridge_empties_the_list(tmp_path: Path) -> None:
    async with originals(tmp_path) as all_three:
        client = all_three.client
        await client.until(client.server)
        client._say(client.main, "rpc", "response", "whatever", "")
        await client.until(lambda: not client.servers)


async def test_an_unknown_checksum_is_answered_in_clear(tmp_path: Path) -> None:
    async with originals(tmp_path) as all_three:
        await all_three.client.until(all_three.client.server)
        async with stranger(all_three.bridge) as connection:
            asked = envelope("rpc", "auth_ssl", "a", {"md5_key": "AAAAAAAAAAAAAAAAAAAAAA=="})
            _, _, found = (await exchange(connection, f"{all_three.server_id}\n{asked}")).partition("\n")
            args = json.loads(found)["args"]
            assert args["new_ssl_key"].startswith("-----BEGIN PUBLIC KEY--")
            assert re.fullmatch("[A-Za-z0-9]{20}", args["test_string"])


async def test_who_is_not_logged_in_is_dropped_after_a_while(tmp_path: Path) -> None:
    bridge = OriginalBridge(tmp_path)
    bridge.grace = 0.05
    async with bridge.serving(), stranger(bridge) as connection, asyncio.timeout(10):
        with pytest.raises(ConnectionClosed):
            await connection.recv()


# Appendix A


def test_a1_and_a2_the_form_and_the_checksum_of_a_key() -> None:
    assert registered_form(PEM) == REGISTERED_KEY
    assert checksum(PEM) == CHECKSUM


async def test_a3_and_a4_the_bridge_takes_the_captured_proof(tmp_path: Path) -> None:
    bridge = OriginalBridge(tmp_path)
    bridge.challenges.text = lambda: CHALLENGE
    bridge.keys["captured"] = PEM
    async with bridge.serving(), stranger(bridge) as connection:
        asked = await exchange(connection, envelope("rpc", "auth_ssl", "a", ""))
        assert asked == f'{{"args":{{"test_string":"{CHALLENGE}"}},"id":"a","name":"response","namespace":"rpc"}}'
        done = await exchange(connection, envelope("rpc", "auth_ssl", "a", {"encrypted_string": ENCRYPTED_STRING}))
        assert re.fullmatch(r'\{"args":\["[A-Za-z0-9]{40}",0\],"id":"a","name":"response","namespace":"rpc"\}', done)


def test_a4_a_proof_is_what_openssl_makes(tmp_path: Path) -> None:
    """The private half of the captured key was thrown away; what it does with another one is the same to the byte."""
    key = Pair()
    file = tmp_path / "mine.key"
    file.write_bytes(key.private_pem)
    assert base64.b64decode(key.encrypted(CHALLENGE)) == sign_classic(file, CHALLENGE)
    assert recovered(key.pem, key.encrypted(CHALLENGE)) == CHALLENGE
    assert recovered(PEM, ENCRYPTED_STRING) == CHALLENGE


async def test_a5_the_relay_frame_of_a_log_in(tmp_path: Path) -> None:
    name = "::{b9bead97-69d7-4cce-8859-6e31b4a0fa7c}"
    bridge, server, client = OriginalBridge(tmp_path), OriginalServer(tmp_path), OriginalClient()
    server.keys["alice"] = client.key.pem
    server.new_token = lambda: "moE0WFrDhBjTy3SsumMf"
    bridge.keys = {"the server": server.bridge_key.pem, "the client": client.bridge_key.pem}
    async with bridge.serving(), server.dialling(bridge.url):
        await until(lambda: bridge.of("server"))
        bridge.new_id = lambda: name
        async with client.dialling(bridge.url):
            await client.until(client.server)
        assert [text for text in server.sent if not text.startswith("{")][2] == (
            f"{name}\neyJhcmdzIjpbIm1vRTBXRnJEaEJqVHkzU3N1bU1mIiwwXSwiaWQiOiJzeXNhZG0tY2xpZW50LWF1dGgtYXV0byIsIm5hbWUiOiJyZXNw"
            "b25zZSIsIm5hbWVzcGFjZSI6InJwYyJ9"
        )


async def test_a6_the_start_up_of_the_client_towards_a_server(tmp_path: Path) -> None:
    server, client = OriginalServer(tmp_path, hostname="vm"), OriginalClient(username="alice")
    server.accounts.add("alice")
    server.new_token = lambda: "6fyTCUHeu0qfqxL5Vh96"
    server.last["system-state"] = envelope("events", "system-state", "", {"hostname": "goldhost"})
    async with server.listening(), client.dialling(f"wss://127.0.0.1:{server.port}"):
        await client.until(lambda: len(client.received) == 6)
    assert [f"{'->' if frame.way == '>' else '<-'} {frame.text}" for frame in client.frames] == [
        '-> {"args":"","id":"sysadm_client_identify","name":"identify","namespace":"rpc"}',
        (
            '<- {"args":{"hostname":"vm","type":"server"},"id":"sysadm_client_identify",'
            '"name":"response","namespace":"rpc"}'
        ),
        '-> {"args":{"password":"","username":"alice"},"id":"sysadm-client-auth-auto","name":"auth","namespace":"rpc"}',
        '<- {"args":["6fyTCUHeu0qfqxL5Vh96",0],"id":"sysadm-client-auth-auto","name":"response","namespace":"rpc"}',
        '-> {"args":"simple-query","id":"cp_client_auto_query_id","name":"query","namespace":"rpc"}',
        (
            '<- {"args":{"rpc/dispatcher":"read/write"},"id":"cp_client_auto_query_id",'
            '"name":"response","namespace":"rpc"}'
        ),
        '-> {"args":"system-state","id":"sysadm-client-event-auto","name":"subscribe","namespace":"events"}',
        '<- {"args":{"hostname":"goldhost"},"id":"","name":"system-state","namespace":"events"}',
        (
            '<- {"args":{"subscribe":"system-state"},"id":"sysadm-client-event-auto",'
            '"name":"response","namespace":"events"}'
        ),
        '-> {"args":"life-preserver","id":"sysadm-client-event-auto","name":"subscribe","namespace":"events"}',
        (
            '<- {"args":{"subscribe":"life-preserver"},"id":"sysadm-client-event-auto",'
            '"name":"response","namespace":"events"}'
        ),
    ]
