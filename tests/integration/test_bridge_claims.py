"""Who somebody at a bridge is taken for, and what is written down of them: by the bridge, and by a server behind it."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from sysadmd.keys.signing import parse
from tests.integration.behind_bridges import KEY, Behind, RawPeer, SealedPeer, behind
from tests.integration.bridge_processes import running_bridge
from tests.integration.bridges import private_key, running_relay, text
from tests.integration.originals import kept_pair, until
from tests.integration.servers import PASSWORD
from tests.integration.test_bridged_server import CLIENT, TO_BRIDGE, bridged
from tests.integration.test_who_did_what import records

VICTIM, MALLORY = private_key("victim"), private_key("mallory")


# At the bridge


async def test_what_a_peer_says_of_itself_changes_neither_its_nickname_nor_its_key(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as live, live.connect() as client:
        live.ring.add("web1", VICTIM.public)
        live.ring.add("mallory", MALLORY.public)
        live.ring.add("laptop", private_key().public)
        await client.identify("client", details=True)
        await client.log_in(private_key())
        await client.list_keys("k")
        assert json.loads(await client.receive())["args"]["available_connections"] == []
        async with live.connect() as liar:
            assert "identify" in await liar.receive()
            claims = {"hostname": "web1", "type": "server", "nick": "web1", "key": VICTIM.public.fingerprint}
            await liar.send(text("rpc", "response", claims, "sysadm_bridge_request_ident"))
            await liar.log_in(MALLORY)
            await liar.list_keys("k")
            (told,) = json.loads(await client.receive())["args"]["connections"].values()
        assert told == {"hostname": "web1", "nick": "mallory", "key": MALLORY.public.fingerprint}


@pytest.mark.parametrize("headers", [{}, {"Cookie": "session=1", "Authorization": "Basic YWRtaW46eA=="}])
async def test_a_page_in_a_browser_is_a_stranger_like_any_other(tmp_path: Path, headers: dict[str, str]) -> None:
    options: dict[str, Any] = {"origin": "https://example.net", "additional_headers": headers}
    async with running_relay(tmp_path) as live, live.pair() as (server, _), live.connect(**options) as page:
        await page.receive()
        assert (await page.answer("rpc", "settings", {"action": "list_ssl_checksums"}))["args"]["code"] == 401
        await page.relay(server.id, "hello")
        assert json.loads(await page.receive())["args"]["code"] == 400
        await server.silent()
        assert len(live.relay.peers()) == 2


async def test_who_comes_and_goes_is_in_the_log_and_nothing_that_was_said(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running_relay(tmp_path) as live, live.peer("server", "k") as server:
            async with live.peer("client", "k", key=MALLORY) as client:
                (there,) = await client.announced()
                await client.relay(there, "what was said")
                await server.announced()
                assert (await server.receive()).endswith("what was said")
            await live.until(lambda: len(live.relay.peers()) == 1)
    told = [(one["event"], one["peer"], one["address"]) for one in logs if one["event"] in ("logged in", "left")]
    assert told[:3] == [(what, "somebody", "127.0.0.1") for what in ("logged in", "logged in", "left")]
    assert len({one["id"] for one in logs if one["event"] == "logged in"}) == 2
    assert "what was said" not in repr(logs)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells it on Linux only")
async def test_a_bridge_can_gain_no_privilege_and_starts_nothing(tmp_path: Path) -> None:
    async with running_bridge(tmp_path) as bridge:
        process = Path("/proc", str(bridge.process.pid))
        assert "NoNewPrivs:\t1" in (process / "status").read_text()
        lists = [task / "children" for task in (process / "task").iterdir()]
        children = [one.read_text() for one in lists if one.exists()]
        assert "".join(children) == ""


# At the server


async def test_what_is_done_through_a_bridge_is_in_the_trail_with_the_link_and_the_key(tmp_path: Path) -> None:
    seen = {"via": "bridge", "link": "office", "address": f"key:{parse(TO_BRIDGE.pem).fingerprint[:32]}"}
    async with bridged(tmp_path) as it:
        async with it.client() as client:
            await client.call("rpc/tokens/create", {"name": "made"})
        async with it.client(username="view", password=PASSWORD) as viewer:
            with pytest.raises(Exception, match="403"):
                await viewer.call("rpc/accounts/list")
        (login, _) = await records(it.live, "login", "bridge")
        (change,) = await records(it.live, "call", "bridge")
        (refused,) = await records(it.live, "refused", "bridge")
        for record, account in ((login, "admin"), (change, "admin"), (refused, "view")):
            assert {**record, **seen, "account": account} == record
            assert "insecure" not in record


async def test_a_server_tells_a_bridge_the_checksums_of_its_keys_and_no_more_of_them(tmp_path: Path) -> None:
    async with bridged(tmp_path) as it:
        known = frozenset({parse(CLIENT.pem).checksum})
        (server,) = [one for one in it.relay.relay.exchange.roster if one.role == "server"]
        await until(lambda: server.checksums == known)
        assert {len(checksum) for checksum in known} == {24}


# What a bridge can take from a session that it reads


@contextlib.asynccontextmanager
async def readable(it: Behind) -> AsyncIterator[tuple[RawPeer, str]]:
    """A session of `admin` in which a bridge can read, and the token that the answer to its log-in holds."""
    async with it.peer() as peer:
        asked = (await peer.exchange("rpc", "auth_ssl", {"md5_key": KEY.checksum}))["args"]
        proof = {"encrypted_string": KEY.encrypted(base64.b64decode(asked["test_string"]).decode())}
        yield peer, (await peer.exchange("rpc", "auth_ssl", proof))["args"][0]


async def test_the_token_of_a_session_that_a_bridge_reads_opens_nothing(tmp_path: Path) -> None:
    async with behind(tmp_path) as it, readable(it) as (peer, token):
        assert (await peer.exchange("rpc", "query", ""))["name"] == "response"
        assert len(token) == len(it.live.app.auth.tokens.issue(it.sessions()[0].scope))
        async with it.live.connect(login=None) as direct:
            reply = await direct.request("rpc", "auth_token", {"token": token})
            assert reply["args"]["code"] == 401
        async with (
            it.live.http(None) as http,
            http.post("/rpc/query", headers={"Authorization": f"Bearer {token}"}) as answer,
        ):
            assert answer.status == 401


OTHER = base64.b64encode(kept_pair("stranger").pem.encode()).decode()
LASTING = [
    ("settings", {"action": "register_ssl_cert", "pub_key": OTHER}),
    ("tokens", {"action": "create", "name": "mine"}),
    ("accounts", {"action": "add", "name": "mallory", "password": "a password", "roles": ["admin"]}),
    ("accounts", {"action": "passwd", "name": "admin", "password": "a password"}),
]


@pytest.mark.parametrize("name,args", LASTING)
async def test_no_other_way_in_is_made_in_a_session_that_a_bridge_reads(
    tmp_path: Path, name: str, args: dict[str, Any]
) -> None:
    async with behind(tmp_path) as it:
        async with readable(it) as (peer, _):
            assert (await peer.exchange("rpc", name, args))["args"]["code"] == "403"
            assert (await peer.exchange("rpc", "query", ""))["name"] == "response"
        async with it.peer(SealedPeer) as sealed:
            await sealed.login()
            assert (await sealed.request("rpc", name, args))["name"] == "response"
