"""Servers, clients and bridges, ours and the original ones, in every combination that there is: real processes, real
TLS, and who is killed is missed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from sysadmd.client import AsyncClient
from sysadmd.client.bridge import reachable
from sysadmd.client.errors import AuthFailed, ClientError, ConnectFailed, ConnectionLost
from sysadmd.keys.signing import PrivateKey
from tests.integration.bridge_parties import Bridge, Person, admit, authority, register, sealing_key, server_at
from tests.integration.bridge_processes import RunningBridge, running_bridge
from tests.integration.originals import (
    BRIDGE_IDENTIFY,
    BRIDGE_LIST,
    OriginalBridge,
    OriginalClient,
    OriginalServer,
    Pair,
    envelope,
    kept_pair,
    until,
)
from tests.integration.servers import RunningServer

NOTICED = 2.0
"""Seconds until somebody is missed: one, and one for a busy machine."""
AGAIN = 15.0
"""Seconds until a server has dialled again: it waits one, then two, then four."""
ECHO = {"ping": [["echo", "heard"]]}
WAITING = """
import asyncio, sys
from sysadmd.client import AsyncClient

async def main(url, key, pin, ca):
    async with AsyncClient(url, key=key, pin=pin, ca=ca) as client, client.events("dispatcher") as events:
        await client.call("rpc/query")
        print("in", flush=True)
        async for event in events:
            pass

