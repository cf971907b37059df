"""Peers behind a bridge: who is heard, in which form, and what ends with what."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sysadmd.bridge import guests as module
from sysadmd.bridge.allowance import HANDSHAKE_RATE, HANDSHAKES
from sysadmd.bridge.guests import Guests
from sysadmd.keys.seal import Seal, SealingContext, sealing_context
from sysadmd.limits import Limits
from sysadmd.wire.relay import relayed
from tests.unit.rpc.rig import Rig, auth_frame, frame, rig, settle, slow_frame

ANN, BOB = "::{11111111-1111-4111-8111-111111111111}", "::{22222222-2222-4222-8222-222222222222}"
KEY = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> SealingContext:
    return sealing_context(tmp_path_factory.mktemp("state"))


class Office:
    """Guests of a link that a test stops and starts, and what was sent to the bridge."""

    def __init__(self, server: Rig, context: SealingContext, **options: Any) -> None:
        self.server, self.engine = server, server.engine
        self.sent: list[bytes] = []
        self.dropped: Counter[str] = Counter()
        self.open = True
        self.guests = Guests(
            server.engine,
            options.pop("link", "office"),
            seal=context,
            send=self.sent.append,
            writable=lambda: self.open,
            dropped=self.dropped,
            **options,
        )

    def announce(self, *peers: str, **more: Any) -> None:
        self.guests.announce({"available_connections": list(peers), **more})

    def say(self, payload: str | bytes, peer: str = ANN) -> None:
        self.guests.receive(relayed(peer, payload.encode() if isinstance(payload, str) else payload))

    async def log_in(self, peer: str = ANN, name: str = "ann") -> None:
        self.say(auth_frame(name), peer)
        await settle()
        self.server.gates.open(name)
        await settle()
        self.heard(peer)

    def heard(self, peer: str = ANN) -> list[bytes]:
        """The payloads for a peer since the last time."""
        header = peer.encode() + b"\n"
        found = [one.removeprefix(header) for one in self.sent if one.startswith(header)]
        self.sent[:] = [one for one in self.sent if not one.startswith(header)]
        return found

    @property
    def sessions(self) -> list[Any]:
        return list(self.engine.sessions)


@asynccontextmanager
async def office(
    path: Path, context: SealingContext, limits: Limits | None = None, **options: Any
) -> AsyncIterator[Office]:
    async with rig(path, limits) as server:
        it = Office(server, context, **options)
        it.announce(ANN, BOB)
        yield it


def codes(payloads: list[bytes]) -> list[str]:
    return [json.loads(one)["args"].get("code") for one in payloads]


# Who is heard


async def test_a_peer_that_was_not_announced_is_not_heard(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        it.say(frame("echo"), "::{33333333-3333-4333-8333-333333333333}")
        it.guests.receive(b"no header")
        assert (it.sent, it.sessions) == ([], [])
        assert it.dropped == {"unannounced peer": 1, "malformed frame": 1}


async def test_an_announced_peer_costs_no_session_until_it_speaks(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        assert it.sessions == []
        it.say(frame("echo"))
        assert (len(it.sessions), codes(it.heard())) == (1, ["401"])


async def test_the_sessions_of_vanished_peers_end(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        await it.log_in(ANN)
        await it.log_in(BOB, "bob")
        it.say(slow_frame("x"), ANN)
        await settle()
        it.announce(BOB)
        await settle()
        assert it.server.gates.cancelled == ["x"]
        assert [one.scope.account for one in it.sessions] == ["bob"]
        it.say(frame("echo"), ANN)
        assert it.dropped["unannounced peer"] == 1


async def test_a_peer_that_the_bridge_cannot_reach_loses_its_session(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        await it.log_in()
        it.guests.unreachable(BOB)
        it.guests.unreachable(ANN)
        await settle()
        assert it.sessions == []


@pytest.mark.parametrize("args", ["", None, [], {}, {"available_connections": "all"}])
async def test_an_announcement_of_another_form_changes_nothing(
    tmp_path: Path, context: SealingContext, args: Any
) -> None:
    async with office(tmp_path, context) as it:
        it.guests.announce(args)
        assert set(it.guests.peers) == {ANN, BOB}
        assert it.dropped == {"malformed announcement": 1}


async def test_ids_that_are_none_are_left_out(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        it.announce(ANN, "", "with blank", "x" * 65, "new\nline", "ü")
        assert set(it.guests.peers) == {ANN}


async def test_one_handshake_beyond_those_of_a_key_waits(tmp_path: Path, context: SealingContext) -> None:
    hello = Seal.client(lambda key: True).outgoing()[0]
    async with office(tmp_path, context) as it:
        it.announce(ANN, BOB)
        for _ in range(int(HANDSHAKES)):
            it.say(hello)
            it.say("!bye")
        assert it.dropped == {"sealed: closed": HANDSHAKES}
        it.sent.clear()
        it.say(hello)
        assert it.sent == [relayed(ANN, b"!too many sessions in a short time")]
        assert it.dropped["too many handshakes"] == 1
        it.say(hello, BOB)
        it.server.clock.now += 1 / HANDSHAKE_RATE
        it.say(hello)
        assert it.guests.sessions == 2


async def test_so_many_peers_are_known_and_no_more(
    tmp_path: Path, context: SealingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ANNOUNCED", 2)
    async with office(tmp_path, context) as it:
        it.announce(ANN, BOB, "carl", "dora")
        assert set(it.guests.peers) == {ANN, BOB}
        assert it.dropped == {"malformed announcement": 1}


async def test_a_peer_is_known_by_its_key_where_the_bridge_tells_it(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        it.announce(BOB)
        it.announce(ANN, BOB, connections={ANN: {"key": KEY}, BOB: {"key": "ff" * 32}})
        assert it.guests.peers == {ANN: f"key:{KEY[:32]}", BOB: f"office/{BOB}"}


async def test_a_long_name_of_a_link_does_not_make_peers_alike(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context, link="x" * 64) as it:
        it.announce("a" * 63 + "1", "a" * 63 + "2")
        first, second = it.guests.peers.values()
        assert first[:64] != second[:64]


# Open payloads


async def test_an_answer_has_the_form_of_the_last_question(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        await it.log_in()
        it.say(frame("echo"))
        assert it.heard()[0].startswith(b"{")
        it.say(base64.b64encode(frame("echo").encode()))
        (payload,) = it.heard()
        assert json.loads(base64.b64decode(payload, validate=True))["name"] == "response"


async def test_who_only_asks_who_is_here_has_no_session(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        it.say(frame("identify", namespace="rpc"))
        await settle()
        assert (json.loads(it.heard()[0])["args"], it.sessions) == ({"type": "server"}, [])


async def test_who_goes_on_after_asking_keeps_the_session(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        it.say(frame("identify", namespace="rpc"))
        it.say(auth_frame("ann"))
        await settle()
        assert len(it.sessions) == 1


async def test_garbage_is_answered_without_a_session(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        it.say("%&?")
        assert (codes(it.heard()), it.sessions) == (["400"], [])
        assert it.dropped == {"neither JSON nor base64": 1}


async def test_a_stranger_s_message_has_the_limit_of_a_direct_one(tmp_path: Path, context: SealingContext) -> None:
    limits = Limits(frame_unauthenticated=1024)
    async with office(tmp_path, context, limits) as it:
        fits = frame("echo", "x" * (1024 - len(frame("echo", ""))))
        it.say(fits)
        it.say(base64.b64encode(fits.encode()))
        assert [codes([one]) for one in (it.heard()[0],)] == [["401"]]
        it.say(fits + " ")
        it.say(base64.b64encode(fits.encode() + b" "))
        assert codes(it.heard()) == ["400", "400"]
        assert it.dropped == {"oversize message": 2}


async def test_who_logged_in_may_say_more(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context, Limits(frame_unauthenticated=1024)) as it:
        await it.log_in()
        it.say(frame("echo", "x" * 4096))
        assert json.loads(it.heard()[0])["name"] == "response"


async def test_one_session_more_than_the_limit_is_refused(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context, Limits(bridge_sessions=1)) as it:
        await it.log_in(ANN)
        it.say(frame("echo"), BOB)
        assert (codes(it.heard(BOB)), len(it.sessions)) == (["400"], 1)
        assert it.dropped == {"too many sessions": 1}


async def test_classic_that_is_not_allowed_gets_no_session(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context, allow_classic=False) as it:
        it.say(frame("identify", namespace="rpc"))
        it.say(frame("echo"))
        await settle()
        assert (codes(it.heard()), it.sessions) == ([None, "401"], [])
        assert it.dropped == {"classic not allowed": 1}


async def test_classic_sessions_end_when_they_are_allowed_no_more(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        await it.log_in()
        it.guests.allow(classic=False)
        await settle()
        assert it.sessions == []


async def test_the_end_of_a_session_leaves_the_peer_a_stranger(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        await it.log_in()
        it.server.clock.now += 10_000
        it.engine.sweep()
        await settle()
        assert it.sessions == []
        it.say(frame("echo"))
        assert codes(it.heard()) == ["401"]


async def test_what_waits_for_a_peer_on_a_link_that_is_full_has_a_bound(
    tmp_path: Path, context: SealingContext
) -> None:
    async with office(tmp_path, context, Limits(bridge_output=100_000)) as it:
        await it.log_in(ANN)
        await it.log_in(BOB, "bob")
        it.open = False
        it.say(frame("echo", "x" * 100_001))
        it.say(frame("echo", "one more"))
        await settle()
        assert (it.dropped, [one.scope.account for one in it.sessions]) == ({"overflow": 1}, ["bob"])


async def test_what_waits_for_all_peers_together_has_a_bound_too(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context, Limits(frame_bridge=100_000)) as it:
        for peer, name in ((ANN, "ann"), (BOB, "bob")):
            await it.log_in(peer, name)
        it.open = False
        it.say(frame("echo", "x" * 60_000), ANN)
        it.say(frame("echo", "x" * 60_000), BOB)
        assert it.dropped == {}
        it.say(frame("echo", "one more"), ANN)
        assert it.dropped == {"overflow": 1}


async def test_a_link_that_takes_frames_again_starts_the_count_anew(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context, Limits(bridge_output=100_000)) as it:
        await it.log_in()
        for _ in range(3):
            it.open = False
            it.say(frame("echo", "x" * 100_001))
            it.open = True
            it.guests.resume()
        assert (it.dropped, len(it.sessions)) == ({}, 1)


async def test_an_answer_that_the_bridge_would_not_take_ends_the_session(
    tmp_path: Path, context: SealingContext
) -> None:
    async with office(tmp_path, context, Limits(frame_bridge=1024 * 1024)) as it:
        await it.log_in()
        it.say(frame("echo", "x" * (1024 * 1024 - 100)))
        await settle()
        assert (it.dropped, it.sessions) == ({"oversize answer": 1}, [])


# Sealed payloads


class Client:
    """The other end of a sealed session."""

    def __init__(self, it: Office, peer: str = ANN) -> None:
        self.it, self.peer = it, peer
        self.seal = Seal.client(lambda key: True)
        self.messages: list[Any] = []
        self.reads = True
        self.exchange()

    def exchange(self) -> None:
        """Hand over in both directions until nothing moves."""
        while True:
            sent = self.seal.outgoing()
            for payload in sent:
                self.it.say(payload, self.peer)
            heard = self.it.heard(self.peer) if self.reads else []
            for payload in heard:
                self.messages += [json.loads(one) for one in self.seal.receive(payload)]
            self.seal.release()
            if not sent and not heard:
                return

    def say(self, text: str) -> None:
        self.seal.send(text.encode())
        self.exchange()

    async def log_in(self, name: str = "ann") -> None:
        self.say(auth_frame(name))
        await settle()
        self.it.server.gates.open(name)
        await settle()
        self.exchange()
        self.messages.clear()


async def test_a_sealed_session_is_bound_to_the_certificate(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        client = Client(it)
        await client.log_in()
        client.say(frame("echo", [1]))
        assert client.messages[0]["args"] == {"by": "ann", "args": [1]}
        (session,) = it.sessions
        assert (session.binding, session.peer.insecure, session.peer.link) == (client.seal.binding, False, "office")


async def test_a_sealed_session_takes_no_open_payloads(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        client = Client(it)
        await client.log_in()
        it.say(frame("echo"))
        it.say(base64.b64encode(frame("echo").encode()))
        it.say(frame("identify", namespace="rpc"))
        assert (it.heard(), it.dropped) == ([], {"downgrade": 3})
        client.say(frame("echo"))
        assert client.messages


async def test_a_client_that_asks_for_a_seal_begins_anew(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        await Client(it).log_in()
        it.say(frame("identify", {"seal": 1}, namespace="rpc"))
        await settle()
        assert (len(it.heard()), it.sessions) == (1, [])
        assert Client(it).seal.established


async def test_a_sealed_session_takes_the_place_of_an_open_one(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        await it.log_in()
        assert Client(it).seal.established
        await settle()
        assert [one.scope for one in it.sessions] == [None]


@pytest.mark.parametrize("payload", ["^12", "!bye", "~AAAA", "~", "~FwMD"])
async def test_what_is_left_of_an_ended_session_begins_none(
    tmp_path: Path, context: SealingContext, payload: str
) -> None:
    async with office(tmp_path, context) as it:
        it.say(payload)
        assert (it.sent, it.sessions, it.dropped) == ([], [], {"no sealed session": 1})


async def test_bytes_that_are_no_tls_end_the_session_with_a_reason(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        Client(it)
        it.say("~" + base64.b64encode(b"\x17\x03\x03\x00\x20" + b"x" * 32).decode())
        await settle()
        assert it.heard()[-1].startswith(b"!the sealed session is broken")
        assert (it.sessions, it.dropped) == ([], {"sealed: tls": 1})


async def test_a_client_that_closes_is_gone(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        Client(it)
        it.say("!bye")
        await settle()
        assert (it.heard(), it.sessions) == ([], [])


async def test_the_reason_of_an_end_is_told(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context) as it:
        Client(it)
        it.server.clock.now += 10_000
        it.engine.sweep()
        assert it.heard() == [b"!not authenticated within 30 s"]


async def test_messages_wait_while_their_answers_are_not_read(tmp_path: Path, context: SealingContext) -> None:
    async with office(tmp_path, context, Limits(bridge_output=64 * 1024)) as it:
        client = Client(it)
        await client.log_in()
        client.reads = False
        for number in range(200):
            client.say(frame("echo", "x" * 4096, id=str(number)))
        assert client.seal.pending  # it was stopped by its own window
        assert (len(it.sessions), it.dropped) == (1, {})
        client.reads = True
        client.exchange()
        assert [one["id"] for one in client.messages] == [str(number) for number in range(200)]


async def test_answers_that_are_not_read_have_a_bound(tmp_path: Path, context: SealingContext) -> None:
    limits = Limits(bridge_output=64 * 1024)
    async with office(tmp_path, context, limits) as it:
        client = Client(it)
        await client.log_in()
        (session,) = it.sessions
        for _ in range(10):
            session.outlet.send(b"x" * 100_000)  # as calls that run already do: no window stops them
        await settle()
        assert (it.sessions, it.dropped) == ([], {"overflow": 1})
