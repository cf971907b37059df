"""What a peer says to the bridge itself, and what it is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.bridge.dialogue import STRANGER_FRAMES
from sysadmd.bridge.login import Desk
from sysadmd.bridge.peer import Peer
from sysadmd.errors import TooManyRequests
from sysadmd.wire.relay import ASK_IDENTITY, ASK_KEYS
from tests.unit.bridge.test_login import classic, key, modern
from tests.unit.bridge.wires import IDENT, KEYS, Entry, FakeWire, Rig


def rig_with(nick: str = "olga", kind: Any = "ed25519", **limits: Any) -> Rig:
    rig = Rig(**limits)
    public = key(nick, kind).public
    rig.ring.keys[public.fingerprint] = Entry(nick, public)
    return rig


def told(rig: Rig, wire: FakeWire) -> list[Any]:
    rig.settle()
    return [json.loads(message) for message in wire.took()]


def challenge(rig: Rig, peer: Peer, wire: FakeWire) -> str:
    rig.say(peer, "auth_ssl")
    return str(told(rig, wire)[-1]["args"]["test_string"])


async def prove(rig: Rig, peer: Peer, wire: FakeWire, answer: Any) -> list[Any]:
    rig.say(peer, "auth_ssl", answer)
    if peer.proof is not None:
        await rig.exchange.dialogue.check(peer, peer.proof)
    return told(rig, wire)


async def test_the_first_word_is_the_bridge_s() -> None:
    rig = Rig()
    peer, wire = rig.open()
    rig.exchange.dialogue.begin(peer)
    rig.settle()
    assert wire.took() == [ASK_IDENTITY.decode()]


async def test_a_log_in_is_answered_and_then_the_keys_are_asked_for() -> None:
    rig = rig_with()
    peer, wire = rig.open()
    reply, asked = await prove(rig, peer, wire, modern(key("olga"), challenge(rig, peer, wire)))
    assert (reply["name"], reply["args"][1]) == ("response", 900)
    assert asked == json.loads(ASK_KEYS)
    assert (peer.nick, peer.challenge, wire.size) == ("olga", None, rig.limits.frame_bridge)
    assert rig.exchange.figures.logins == 1


async def test_a_challenge_that_is_asked_for_again_replaces_the_first() -> None:
    rig = rig_with()
    peer, wire = rig.open()
    first = challenge(rig, peer, wire)
    challenge(rig, peer, wire)
    (refused,) = await prove(rig, peer, wire, modern(key("olga"), first))
    assert refused["args"]["code"] == 401


async def test_a_second_proof_while_the_first_is_checked_is_refused() -> None:
    rig = rig_with()
    peer, wire = rig.open()
    answer = modern(key("olga"), challenge(rig, peer, wire))
    rig.say(peer, "auth_ssl", answer, "first")
    rig.say(peer, "auth_ssl", answer, "second")
    (refused,) = told(rig, wire)
    assert (refused["id"], refused["args"]["code"]) == ("second", 401)
    assert wire.woken == 1
    assert peer.proof is not None
    await rig.exchange.dialogue.check(peer, peer.proof)
    assert peer.nick == "olga"


async def test_who_goes_while_its_proof_is_checked_is_not_logged_in() -> None:
    rig = rig_with()
    peer, wire = rig.open()
    rig.say(peer, "auth_ssl", modern(key("olga"), challenge(rig, peer, wire)))
    assert peer.proof is not None
    proof = peer.proof
    rig.exchange.lost(peer)
    await rig.exchange.dialogue.check(peer, proof)
    assert rig.exchange.figures.logins == 0
    assert rig.roster._of_key == {}


async def test_who_does_not_wait_for_the_answer_has_failed_all_the_same() -> None:
    rig = rig_with()
    codes = []
    for _ in range(25):
        peer, wire = rig.open()
        rig.say(peer, "auth_ssl", modern(key("eva"), challenge(rig, peer, wire)))
        codes += [message["args"].get("code") for message in told(rig, wire)]
        if peer.proof is not None:
            rig.exchange.lost(peer)
            await rig.exchange.dialogue.check(peer, peer.proof)
    assert codes[-1] == 429
    assert rig.exchange.figures.refused["proof"] == 20


async def test_a_lane_that_is_full_is_said_to_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(self: Desk, proof: object) -> None:
        raise TooManyRequests("wait")

    rig = rig_with()
    peer, wire = rig.open()
    answer = modern(key("olga"), challenge(rig, peer, wire))
    monkeypatch.setattr(Desk, "check", full)
    (refused,) = await prove(rig, peer, wire, answer)
    assert refused["args"]["code"] == 429
    assert rig.exchange.figures.refused == {"busy": 1}


async def test_the_last_attempt_is_answered_before_the_end() -> None:
    rig = rig_with(bridge_logins=1)
    peer, wire = rig.open(classic=True)
    (refused,) = await prove(rig, peer, wire, classic(key("eva", "rsa"), challenge(rig, peer, wire)))
    assert refused["args"] == "unauthorized"
    assert wire.ended == (1008, "too many log-ins failed")


async def test_failures_are_counted_by_address() -> None:
    rig = rig_with(bridge_logins=1000)
    codes = []
    for _ in range(25):
        peer, wire = rig.open()
        (refused,) = await prove(rig, peer, wire, modern(key("eva"), challenge(rig, peer, wire)))
        codes.append(refused["args"]["code"])
    other, other_wire = rig.open(address="198.51.100.1")
    assert codes[:20] == [401] * 20
    assert codes[-1] == 429
    reply, _ = await prove(rig, other, other_wire, modern(key("olga"), challenge(rig, other, other_wire)))
    assert reply["name"] == "response"


async def test_the_machine_itself_is_not_counted() -> None:
    rig = rig_with(bridge_logins=1000)
    for _ in range(25):
        peer, wire = rig.open(address="127.0.0.1")
        (refused,) = await prove(rig, peer, wire, modern(key("eva"), challenge(rig, peer, wire)))
        assert refused["args"]["code"] == 401


async def test_what_a_stranger_may_say_is_bounded() -> None:
    rig = Rig()
    peer, wire = rig.open()
    rig.receive(peer, *['{"namespace":"rpc","name":"identify"}'] * (STRANGER_FRAMES + 10))
    assert len(told(rig, wire)) == STRANGER_FRAMES
    assert wire.ended == (1008, "log in first")


async def test_the_first_identity_counts() -> None:
    rig = Rig()
    peer, _ = rig.open()
    rig.say(peer, "response", {"type": "server", "hostname": "a"}, IDENT)
    rig.say(peer, "response", {"type": "client", "hostname": "b"}, IDENT)
    assert (peer.role, peer.hostname) == ("server", "a")


@pytest.mark.parametrize("args", [None, "server", [], {}, {"type": "Server"}, {"type": ["server"]}, {"type": "bridge"}])
async def test_whoever_is_not_a_server_is_a_client(args: Any) -> None:
    rig = Rig()
    peer, _ = rig.open()
    rig.say(peer, "response", args, IDENT)
    assert peer.role == "client"


async def test_a_host_name_is_cut_and_printable() -> None:
    rig = Rig()
    peer, _ = rig.open()
    rig.say(peer, "response", {"hostname": "a\n\x1b[31m" + "b" * 1000}, IDENT)
    assert peer.hostname == "a[31m" + "b" * 248


async def test_a_list_before_the_log_in_is_ignored() -> None:
    rig = Rig()
    peer, wire = rig.open()
    rig.say(peer, "response", {"md5_keys": ["k"]}, KEYS)
    assert told(rig, wire) == []
    assert peer.checksums is None
    assert rig.exchange.figures.dropped == {"foreign_reply": 1}


async def test_a_list_that_is_wrong_is_answered_to_ours_and_not_to_an_original() -> None:
    rig = Rig()
    for is_classic, codes in ((True, []), (False, [400])):
        peer, wire = rig.peer("client", "k", classic=is_classic)
        told(rig, wire)
        rig.say(peer, "response", {"md5_keys": [1]}, KEYS)
        assert [frame["args"]["code"] for frame in told(rig, wire)] == codes
        assert peer.checksums == frozenset({"k"})


async def test_spellings_are_taken_as_they_come_and_echoed() -> None:
    rig = Rig()
    peer, wire = rig.open()
    rig.say(peer, "Identify", namespace="RPC")
    assert told(rig, wire)[0]["namespace"] == "RPC"


async def test_an_error_is_ignored_by_both() -> None:
    rig = Rig()
    for is_classic in (True, False):
        peer, wire = rig.peer(classic=is_classic)
        rig.say(peer, "error", {"code": 500})
        assert told(rig, wire) == []


async def test_a_second_log_in_is_refused() -> None:
    rig = Rig()
    ours, wire = rig.peer()
    rig.say(ours, "auth_ssl")
    assert told(rig, wire)[-1]["args"]["code"] == 409
    original, original_wire = rig.peer(classic=True)
    rig.say(original, "auth_ssl")
    assert told(rig, original_wire)[-1] == {"args": None, "id": "q1", "name": "response", "namespace": "rpc"}


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = ("md5_keys", "type", "hostname", "details", "encrypted_string", "signature", "key")
requests = st.fixed_dictionaries(
    {},
    optional={
        "namespace": st.sampled_from(["rpc", "events", "sysadm", ""]) | values,
        "name": st.sampled_from(["response", "error", "identify", "auth_ssl", "x"]) | values,
        "id": st.sampled_from([IDENT, KEYS]) | values,
        "args": values | st.fixed_dictionaries({}, optional=dict.fromkeys(ARGUMENTS, values)),
    },
)


@given(st.lists(requests, max_size=10), st.booleans(), st.booleans())
def test_whatever_a_peer_says_is_answered_or_ignored(frames: list[Any], is_classic: bool, logged_in: bool) -> None:
    async def play() -> None:
        rig = Rig()
        peer, wire = rig.peer(classic=is_classic) if logged_in else rig.open(classic=is_classic)
        for one in frames:
            rig.receive(peer, json.dumps(one))
            proof, peer.proof = peer.proof, None
            if proof is not None:
                await rig.exchange.dialogue.check(peer, proof)
        assert all(isinstance(answer, dict) for answer in told(rig, wire))
        assert bool(peer.key) is logged_in

    asyncio.run(play())