asyncio.run(main(*sys.argv[1:]))
"""


async def registered(server: RunningServer, *keys: str) -> None:
    async with server.connect() as admin:
        await register(admin, *keys)


async def reaches(bridge: Bridge, person: Person, *names: str) -> None:
    """Wait until somebody can reach exactly the servers with these host names: a server tells of a new key soon."""
    url = f"bridge://127.0.0.1:{bridge.port}"
    async with asyncio.timeout(10):
        while True:
            found = await reachable(url, key=person.key.file, ca=authority(bridge))
            if [(one.hostname, one.sealed) for one in found] == [(name, True) for name in names]:
                return


async def sessions(server: RunningServer) -> list[dict[str, Any]]:
    """The sessions that came through a bridge."""
    async with server.connect() as admin:
        listed = (await admin.call("rpc", "sessions", {"action": "list"}))["sessions"]
    return [one for one in listed if one["via"] == "bridge"]


async def without_sessions(server: RunningServer, timeout: float) -> None:
    async with asyncio.timeout(timeout):
        while await sessions(server):
            await asyncio.sleep(0.02)


async def linked(server: RunningServer, state: str = "connected", timeout: float = 10.0) -> None:
    """Wait until the link of a server is in this state."""
    async with server.connect() as admin, asyncio.timeout(timeout):
        while (await admin.call("rpc", "bridges", {"action": "list"}))["bridges"][0]["state"] != state:
            await asyncio.sleep(0.02)


async def heard(client: AsyncClient) -> list[str]:
    """Run a job and wait for its events; the names of the nodes that they came from."""
    async with client.events("dispatcher") as events:
        await client.call("rpc/dispatcher/run", ECHO)
        nodes = []
        async with asyncio.timeout(10):
            async for event in events:
                nodes.append(event.node)
                if event.args["state"] == "finished":
                    return nodes
    raise AssertionError("the stream ended")


# Ours alone


async def test_two_servers_and_two_clients_meet_whom_they_know_and_nobody_else(tmp_path: Path) -> None:
    async with (
        running_bridge(tmp_path, tls=True) as bridge,
        server_at(bridge, tmp_path, "alpha") as alpha,
        server_at(bridge, tmp_path, "beta") as beta,
    ):
        ann, ben = Person.make(tmp_path, "ann", bridge), Person.make(tmp_path, "ben", bridge)
        carl = Person.make(tmp_path, "carl", bridge)
        await registered(alpha, ann.key.pem)
        await registered(beta, ann.key.pem, ben.key.pem)
        await reaches(bridge, ann, "alpha", "beta")
        await reaches(bridge, ben, "beta")
        await reaches(bridge, carl)
        async with (
            ann.client_of(bridge, alpha) as to_alpha,
            ann.client_of(bridge, beta) as to_beta,
            ben.client_of(bridge, beta) as bens,
            bens.events("dispatcher") as at_beta,
        ):
            for client, name in ((to_alpha, "alpha"), (to_beta, "beta"), (bens, "beta")):
                assert (await client.call("rpc/identify"))["hostname"] == name
            assert {*await heard(to_alpha)} == {"alpha"}
            assert {*await heard(to_beta)} == {"beta"}
            # What happened at alpha before did not come to Ben, or it would have come first.
            async with asyncio.timeout(10):
                assert (await anext(aiter(at_beta))).node == "beta"
            assert {one["insecure"] for one in [*await sessions(alpha), *await sessions(beta)]} == {False}
        with pytest.raises(ConnectFailed, match="no "):
            async with ben.client_of(bridge, alpha, timeout=1.0):
                pass


async def test_a_server_or_a_client_that_is_killed_is_missed(tmp_path: Path) -> None:
    async with running_bridge(tmp_path, tls=True) as bridge, server_at(bridge, tmp_path, "alpha") as alpha:
        ann = Person.make(tmp_path, "ann", bridge)
        await registered(alpha, ann.key.pem)
        pin = sealing_key(alpha.state_dir).public.fingerprint
        arguments = (f"bridge://127.0.0.1:{bridge.port}/alpha", ann.key.file, pin, authority(bridge))
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WAITING, *map(str, arguments)), stdout=asyncio.subprocess.PIPE
        )
        assert program.stdout is not None
        async with asyncio.timeout(20):
            assert await program.stdout.readline() == b"in\n"
        assert len(await sessions(alpha)) == 2
        program.kill()
        await without_sessions(alpha, NOTICED)
        await program.wait()
        watcher = PrivateKey.load(ann.key.file.read_bytes())
        async with (
            bridge.peer("client", watcher, [watcher.public.checksum]) as raw,
            ann.client_of(bridge, alpha) as client,
        ):
            assert len(await raw.announcement()) == 1
            await client.call("rpc/query")
            alpha.process.kill()
            async with asyncio.timeout(NOTICED):
                with pytest.raises(ConnectionLost):
                    await called_for_ever(client)
            assert await raw.announcement(NOTICED) == []


async def test_everybody_comes_back_to_a_bridge_that_was_killed(tmp_path: Path) -> None:
    async with running_bridge(tmp_path, tls=True) as bridge, server_at(bridge, tmp_path, "alpha") as alpha:
        ann, original = Person.make(tmp_path, "ann", bridge), OriginalClient()
        original.redial = 0.2
        admit(bridge, "original", original.bridge_key.pem)
        await registered(alpha, ann.key.pem, original.key.pem)
        async with (
            ann.client_of(bridge, alpha) as client,
            client.events("dispatcher") as events,
            original.dialling(f"wss://127.0.0.1:{bridge.port}"),
        ):
            await client.call("rpc/query")
            await original.until(original.server)
            bridge.process.kill()
            await linked(alpha, "waiting", NOTICED)
            await without_sessions(alpha, NOTICED)
            with pytest.raises(ClientError):
                await client.call("rpc/query")
            async with alpha.connect() as admin:
                await admin.call("rpc", "dispatcher", {"action": "run", "meanwhile": [["true"]]})
            async with started_again(bridge):
                await linked(alpha, timeout=AGAIN)
                # What happened while there was no bridge comes, too.
                async with asyncio.timeout(AGAIN):
                    assert (await anext(aiter(events))).args["process_id"] == "meanwhile"
                assert len(await client.call("rpc/query")) > 0
                await original.until(original.server, AGAIN)


async def called_for_ever(client: AsyncClient) -> None:
    """Until a call is lost: in flight, or because it was sent to a server that is gone already."""
    while True:
        await client.call("rpc/query")
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def started_again(bridge: RunningBridge) -> AsyncIterator[None]:
    """Another process on the directory and the port of one that was killed."""
    argv = [*bridge.argv, "--listen", f"127.0.0.1:{bridge.port}"]
    with bridge.log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await process.wait()


# With originals


async def the_original_client_works(client: OriginalClient, server: RunningServer) -> None:
    """The whole of what it does: it is let in, calls, and gets events, all in base64."""
    remote = await client.until(client.server)
    assert (remote.hostname, remote.wraps) == ("alpha", True)
    assert client.overflows == 0 or client.kind == "bridge"
    reply = await client.call(remote.id, "rpc", "query", "simple-query")
    assert reply["args"]["rpc/dispatcher"] == "read/write"
    await client.call(remote.id, "events", "subscribe", "dispatcher")
    await client.call(remote.id, "rpc", "dispatcher", {"action": "run", "job": ["echo heard"]})
    finished = {"process_id": "job", "state": "finished"}
    await client.until(lambda: any(finished.items() <= args.items() for _, _, args in client.events))
    (session,) = await sessions(server)
    assert (session["classic"], session["insecure"], session["method"]) == (True, True, "key")
    frames = [text.partition("\n")[2] for text in client.received if text.startswith("::")]
    for payload in frames[2:]:
        base64.b64decode(payload, validate=True)


async def test_an_original_client_through_our_bridge_with_our_server(tmp_path: Path) -> None:
    client = OriginalClient()
    async with running_bridge(tmp_path, tls=True) as bridge, server_at(bridge, tmp_path, "alpha") as alpha:
        admit(bridge, "original", client.bridge_key.pem)
        await registered(alpha, client.key.pem)
        async with client.dialling(f"wss://127.0.0.1:{bridge.port}"):
            await the_original_client_works(client, alpha)
            assert client.overflows == 0


async def test_an_original_client_through_an_original_bridge_with_our_server(tmp_path: Path) -> None:
    client = OriginalClient()
    async with OriginalBridge(tmp_path).serving() as bridge, server_at(bridge, tmp_path, "alpha") as alpha:
        admit(bridge, "original", client.bridge_key.pem)
        await registered(alpha, client.key.pem)
        await linked(alpha)
        async with client.dialling(bridge.url):
            await the_original_client_works(client, alpha)


async def test_originals_alone_at_our_bridge(tmp_path: Path) -> None:
    """What they read differs from what an original bridge writes in the seconds of a token, and in its length."""
    server, client = OriginalServer(tmp_path), OriginalClient()
    server.keys["alice"] = client.key.pem
    async with running_bridge(tmp_path, tls=True) as bridge:
        admit(bridge, "server", server.bridge_key.pem)
        admit(bridge, "client", client.bridge_key.pem)
        url = f"wss://127.0.0.1:{bridge.port}"
        async with server.dialling(url), client.dialling(url):
            remote = await client.until(client.server)
            reply = await client.call(remote.id, "rpc", "query", "simple-query")
            assert reply["args"] == {"rpc/dispatcher": "read/write"}
            await until(lambda: any(one.events for one in server.remotes.values()))
            await server.publish("life-preserver", {"message": "heard"})
            await client.until(lambda: client.events)
            assert client.events == [(remote.id, "life-preserver", {"message": "heard"})]
            # Unlike an original one, this bridge tells who left.
            client.close()
            await until(lambda: not server.remotes)


async def test_our_client_through_an_original_bridge_with_our_server_is_sealed(tmp_path: Path) -> None:
    async with OriginalBridge(tmp_path).serving() as bridge, server_at(bridge, tmp_path, "alpha") as alpha:
        ann = Person.make(tmp_path, "ann", bridge)
        await registered(alpha, ann.key.pem)
        await until(lambda: bridge.of("server"))
        await reaches(bridge, ann, "alpha")
        async with ann.client_of(bridge, alpha) as client:
            assert {*await heard(client)} == {"alpha"}
            assert [one["insecure"] for one in await sessions(alpha)] == [False]
        payloads = [
            frame.text.partition("\n")[2] for peer in bridge.peers for frame in peer.frames if "\n" in frame.text
        ]
        assert {json.loads(one)["id"] for one in payloads if one[0] == "{"} == {"sysadmd-client-identify"}
        assert {one[0] for one in payloads} <= set("{~^!")


async def test_our_client_with_an_original_server_only_where_it_is_told_to_trust_anybody(tmp_path: Path) -> None:
    server = OriginalServer(tmp_path, hostname="old")
    server.methods["rpc/query"] = {"rpc/settings": "read/write"}
    async with running_bridge(tmp_path, tls=True) as bridge:
        key = Person.make(tmp_path, "ann", OriginalBridge(tmp_path)).key
        admit(bridge, "ann", key.pem)
        admit(bridge, "old", server.bridge_key.pem)
        server.keys["alice"] = key.pem
        ann = Person(key)
        async with server.dialling(f"wss://127.0.0.1:{bridge.port}"):
            await server.until(lambda: server.link_token)
            for pin in (None, "0" * 64):
                with pytest.raises(ConnectFailed):
                    async with ann.client(bridge, "old", pin):
                        pass
            before = [text for text in server.received if not text.startswith("{")]
            assert {json.loads(one.partition("\n")[2])["name"] for one in before} == {"identify"}
            async with ann.client(bridge, "old", insecure=True) as client:
                assert await client.call("rpc/query") == {"rpc/settings": "read/write"}
                async with client.events("system_state") as events:
                    await until(lambda: any(one.events for one in server.remotes.values()))
                    await server.publish("system-state", {"hostname": "old", "priority": "3 - Warning"})
                    async with asyncio.timeout(10):
                        assert (await anext(aiter(events))).args["hostname"] == "old"
            with pytest.raises(AuthFailed, match="password"):
                async with ann.client(bridge, "old", insecure=True, username="alice", password="secret"):
                    pass


async def test_original_clients_may_be_kept_out_and_sealed_ones_are_not(tmp_path: Path) -> None:
    client, more = OriginalClient(), "[bridge]\nallow_classic = false\n"
    async with running_bridge(tmp_path, tls=True) as bridge, server_at(bridge, tmp_path, "alpha", more) as alpha:
        ann = Person.make(tmp_path, "ann", bridge)
        admit(bridge, "original", client.bridge_key.pem)
        await registered(alpha, ann.key.pem, client.key.pem)
        async with client.dialling(f"wss://127.0.0.1:{bridge.port}"):
            (refused,) = await client.until(lambda: client.refused)
            remote = client.servers[refused]
            assert (remote.hostname, remote.token) == ("alpha", "")
            refusal = envelope("error", "error", "sysadm-client-auth-auto", {"code": "401", "message": "Unauthorized"})
            assert f"{refused}\n{refusal}" in client.received
            assert not await sessions(alpha)
            async with ann.client_of(bridge, alpha) as sealed:
                await sealed.call("rpc/query")


# What was captured, played again


@contextlib.asynccontextmanager
async def original_at(bridge: RunningBridge, origin: str) -> AsyncIterator[ClientConnection]:
    """A connection as an original program makes it."""
    options = {"ssl": bridge.ssl_context(), "compression": None, "user_agent_header": None, "proxy": None}
    async with connect(bridge.url, origin=Origin(origin), **options) as connection:  # type: ignore[arg-type]
        yield connection


async def next_text(connection: ClientConnection) -> str:
    async with asyncio.timeout(10):
        return str(await connection.recv())


async def plays(connection: ClientConnection, key: Pair, script: str) -> None:
    """Send the lines with `->`, and receive the others to the byte. A challenge and a token are any."""
    proof = ""
    for line in script.strip().splitlines():
        way, text = line.strip().split(" ", 1)
        if way == "->":
            await connection.send(text.replace("PROOF", proof))
            continue
        pattern = re.escape(text).replace("CHALLENGE", "([A-Za-z0-9]{128,245})").replace("TOKEN", "([A-Za-z0-9]{40})")
        found = re.fullmatch(pattern, received := await next_text(connection))
        assert found, (received, text)
        if "CHALLENGE" in text:
            proof = key.encrypted(found[1])


LINK = """
    <- {"args":"","id":"sysadm_bridge_request_ident","name":"identify","namespace":"rpc"}
    -> {"args":{"hostname":"h","type":"server"},"id":"sysadm_bridge_request_ident","name":"response","namespace":"rpc"}
    -> {"args":"","id":"server_to_bridge_auth","name":"auth_ssl","namespace":"rpc"}
    <- {"args":{"test_string":"CHALLENGE"},"id":"server_to_bridge_auth","name":"response","namespace":"rpc"}
    -> {"args":{"encrypted_string":"PROOF"},"id":"server_to_bridge_auth","name":"auth_ssl","namespace":"rpc"}
    <- {"args":["TOKEN",900],"id":"server_to_bridge_auth","name":"response","namespace":"rpc"}
    <- {"args":{"action":"list_ssl_checksums"},"id":"bridge_request_list_keys","name":"settings","namespace":"rpc"}
    -> {"args":{"md5_keys":["c2hhcmVk"]},"id":"bridge_request_list_keys","name":"response","namespace":"rpc"}
