"""A bridge without sockets against a small model, and what bounds a peer's reading."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.bridge.dialogue import STRANGER_FRAMES
from sysadmd.bridge.exchange import COST
from sysadmd.bridge.peer import Peer
from tests.unit.bridge.wires import IDENT, KEYS, FakeWire, Rig

SLOTS = 5


@dataclass
class Model:
    """One peer as it should be: what it is, whom it was told of, and what it should have got, in order."""

    peer: Peer
    wire: FakeWire
    role: str
    checksums: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()
    due: list[tuple[str, str]] = field(default_factory=list)

    def pairs_with(self, other: Model) -> bool:
        return self.role != other.role and bool(self.checksums & other.checksums)

    def read(self) -> None:
        """Check every message that came: each is a list, an error, or the next one that is due."""
        for message in self.wire.took():
            if message.startswith("{"):
                args = json.loads(message)["args"]
                if "available_connections" in args:
                    self.told = frozenset(args["available_connections"])
                continue
            sender, _, payload = message.partition("\n")
            assert sender in self.told, "a frame of somebody who was not announced"
            assert self.due, "a frame that nobody sent to it"
            assert (sender, payload) == self.due.pop(0)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(0, SLOTS - 1), st.sampled_from(["server", "client"]), st.booleans()),
        st.tuples(st.just("list"), st.integers(0, SLOTS - 1), st.frozensets(st.sampled_from("123"), max_size=3)),
        st.tuples(st.just("send"), st.integers(0, SLOTS - 1), st.integers(0, SLOTS - 1)),
        st.tuples(st.just("send"), st.integers(0, SLOTS - 1), st.integers(0, SLOTS - 1)),
        st.tuples(st.just("go"), st.integers(0, SLOTS - 1)),
        st.tuples(st.just("pause"), st.integers(0, SLOTS - 1), st.booleans()),
        st.tuples(st.just("turn")),
        st.tuples(st.just("settle")),
    ),
    max_size=60,
)


class Run:
    """One run of random operations, on the bridge and on the model."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.live: dict[int, Model] = {}
        self.gone: list[str] = []
        self.sent = 0

    def come(self, slot: int, role: str, classic: bool) -> None:
        if slot not in self.live:
            peer, wire = self.rig.open(classic=classic)
            self.rig.say(peer, "response", {"type": role}, IDENT)
            self.rig.roster.admit(peer, f"key {slot}", "nick")
            self.live[slot] = Model(peer, wire, role)

    def list(self, slot: int, checksums: frozenset[str]) -> None:
        if slot in self.live:
            self.live[slot].checksums = checksums
            self.rig.say(self.live[slot].peer, "response", {"md5_keys": sorted(checksums)}, KEYS)

    def send(self, slot: int, to: int) -> None:
        if slot not in self.live:
            return
        sender, target = self.live[slot], self.live.get(to)
        self.sent += 1
        address = target.peer.id if target is not None else (self.gone or ["nobody"])[-1]
        self.rig.relay(sender.peer, address, str(self.sent))
        if target is not None and sender.pairs_with(target):
            target.due.append((sender.peer.id, str(self.sent)))

    def go(self, slot: int) -> None:
        if slot in self.live:
            left = self.live.pop(slot)
            left.wire.open = False
            self.rig.exchange.lost(left.peer)
            self.gone.append(left.peer.id)

    def pause(self, slot: int, paused: bool) -> None:
        if slot in self.live:
            self.live[slot].wire.paused = paused
            if not paused:
                self.rig.exchange.resumed(self.live[slot].peer)

    def turn(self) -> None:
        self.rig.exchange.switch._flush()

    def settle(self) -> None:
        self.rig.settle()

    def check(self) -> None:
        for one in self.live.values():
            one.read()
            partners = {other.peer.id for other in self.live.values() if one.pairs_with(other)}
            assert {partner.id for partner in one.peer.partners.values()} == partners

    def end(self) -> None:
        """All who are left read on, and know all that they should."""
        for slot in list(self.live):
            self.pause(slot, False)
        self.settle()
        self.check()
        for one in self.live.values():
            assert one.due == []
            assert one.told == {other.peer.id for other in self.live.values() if one.pairs_with(other)}
        assert len(self.rig.roster) == len(self.live)


@given(operations)
@settings(max_examples=200)
def test_whatever_happens_frames_reach_whom_they_are_for_and_lists_are_right(steps: list[tuple[object, ...]]) -> None:
    async def play() -> None:
        run = Run()
        for name, *arguments in steps:
            getattr(run, str(name))(*arguments)
            run.check()
        run.end()

    asyncio.run(play())


async def test_who_sends_too_much_is_not_read_for_a_while() -> None:
    rig = Rig(bridge_messages=100)
    server, server_wire, client, client_wire = rig.pair()
    rig.receive(client, *[f"{server.id}\n{number}" for number in range(110)])
    assert not client_wire.reads()
    rig.settle()
    assert len(server_wire.took()) == 110
    async with asyncio.timeout(10):
        while not client_wire.reads():
            await asyncio.sleep(0.01)
    assert rig.exchange.figures.paused == {"rate": 1}


