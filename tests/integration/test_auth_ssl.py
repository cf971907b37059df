"""`rpc/auth_ssl` on a live server, with keys and signatures of the openssl program (spec sysadm §3.5, §3.8, §9.1)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from sysadmd.auth.audit_table import read_rows
from sysadmd.events.record import Draft
from sysadmd.limits import Limits
from tests.integration.apps import LiveApp, running_app
from tests.integration.keyrings import Keypair, answer, challenge_of, code_of, log_in, register, revoke
from tests.integration.servers import PASSWORD, Peer
from tests.integration.test_classic_client import error, exchange, original
from tests.unit.keys.vectors import CHALLENGE, ENCRYPTED_STRING, REGISTERED_KEY

AUTO = "sysadm-client-auth-auto"
REFUSED = error(401, "Unauthorized", AUTO)


def frame(args: Any, id: str = AUTO, name: str = "auth_ssl") -> str:
    """A frame as Qt writes it: keys in order, no blanks."""
    message = {"args": args, "id": id, "name": name, "namespace": "rpc"}
    return json.dumps(message, separators=(",", ":"), sort_keys=True)


def reply(args: str) -> str:
    return rf'\{{"args":{args},"id":"{AUTO}","name":"response","namespace":"rpc"\}}'


async def classic_challenge(peer: Peer) -> str:
    found = re.fullmatch(reply(r'\{"test_string":"([A-Za-z0-9]+)"\}'), await exchange(peer, frame("")))
    assert found
    return found[1]


# The original graphical client


async def test_the_exchange_of_the_graphical_client_byte_for_byte(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with original(live) as peer:
            await exchange(peer, '{"args":"","id":"sysadm_client_identify","name":"identify","namespace":"rpc"}')
            challenge = await classic_challenge(peer)
            assert 128 <= len(challenge) <= 245
            done = await exchange(peer, frame(key.classic(challenge)))
            assert re.fullmatch(reply(r'\["[A-Za-z0-9]{32}",900\]'), done)
            query = await exchange(peer, frame("simple-query", "q", "query"))
            assert json.loads(query)["name"] == "response"


async def test_the_exchange_of_a_client_behind_a_bridge_byte_for_byte(tmp_path: Path) -> None:
    """Both values are base64, and the key that comes along is recognised by its heading (spec sysadm §6.6)."""
    key = Keypair.make(tmp_path)
    values = reply(r'\{"new_ssl_key":"([A-Za-z0-9+/=]+)","test_string":"([A-Za-z0-9+/=]+)"\}')
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with original(live) as peer:
            found = re.fullmatch(values, await exchange(peer, frame({"md5_key": key.checksum})))
            assert found
            assert b" PUBLIC KEY--" in base64.b64decode(found[1])
            challenge = base64.b64decode(found[2]).decode()
            assert re.fullmatch(r"[A-Za-z0-9]{128,245}", challenge)
            done = await exchange(peer, frame(key.classic(challenge)))
            assert re.fullmatch(reply(r'\["[A-Za-z0-9]{32}",900\]'), done)


async def test_a_checksum_that_nobody_has_is_answered_alike(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, original(live) as peer:
        shown = json.loads(await exchange(peer, frame({"md5_key": "AAAAAAAAAAAAAAAAAAAAAA=="})))["args"]
        assert sorted(shown) == ["new_ssl_key", "test_string"]
        base64.b64decode(shown["test_string"], validate=True)


@pytest.mark.parametrize(
    "args",
    [
        {"encrypted_string": ""},
        {"encrypted_string": "AAAA"},
        {"encrypted_string": "?" * 100},
        {"encrypted_string": 5},
        {"encrypted_string": None},
        {"encrypted_string": "A" * 5000},
        {"encrypted_string": ENCRYPTED_STRING},
        {"signature": "AAAA"},
        [],
        7,
    ],
)
async def test_whatever_is_wrong_with_a_classic_proof_is_401(tmp_path: Path, args: Any) -> None:
    async with running_app(tmp_path) as live, live.connect(), original(live) as peer:
        await classic_challenge(peer)
        assert await exchange(peer, frame(args)) == REFUSED
        assert await exchange(peer, frame("", AUTO, "query")) == REFUSED


async def test_the_action_of_the_documents_is_not_in_the_way(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        for connect in (live.connect(login=None), original(live)):
            async with connect as peer:
                args = {"action": "auth_ssl", "md5_key": key.checksum}
                asked = json.loads(await exchange(peer, frame(args)))
                challenge = base64.b64decode(asked["args"]["test_string"]).decode()
                done = json.loads(await exchange(peer, frame({"action": "auth_ssl", **key.classic(challenge)})))
                assert done["name"] == "response", done


async def test_the_captured_proof_of_an_original_client_is_taken(tmp_path: Path) -> None:
    """Appendix A: the key, the challenge of an original bridge and what the original client answered to it."""
    async with running_app(tmp_path) as live:
        async with live.connect() as admin:
            await admin.call("rpc", "settings", {"action": "register_ssl_cert", "pub_key": REGISTERED_KEY})
        async with original(live) as peer:
            await classic_challenge(peer)
            (session,) = (one for one in live.app.engine.sessions if one.challenge is not None)
            assert session.challenge is not None
            session.challenge = type(session.challenge)(CHALLENGE, session.challenge.expires)
            done = json.loads(await exchange(peer, frame({"encrypted_string": ENCRYPTED_STRING})))
            assert done["name"] == "response"
            assert session.scope is not None
            assert session.scope.account == "admin"


# Clients of today


@pytest.mark.parametrize("kind", ["rsa-2048", "rsa-4096", "ed25519"])
async def test_a_modern_proof_logs_in(tmp_path: Path, kind: str) -> None:
    key = Keypair.make(tmp_path, kind)
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect(login=None) as peer:
            challenge = await challenge_of(peer)
            token, seconds = await peer.call("rpc", "auth_ssl", key.modern(challenge))
            assert seconds == 900
            assert "rpc/dispatcher" in await peer.call("rpc", "query")
        # The connection is gone and its token is not: it logs in, and as whom the key does.
        async with live.connect(login=None) as peer:
            assert code_of(await peer.request("rpc", "auth_token", {"token": token})) == 200
            (session,) = (one for one in live.app.engine.sessions if one.token == token)
            assert session.scope == live.app.auth.policy.scope("oper")


async def test_a_classic_proof_in_the_documented_spelling_logs_in(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    async with running_app(tmp_path) as live:
        await register(live, "view", key)
        async with live.connect(login=None) as peer:
            assert await answer(peer, key.classic(await challenge_of(peer))) == 200


async def test_a_key_may_do_what_its_account_may_and_no_more(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path, "ed25519")
    async with running_app(tmp_path) as live:
        await register(live, "view", key)
        async with live.connect(login=None) as peer:
            await log_in(peer, key)
            assert code_of(await peer.request("rpc", "accounts", {"action": "list"})) == 403


async def test_in_a_bound_session_only_a_bound_proof_opens(tmp_path: Path) -> None:
    key, binding = Keypair.make(tmp_path), "5e" * 32
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect(login=None) as peer:
            (session,) = live.app.engine.sessions
            session.binding = binding
            assert await answer(peer, key.classic(await challenge_of(peer))) == 401
            assert await answer(peer, key.modern(await challenge_of(peer))) == 401
            assert await answer(peer, key.modern(await challenge_of(peer), "5f" * 32)) == 401
            assert await answer(peer, key.modern(await challenge_of(peer), binding)) == 200


# One challenge: once, in time, here


async def test_a_challenge_is_good_for_one_answer(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path, "ed25519")
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect(login=None) as peer:
            proof = key.modern(await challenge_of(peer))
            assert await answer(peer, proof) == 200
            assert await answer(peer, proof) == 401
            assert code_of(await peer.request("rpc", "query")) == 401


async def test_a_wrong_answer_uses_it_up(tmp_path: Path) -> None:
    key, other = Keypair.make(tmp_path, "ed25519"), Keypair.make(tmp_path, "ed25519", "other")
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect(login=None) as peer:
            challenge = await challenge_of(peer)
            assert await answer(peer, other.modern(challenge)) == 401
            assert await answer(peer, key.modern(challenge)) == 401


async def test_another_challenge_replaces_it(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path, "ed25519")
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect(login=None) as peer:
            first = await challenge_of(peer)
            assert await challenge_of(peer) != first
            assert await answer(peer, key.modern(first)) == 401


async def test_a_challenge_is_over_after_its_time(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path, "ed25519")
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        clock, passed = live.app.engine.monotonic, 0.0
        live.app.engine.monotonic = lambda: clock() + passed
        async with live.connect(login=None) as peer:
            proof = key.modern(await challenge_of(peer))
            passed = Limits().challenge_life
            assert await answer(peer, proof) == 401
            proof = key.modern(await challenge_of(peer))
            passed += Limits().challenge_life - 5
            assert await answer(peer, proof) == 200


@pytest.mark.parametrize("form", ["classic", "modern"])
async def test_a_challenge_is_of_one_connection(tmp_path: Path, form: str) -> None:
    """The original kept them all in one place: spec sysadm §3.8(3)."""
    key = Keypair.make(tmp_path)
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect(login=None) as one, live.connect(login=None) as other:
            mine, others = await challenge_of(one), await challenge_of(other)
            sign = key.classic if form == "classic" else key.modern
            assert await answer(one, sign(others)) == 401
            assert await answer(other, sign(mine)) == 401


async def test_there_is_none_before_it_was_asked_for(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path, "ed25519")
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect(login=None) as one, live.connect(login=None) as other:
            assert await answer(other, key.modern(await challenge_of(one))) == 401


# Keys that open nothing


@pytest.mark.parametrize("form", ["classic", "modern"])
async def test_an_unregistered_key_opens_nothing_while_others_are_logged_in(tmp_path: Path, form: str) -> None:
    """The hole of the original and of its bridge, spec sysadm §3.8(1): it answered `["",0]`."""
    registered, mine = Keypair.make(tmp_path, name="registered"), Keypair.make(tmp_path)
    async with running_app(tmp_path) as live:
        await register(live, "admin", registered)
        async with live.connect(), live.connect(login=None) as other, live.connect(login=None) as stranger:
            await log_in(other, registered)
            sign = mine.classic if form == "classic" else mine.modern
            assert await answer(stranger, sign(await challenge_of(stranger))) == 401
            assert code_of(await stranger.request("rpc", "query")) == 401


async def test_a_revoked_key_opens_nothing(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect(login=None) as peer:
            challenge = await challenge_of(peer)
            await revoke(live, "oper", key)
            assert await answer(peer, key.modern(challenge)) == 401
            assert await answer(peer, key.classic(await challenge_of(peer))) == 401


async def test_the_key_of_a_removed_account_opens_nothing_also_for_its_successor(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path, "ed25519")
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        await live.app.auth.accounts.remove("oper")
        async with live.connect(login=None) as peer:
            assert await answer(peer, key.modern(await challenge_of(peer))) == 401
            await live.app.auth.accounts.add("oper", PASSWORD, ("admin",))
            assert await answer(peer, key.modern(await challenge_of(peer))) == 401


# What was there before


async def test_asking_for_a_challenge_takes_the_identity_and_its_token(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        token = await peer.login()
        await challenge_of(peer)
        assert code_of(await peer.request("rpc", "query")) == 401
        assert code_of(await peer.request("rpc", "auth_token", {"token": token})) == 401


async def test_subscriptions_outlive_a_log_in_by_key_and_see_nothing_meanwhile(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path, "ed25519")
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect() as peer:
            await peer.call("events", "subscribe", {"topics": ["life_preserver"]})
            challenge = await challenge_of(peer)
            await publish(live, "hidden")
            assert await answer(peer, key.modern(challenge)) == 200
            await publish(live, "shown")
            event = await peer.event(lambda one: True)
            assert event["args"]["message"] == "shown"


async def test_subscriptions_end_when_the_log_in_fails(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        await peer.call("events", "subscribe", {"topics": ["life_preserver"]})
        await challenge_of(peer)
        assert await answer(peer, {"encrypted_string": "AAAA"}) == 401
        assert not any(one.subscriptions for one in live.app.engine.sessions)


async def publish(live: LiveApp, text: str) -> None:
    """Publish, and wait until it is committed and went to those who see it."""
    live.app.events.publish(Draft("life_preserver", {"message": text, "priority": 7, "class": "x"}, durable=True))
    await live.app.events.submit(lambda connection: (None, ()))


# The audit trail


async def test_both_outcomes_are_in_the_audit_trail_without_the_proof(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path, "ed25519")
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        async with live.connect(login=None) as peer:
            proof = key.modern(await challenge_of(peer))
            assert await answer(peer, proof) == 200
            assert await answer(peer, proof) == 401
            await live.app.events.submit(lambda connection: (None, ()))  # behind every record so far
            texts = live.app.store.read_now(lambda connection: [row.record for row in read_rows(connection)])
            assert not [text for text in texts if proof["signature"] in text]
            records = [json.loads(text) for text in texts if '"key"' in text]
            kinds = [one["kind"] for one in records if one.get("method") == "key"]
            assert kinds == ["login", "login_failed"]


async def test_revoking_a_key_ends_what_it_opened_now(tmp_path: Path) -> None:
    key, other = Keypair.make(tmp_path, "ed25519"), Keypair.make(tmp_path, "ed25519", "other")
    async with running_app(tmp_path) as live:
        await register(live, "oper", key)
        await register(live, "oper", other)
        async with (
            live.connect(login=None) as by_key,
            live.connect(login=None) as by_token,
            live.connect(login=None) as by_other,
            live.connect("oper") as by_password,
        ):
            token = await log_in(by_key, key)
            assert code_of(await by_token.request("rpc", "auth_token", {"token": token})) == 200
            await log_in(by_other, other)
            await revoke(live, "oper", key)
            for ended in (by_key, by_token):
                with pytest.raises(ConnectionClosed, match="revoked"):
                    async with asyncio.timeout(5):
                        await ended.connection.recv()
            for kept in (by_other, by_password):
                assert code_of(await kept.request("rpc", "query")) == 200
        async with live.connect(login=None) as peer:
            assert code_of(await peer.request("rpc", "auth_token", {"token": token})) == 401