"""
START = """
    -> {"args":"","id":"sysadm_client_identify","name":"identify","namespace":"rpc"}
    <- {"args":"","id":"sysadm_bridge_request_ident","name":"identify","namespace":"rpc"}
    -> {"args":{"hostname":"c","type":"client"},"id":"sysadm_bridge_request_ident","name":"response","namespace":"rpc"}
    <- {"args":{"hostname":"b","type":"bridge"},"id":"sysadm_client_identify","name":"response","namespace":"rpc"}
    -> {"args":"","id":"sysadm-client-auth-auto","name":"auth_ssl","namespace":"rpc"}
    <- {"args":{"test_string":"CHALLENGE"},"id":"sysadm-client-auth-auto","name":"response","namespace":"rpc"}
    -> {"args":{"encrypted_string":"PROOF"},"id":"sysadm-client-auth-auto","name":"auth_ssl","namespace":"rpc"}
    <- {"args":["TOKEN",900],"id":"sysadm-client-auth-auto","name":"response","namespace":"rpc"}
    <- {"args":{"action":"list_ssl_checksums"},"id":"bridge_request_list_keys","name":"settings","namespace":"rpc"}
    -> {"args":"system-state","id":"sysadm-client-event-auto","name":"subscribe","namespace":"events"}
    <- {"args":null,"id":"sysadm-client-event-auto","name":"response","namespace":"events"}
    -> {"args":{"md5_keys":["c2hhcmVk"]},"id":"bridge_request_list_keys","name":"response","namespace":"rpc"}
