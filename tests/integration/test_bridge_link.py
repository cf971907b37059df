"""A server that dials bridges: an original one in between, original and sealed clients behind it."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from sysadmd.bridge import link as link_module
from sysadmd.cli.status import collect
from sysadmd.client import AsyncClient
from sysadmd.config import BridgeLink, BridgePolicy, Config
from sysadmd.events.record import Draft
from sysadmd.keys.bridge import bridge_key
from sysadmd.keys.seal import WINDOW
from tests.integration.apps import LiveApp
from tests.integration.behind_bridges import KEY, Behind, SealedPeer, behind, register
from tests.integration.originals import Pair, envelope, until
from tests.unit.keys.openssl import make_certificate, make_key

TEXT = "x" * 16 * 1024


def tell(live: LiveApp, number: int, text: str = "") -> None:
    data = {"message": text, "priority": 1, "class": "snapshot", "n": number}
    live.app.events.publish(Draft("life_preserver", data, durable=False))


def decoded(payload: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(base64.b64decode(payload, validate=True))
    return message


# An original client


async def test_an_original_client_logs_in_calls_and_gets_events(tmp_path: Path) -> None:
    """Spec §6.2 to §6.6, the whole way."""
    async with behind(tmp_path) as it, it.client() as client:
        server = await client.until(client.server)
        assert server.wraps
        reply = await client.call(server.id, "rpc", "query", "simple-query")
        assert (reply["name"], reply["args"]["rpc/dispatcher"]) == ("response", "read/write")
        await client.until(lambda: any(one.subscriptions for one in it.sessions()))
        tell(it.live, 1, "made a snapshot")
        await client.until(lambda: [args for _, name, args in client.events if name == "life-preserver"])


async def test_a_log_in_through_a_bridge_is_written_as_the_originals_do(tmp_path: Path) -> None:
    """Spec §6.6 and appendix A5: plain until the client signs, base64 of compact JSON with sorted keys from then on."""
    async with behind(tmp_path) as it, it.peer() as peer:
        reply = await peer.exchange("rpc", "identify", "", "sysadm_client_identify")
        assert reply["args"] == {"hostname": it.live.app.config.node, "type": "server"}
        asked = {"md5_key": KEY.checksum}
        challenge = (await peer.exchange("rpc", "auth_ssl", asked, "sysadm-client-auth-auto"))["args"]
        text = base64.b64decode(challenge["test_string"]).decode()
        assert " PUBLIC KEY--" in base64.b64decode(challenge["new_ssl_key"]).decode()
        proof = {"encrypted_string": KEY.encrypted(text)}
        request = envelope("rpc", "auth_ssl", "sysadm-client-auth-auto", proof)
        await peer.say(base64.b64encode(request.encode()))
        payload = await peer.hear()
        text, found = base64.b64decode(payload, validate=True).decode(), decoded(payload)
        assert text == envelope("rpc", "response", "sysadm-client-auth-auto", found["args"])
        assert (len(found["args"]), found["args"][1]) == (2, 900)
        await peer.say(base64.b64encode(envelope("rpc", "auth_clear", "", "").encode()))
        await peer.say(base64.b64encode(envelope("rpc", "query", "q", "").encode()))
        assert decoded(await peer.hear())["args"] == {"code": "401", "message": "Unauthorized"}


async def test_what_a_bridge_could_read_and_use_logs_nobody_in(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.peer() as peer:
        right = {"username": "admin", "password": "correct horse"}
        assert (await peer.exchange("rpc", "auth", right))["args"]["code"] == "401"
        scope = it.live.app.auth.policy.scope("admin")
        assert scope is not None
        token = it.live.app.auth.tokens.issue(scope)
        assert (await peer.exchange("rpc", "auth_token", {"token": token}))["args"]["code"] == "401"


async def test_an_insecure_log_in_is_listed_logged_and_in_the_audit_trail(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.client() as client:
        with structlog.testing.capture_logs() as logs:
            await client.until(client.server)
        (line,) = [one for one in logs if one["event"] == "insecure log-in"]
        assert (line["log_level"], line["link"], line["account"]) == ("warning", "office", "admin")
        async with it.live.connect() as admin:
            rows = (await admin.call("rpc", "sessions", {"action": "list"}))["sessions"]
            (row,) = [one for one in rows if one["via"] == "bridge"]
            assert (row["insecure"], row["classic"], row["method"]) == (True, True, "key")
            assert row["address"] == line["peer"]
            trail = await admin.call("rpc", "audit", {"action": "list", "kind": "login"})
            (record,) = [one for one in trail["records"] if one["via"] == "bridge"]
            assert (record["insecure"], record["link"]) == (True, "office")


async def test_where_classic_is_not_allowed_a_client_learns_who_is_here_and_no_more(tmp_path: Path) -> None:
    async with behind(tmp_path, bridge__allow_classic=False) as it, it.peer() as peer:
        assert (await peer.exchange("rpc", "identify", ""))["args"]["type"] == "server"
        reply = await peer.exchange("rpc", "auth_ssl", {"md5_key": KEY.checksum}, "mine")
        assert reply == {
            "args": {"code": "401", "message": "Unauthorized"},
            "id": "mine",
            "name": "error",
            "namespace": "error",
        }
        await until(lambda: not it.sessions())
        assert it.dropped["classic not allowed"] == 1


# Lock-outs


async def test_who_fails_locks_out_neither_the_bridge_nor_another_peer(tmp_path: Path) -> None:
    options: dict[str, Any] = {"limits__login_failures_prefix": 5}
    async with behind(tmp_path, **options) as it, it.peer(SealedPeer) as bad, it.peer(SealedPeer) as good:
        for _ in range(10):
            reply = await bad.request("rpc", "auth", {"username": "admin", "password": "guess"})
            assert reply["args"]["code"] == 401
        await good.login()
        right = {"username": "admin", "password": "correct horse"}
        assert (await bad.request("rpc", "auth", right))["args"]["code"] == 401
        assert {one.prefix for one in it.live.app.auth.throttle.list()} == {bad_prefix(it)}


def bad_prefix(it: Behind) -> str:
    """The address of the one that is not logged in."""
    (found,) = [one.peer.address for one in it.sessions() if one.scope is None]
    return str(found)


# Sealed sessions


async def test_a_sealed_session_is_like_a_direct_one(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.peer(SealedPeer) as peer:
        await peer.login()
        assert (await peer.request("rpc", "query"))["args"]["rpc/dispatcher"] == "read/write"
        assert (await peer.request("events", "subscribe", ["life_preserver"]))["name"] == "response"
        tell(it.live, 7)
        await peer.until(lambda: bool(peer.events))
        (session,) = it.sessions()
        assert (session.peer.insecure, session.classic, len(session.binding)) == (False, False, 64)


async def test_a_slow_sealed_peer_keeps_nobody_waiting_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.peer(SealedPeer) as slow, it.peer(SealedPeer) as fast:
        for peer in (slow, fast):
            await peer.login()
            await peer.request("events", "subscribe", {"topics": ["life_preserver"], "policy": "gap"})
        slow.sleep()
        for number in range(600):
            tell(it.live, number, TEXT)
            if number % 20 == 19:
                await fast.until(lambda last=number: len(fast.events) == last + 1)
        assert [one["args"]["n"] for one in fast.events] == list(range(600))
        assert sum(len(payload) for payload in slow.unread) <= WINDOW * 3 // 2
        assert len(it.sessions()) == 2
        await slow.wake()
        await slow.until(lambda: any(one["args"].get("n") == 599 or one["name"] == "gap" for one in slow.events))


async def test_a_peer_that_asks_and_does_not_read_stops_itself(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.peer(SealedPeer) as peer:
        await peer.login()
        peer.sleep()
        while not peer.seal.pending:
            await peer.post("rpc", "query", id="again")
            await asyncio.sleep(0)
        assert len(it.sessions()) == 1
        await peer.wake()
        assert (await peer.request("rpc", "query"))["name"] == "response"


# The link


async def test_the_link_speaks_as_the_original_server_does(tmp_path: Path) -> None:
    """Spec §6.2: it answers who it is and asks for its challenge at once; the keys come after the token."""
    async with behind(tmp_path) as it:
        sent = [frame.text for frame in it.bridge.peers[0].frames if frame.way == "<"]
        names = [(json.loads(text)["name"], json.loads(text)["id"]) for text in sent]
        asked, proof = ("auth_ssl", "server_to_bridge_auth"), ("auth_ssl", "server_to_bridge_auth")
        told = ("response", "sysadm_bridge_request_ident")
        assert sorted(names[:2]) == sorted([asked, told])
        assert names[2:4] == [proof, ("response", "bridge_request_list_keys")]
        assert len(base64.b64decode(json.loads(sent[2])["args"]["encrypted_string"])) == 256


async def test_the_bridge_hears_of_a_new_key(tmp_path: Path) -> None:
    async with behind(tmp_path) as it:
        other = Pair()
        await register(it.live, "oper", other)
        await until(lambda: other.checksum in it.bridge.peers[0].keys)
        assert KEY.checksum in it.bridge.peers[0].keys


async def test_a_lost_link_is_made_anew_and_its_clients_come_back(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.client() as client:
        first = (await client.until(client.server)).id
        await it.bridge.peers[0].connection.close()
        await until(lambda: not it.sessions())
        await it.state("connected")
        again = await client.until(lambda: client.server() if client.server() and first not in client.servers else None)
        assert again.id != first


async def test_a_bridge_that_answers_no_ping_is_left_and_its_sessions_end(tmp_path: Path) -> None:
    options: dict[str, Any] = {"limits__ping_interval": 0.5, "limits__ping_timeout": 0.5}
    async with behind(tmp_path, **options) as it, it.peer(SealedPeer) as peer:
        await peer.login()
        it.bridge.peers[0].connection.transport.pause_reading()
        await until(lambda: it.status().error is not None)
        await until(lambda: not it.sessions())
        await it.state("connected")


async def test_a_session_ends_when_its_peer_is_announced_no_more(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.peer(SealedPeer) as stays:
        async with it.peer(SealedPeer) as goes:
            await goes.login()
            assert len(it.sessions()) == 2
        await stays.login()
        await it.bridge._announce()  # the original does it when something else changes
        await until(lambda: len(it.sessions()) == 1)


async def test_garbage_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.peer() as peer:
        link = it.bridge.peers[0]
        for text in ("no newline", "::{nobody}\n{}", "x" * 80 + "\n{}", "{", '{"args":1}', "\n", ""):
            await link.send(text)
        await peer.say("^12")
        await peer.say("neither this nor that")
        assert json.loads(await peer.hear())["args"]["code"] == "400"
        assert it.dropped == {
            "malformed frame": 3 + 1,
            "unannounced peer": 2,
            "no sealed session": 1,
            "neither JSON nor base64": 1,
        }
        assert it.status().state == "connected"


async def test_a_bridge_may_call_nothing(tmp_path: Path) -> None:
    async with behind(tmp_path) as it:
        link = it.bridge.peers[0]
        await link.send(envelope("rpc", "query", "q", ""))
        found = await until(lambda: [one.text for one in link.frames if one.way == "<" and '"q"' in one.text])
        assert json.loads(found[0])["args"]["code"] == 403


async def test_a_bridge_that_does_not_know_the_key_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "LONGEST_WAIT", 0.5)
    with structlog.testing.capture_logs() as logs:
        async with behind(tmp_path, known=False) as it:
            await it.state("refused")
            assert "unauthorized" in it.status().error
            await until(lambda: len(it.bridge.peers) >= 3, timeout=20)
            it.bridge.keys["server"] = bridge_key(tmp_path / "state").public.pem
            await until(lambda: it.status().state == "connected", timeout=30)
            assert it.status().error is None
    assert len([one for one in logs if one["event"] == "bridge link down" and "refuses" in one["reason"]]) == 1


async def test_a_bridge_with_another_key_than_at_first_is_not_talked_to(tmp_path: Path) -> None:
    async with behind(tmp_path, insecure=False) as it:
        known = (tmp_path / "state" / "known_bridges").read_text()
        assert known.startswith("office ")
        key = make_key(tmp_path, "rsa-2048", "other")
        it.bridge._tls.load_cert_chain(make_certificate(key), key)
        await it.bridge.peers[0].connection.close()
        await it.state("refused")
        assert "insecure = true" in it.status().error
        assert not [frame for peer in it.bridge.peers[1:] for frame in peer.frames if frame.way == "<"]
        assert (tmp_path / "state" / "known_bridges").read_text() == known


async def test_a_stopping_server_says_so(tmp_path: Path) -> None:
    async with behind(tmp_path) as it:
        connection = it.bridge.peers[0].connection
    assert (connection.close_code, connection.close_reason) == (1001, "the server is stopping")


async def test_links_follow_the_configuration(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.client() as client:
        await client.until(client.server)
        config, moved = it.live.app.config, BridgeLink(f"127.0.0.1:{it.bridge.port}", insecure=True)
        follow(it.live, dataclasses.replace(config, bridge=BridgePolicy(allow_classic=False)))
        await until(lambda: not it.sessions())
        assert it.status().state == "connected"
        follow(it.live, dataclasses.replace(config, bridges={}))
        assert it.live.app.links.listed() == []
        await until(lambda: it.bridge.of("server") is None)
        follow(it.live, dataclasses.replace(config, bridges={"home": moved}))
        await it.state("connected")
        assert it.status().name == "home"


def follow(live: LiveApp, config: Config) -> None:
    """What SIGHUP does with a file that was changed."""
    live.app._reload = lambda: config
    live.app.reload()


async def test_what_a_viewer_learns_of_the_links(tmp_path: Path) -> None:
    async with behind(tmp_path) as it:
        async with it.live.connect() as admin:
            (row,) = (await admin.call("rpc", "bridges", {"action": "list"}))["bridges"]
            assert row["url"] == f"wss://127.0.0.1:{it.bridge.port}/"
        async with it.live.connect("view") as viewer:
            (row,) = (await viewer.call("rpc", "bridges", {"action": "list"}))["bridges"]
            assert set(row) == {"name", "state", "since", "peers", "sessions"}
            assert (row["name"], row["state"]) == ("office", "connected")


async def test_the_figures_of_a_link(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, it.peer() as peer:
        await peer.say("^1")
        await until(lambda: it.dropped)
        async with it.live.http() as http, http.get("/metrics") as answer:
            text = await answer.text()
        assert 'sysadmd_bridge_links{name="office",state="connected"} 1.0' in text
        assert 'sysadmd_bridge_peers{name="office"} 1.0' in text
        assert 'sysadmd_bridge_dropped_total{name="office",reason="no sealed session"} 1.0' in text
        assert it.live.app.health()["bridges"] == {"links": 1, "connected": 1}


async def test_the_status_command_shows_the_links(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, AsyncClient(f"unix://{it.live.app.config.socket.path}") as client:
        assert (await collect(client))["bridges"] == {"office": "connected"}