async def test_a_frame_to_the_bridge_itself_counts_for_several() -> None:
    rig = Rig(bridge_messages=10 * COST)
    peer, wire = rig.peer()
    for _ in range(12):
        rig.say(peer, "identify")
    assert not wire.reads()


async def test_control_frames_of_a_stranger_are_bounded() -> None:
    rig = Rig()
    peer, wire = rig.open()
    assert [rig.exchange.bears(peer) for _ in range(2 * STRANGER_FRAMES + 1)] == [True] * 2 * STRANGER_FRAMES + [False]
    assert wire.aborted
    assert rig.exchange.figures.cut == {"stranger": 1}


async def test_who_has_said_much_to_the_bridge_may_answer_its_end() -> None:
    rig = Rig()
    peer, wire = rig.peer()
    for _ in range(3 * STRANGER_FRAMES):
        rig.say(peer, "identify")
    rig.exchange.switch.end(peer, 1001, "stopping", why="stop")
    assert rig.exchange.bears(peer)
    assert not wire.aborted


async def test_control_frames_of_who_does_not_read_are_left_unread() -> None:
    rig = Rig()
    peer, wire = rig.peer()
    wire.paused = True
    assert rig.exchange.bears(peer)
    assert not wire.reads()
    wire.paused = False
    rig.exchange.resumed(peer)
    assert wire.reads()


async def test_messages_of_a_connection_that_was_ended_go_nowhere() -> None:
    rig = Rig()
    server, server_wire, client, client_wire = rig.pair()
    rig.exchange.switch.end(client, 1008, "enough", why="key")
    rig.relay(client, server.id, "hello")
    rig.settle()
    assert client_wire.ended == (1008, "enough")
    assert [json.loads(message)["args"] for message in server_wire.took()] == [{"available_connections": []}]


async def test_the_silent_are_asked_once_and_then_dropped() -> None:
    rig = Rig(ping_interval=10.0, ping_timeout=5.0)
    peer, wire = rig.peer()
    now = asyncio.get_running_loop().time()
    peer.heard = now - 11
    rig.exchange.look_around()
    rig.exchange.look_around()
    assert (wire.beats, wire.aborted) == (1, False)
    peer.heard = now - 16
    rig.exchange.look_around()
    assert wire.aborted
    assert rig.exchange.figures.cut == {"silent": 1}


async def test_who_is_still_taking_what_came_before_the_question_is_not_silent() -> None:
    rig = Rig(ping_interval=10.0, ping_timeout=5.0)
    peer, wire = rig.peer()
    wire.moved += 1
    peer.heard -= 16
    rig.exchange.look_around()
    rig.exchange.look_around()
    assert not wire.aborted
    peer.taking -= 5
    rig.exchange.look_around()
    assert rig.exchange.figures.cut == {"silent": 1}


async def test_who_is_not_read_is_not_called_silent() -> None:
    rig = Rig(ping_interval=10.0, ping_timeout=5.0)
    peer, wire = rig.peer()
    rig.exchange.switch.hold(peer, "rate")
    peer.heard -= 100
    rig.exchange.look_around()
    assert (wire.beats, wire.aborted) == (0, False)
    rig.exchange.switch.release(peer)
    rig.exchange.look_around()
    assert (wire.beats, wire.aborted) == (0, False)


async def test_a_drain_reads_no_more_and_closes_all() -> None:
    rig = Rig(drain=5.0)
    server, server_wire, client, client_wire = rig.pair()
    rig.relay(client, server.id, "last")
    await rig.exchange.drain(1001, "stopping")
    assert server_wire.took() == [f"{client.id}\nlast"]
    assert server_wire.ended == client_wire.ended == (1001, "stopping")
    assert rig.exchange.peers() == []


async def test_a_drain_waits_for_a_slow_peer_and_not_for_ever() -> None:
    rig = Rig(drain=0.05)
    server, server_wire, client, _ = rig.pair()
    server_wire.paused = True
    rig.relay(client, server.id, "a")
    async with asyncio.timeout(5):
        await rig.exchange.drain(1001, "stopping")
    assert server_wire.ended == (1001, "stopping")


async def test_a_drain_ends_with_what_the_last_one_takes() -> None:
    rig = Rig(drain=30.0)
    server, server_wire, client, _ = rig.pair()
    server_wire.paused = True
    rig.relay(client, server.id, "a")
    draining = asyncio.create_task(rig.exchange.drain(1001, "stopping"))
    await asyncio.sleep(0.01)
    assert not draining.done()
    server_wire.paused = False
    rig.exchange.resumed(server)
    async with asyncio.timeout(5):
        await draining
    assert server_wire.took() == [f"{client.id}\na"]


@pytest.mark.parametrize("known", [True, False])
async def test_who_did_not_log_in_in_time_is_told_to(known: bool) -> None:
    rig = Rig()
    peer, wire = rig.open()
    if known:
        rig.exchange.lost(peer)
    rig.exchange.late(peer)
    assert wire.ended == (None if known else (1008, "log in first"))
