"""Whatever a bridge and its peers send, in whatever order: nothing raises, and what must hold holds."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.bridge.conversation import OpenConversation
from sysadmd.keys.seal import Seal, SealingContext, sealing_context
from sysadmd.limits import Limits
from tests.unit.bridge.test_guests import ANN, BOB, Office
from tests.unit.rpc.rig import auth_frame, frame, rig, settle, slow_frame

PEERS = [ANN, BOB, "::{33333333-3333-4333-8333-333333333333}", "", "x y"]
HELLO = Seal.client(lambda key: True).outgoing()[0]
MESSAGES = [
    frame("echo", [1]),
    frame("identify", namespace="rpc"),
    frame("identify", {"seal": 1}, namespace="rpc"),
    auth_frame("ann"),
    auth_frame("mallory"),
    slow_frame("never"),
    '{"jsonrpc":"2.0","method":"rpc/identify","id":1}',
    "[]",
    "{",
    '{"namespace":"rpc","name":"error","id":"","args":{}}',
]
payloads = st.one_of(
    st.sampled_from(MESSAGES).map(str.encode),
    st.sampled_from(MESSAGES).map(lambda text: base64.b64encode(text.encode())),
    st.just(HELLO),
    st.sampled_from([b"^1", b"^999999", b"!bye", b"~", b"~AAAA", b"~FgM", b"", b"identify"]),
    st.binary(max_size=40).map(lambda data: b"~" + base64.b64encode(data)),
    st.binary(max_size=40),
)
steps = st.one_of(
    st.tuples(st.just("say"), st.sampled_from(PEERS), payloads),
    st.tuples(st.just("announce"), st.lists(st.sampled_from([*PEERS, 7, None]), max_size=4)),
    st.tuples(st.just("unreachable"), st.sampled_from(PEERS)),
    st.tuples(st.just("full"), st.booleans()),
    st.tuples(st.just("allow"), st.booleans()),
    st.tuples(st.just("settle")),
)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> SealingContext:
    return sealing_context(tmp_path_factory.mktemp("state"))


async def play(directory: Path, context: SealingContext, played: list[Any]) -> None:
    async with rig(directory, Limits(bridge_sessions=1, bridge_output=2000, frame_unauthenticated=1024)) as server:
        it = Office(server, context)
        server.gates.open("ann", "mallory")
        it.announce(ANN, BOB)
        for step in played:
            await take(it, step)
            check(it)
        await settle()
        assert len(it.sessions) == it.guests.sessions
        it.guests.close()
        await settle()
        assert it.sessions == []


async def take(it: Office, step: Any) -> None:
    match step:
        case ("say", peer, payload):
            it.guests.receive(peer.encode() + b"\n" + payload)
        case ("announce", peers):
            it.announce(*peers)
        case ("unreachable", peer):
            it.guests.unreachable(peer)
        case ("full", full):
            it.open = not full
            if it.open:
                it.guests.resume()
        case ("allow", classic):
            it.guests.allow(classic=classic)
            if not classic:
                await settle()
                assert not [one for one in it.guests._conversations.values() if isinstance(one, OpenConversation)]
        case _:
            await settle()


def check(it: Office) -> None:
    assert it.guests.sessions <= 1
    assert set(it.guests._conversations) <= set(it.guests.peers)
    assert all(sent.partition(b"\n")[0].decode() in PEERS[:3] for sent in it.sent)


@settings(max_examples=60)
@given(st.lists(steps, max_size=25))
def test_nothing_that_comes_over_a_link_breaks_it(
    tmp_path_factory: pytest.TempPathFactory, context: SealingContext, played: list[Any]
) -> None:
    asyncio.run(play(tmp_path_factory.mktemp("played"), context, played))