"""
NOT_YET = """
    -> {"args":"","id":"q","name":"query","namespace":"rpc"}
    <- {"args":null,"id":"q","name":"error","namespace":"rpc"}
    -> {"id":"q","name":"identify","namespace":"rpc"}
    -> {"args":"","id":"a","name":"auth_ssl","namespace":"rpc"}
    <- {"args":{"test_string":"CHALLENGE"},"id":"a","name":"response","namespace":"rpc"}
    -> {"args":{"encrypted_string":"PROOF"},"id":"a","name":"auth_ssl","namespace":"rpc"}
    <- {"args":"unauthorized","id":"a","name":"error","namespace":"rpc"}
"""
ANNOUNCED = (
    r'\{"args":\{"available_connections":\["(::\{[0-9a-f-]{36}\})"\]\},"id":"","name":"bridge","namespace":"events"\}'
)


async def test_the_captured_start_of_a_server_and_of_a_client_at_our_bridge(tmp_path: Path) -> None:
    """Spec sysadm §6.2 and §6.4, to the byte."""
    server_key, client_key = kept_pair("server"), kept_pair("client to bridge")
    async with running_bridge(tmp_path, tls=True, config='node = "b"\n') as bridge:
        admit(bridge, "server", server_key.pem)
        admit(bridge, "client", client_key.pem)
        async with original_at(bridge, "sysadm-server") as server, original_at(bridge, "sysadm-client") as client:
            assert server.response is not None
            assert server.response.headers["Server"] == "sysadmd-bridge"
            assert "Sec-WebSocket-Extensions" not in server.response.headers
            await plays(server, server_key, LINK)
            # The client speaks first; what the bridge asks at once is there already.
            asked, rest = START.strip().split("\n", 2)[:2], START.strip().split("\n", 2)[2]
            await client.send(asked[0].split(" ", 1)[1].strip())
            await plays(client, client_key, "\n".join([asked[1], rest]))
            to_client = re.fullmatch(ANNOUNCED, await next_text(client))
            to_server = re.fullmatch(ANNOUNCED, await next_text(server))
            assert to_client
            assert to_server
            identify = envelope("rpc", "identify", "sysadm_client_identify", "")
            await client.send(f"{to_client[1]}\n{identify}")
            assert await next_text(server) == f"{to_server[1]}\n{identify}"
            await server.send(f"{to_server[1]}\neyJhIjoxfQ==")
            assert await next_text(client) == f"{to_client[1]}\neyJhIjoxfQ=="
        async with original_at(bridge, "sysadm-client") as stranger:
            assert await next_text(stranger) == BRIDGE_IDENTIFY
            await plays(stranger, Pair(), NOT_YET)


async def test_the_captured_session_at_our_server_behind_an_original_bridge(tmp_path: Path) -> None:
    """Spec sysadm §6.2 with our server in it, then §6.6, to the byte."""
    key = kept_pair("client")
    async with OriginalBridge(tmp_path).serving() as bridge, server_at(bridge, tmp_path, "alpha") as alpha:
        client = OriginalClient(key)
        client.subscriptions = ()
        admit(bridge, "client", client.bridge_key.pem)
        await registered(alpha, key.pem)
        await linked(alpha)
        async with client.dialling(bridge.url):
            remote = await client.until(client.server)
            sent = [text.partition("\n")[2] for text in client.sent if text.startswith(remote.id)]
            got = [text.partition("\n")[2] for text in client.received if text.startswith(remote.id)]
            assert sent[0] == envelope("rpc", "identify", "sysadm_client_identify", "")
            known = {"hostname": "alpha", "type": "server"}
            assert got[0] == envelope("rpc", "response", "sysadm_client_identify", known)
            shown = json.loads(got[1])["args"]
            assert got[1] == envelope("rpc", "response", "sysadm-client-auth-auto", shown)
            assert sorted(shown) == ["new_ssl_key", "test_string"]
            assert b" PUBLIC KEY--" in base64.b64decode(shown["new_ssl_key"], validate=True)
            assert re.fullmatch(rb"[A-Za-z0-9]{128,245}", base64.b64decode(shown["test_string"], validate=True))
            done = base64.b64decode(got[2], validate=True).decode()
            assert done == envelope("rpc", "response", "sysadm-client-auth-auto", [remote.token, 900])
            for name in ("auth", "auth_token"):
                args = {"username": "admin", "password": "correct horse", "token": remote.token}
                refused = await client.call(remote.id, "rpc", name, args)
                assert (refused["name"], refused["namespace"]) == ("error", "error")
                assert refused["args"] == {"code": "401", "message": "Unauthorized"}
        server = bridge.of("server")
        assert server is not None
        asked = [frame.text for frame in server.frames if frame.way == "<" and frame.text.startswith("{")]
        assert envelope("rpc", "auth_ssl", "server_to_bridge_auth", "") in asked
        assert BRIDGE_LIST in [frame.text for frame in server.frames]
        keys = [json.loads(text) for text in asked if "md5_keys" in text]
        assert keys[-1]["args"] == {"md5_keys": [key.checksum]}
