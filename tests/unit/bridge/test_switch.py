"""The way of a frame, and what waits for a peer that does not read."""

from __future__ import annotations

import asyncio

import pytest

from sysadmd.bridge.switch import EAGER
from tests.unit.bridge.wires import Rig

QUEUE = 256 * 1024


@pytest.mark.parametrize("size", [0, 1, 84, 85, 65_494, 65_495, 70_000])
async def test_a_frame_has_the_sender_s_id_and_the_same_payload(size: int) -> None:
    rig = Rig()
    server, wire, client, _ = rig.pair()
    rig.relay(client, server.id, "x" * size)
    rig.settle()
    assert wire.took() == [f"{client.id}\n" + "x" * size]


async def test_what_one_turn_gave_is_one_write() -> None:
    rig = Rig()
    server, wire, client, _ = rig.pair()
    other, _ = rig.peer("client", "k")
    rig.settle()
    wire.writes_done.clear()
    for number in range(10):
        rig.relay(client, server.id, str(number))
        rig.relay(other, server.id, str(number))
    assert wire.writes_done == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(wire.writes_done) == 1
    assert len([one for one in wire.took() if "\n" in one]) == 20


async def test_much_is_written_before_the_turn_ends() -> None:
    rig = Rig()
    server, wire, client, _ = rig.pair()
    rig.receive(client, *[f"{server.id}\n" + "x" * 1000] * (2 * EAGER // 1000))
    assert len(wire.took()) >= EAGER // 1042


async def test_figures_count_what_was_relayed() -> None:
    rig = Rig()
    server, _, client, _ = rig.pair()
    rig.relay(client, server.id, "hello")
    rig.settle()
    assert (rig.exchange.figures.messages, rig.exchange.figures.bytes) == (1, 46)
    assert (client.messages_in, client.bytes_in, server.messages_out) == (1, 46, 1)
    assert server.bytes_out > 46  # what the bridge itself said is in it


async def test_what_the_socket_does_not_take_waits_in_order() -> None:
    rig = Rig()
    server, wire, client, _ = rig.pair()
    wire.paused = True
    for number in range(5):
        rig.relay(client, server.id, str(number))
        rig.settle()
    assert wire.took() == []
    assert server.queued > 0
    wire.paused = False
    rig.exchange.resumed(server)
    assert wire.took() == [f"{client.id}\n{number}" for number in range(5)]
    assert server.queued == 0


async def test_a_sender_is_not_read_while_its_target_has_too_much() -> None:
    rig = Rig(bridge_queue=QUEUE)
    server, wire, client, client_wire = rig.pair()
    bystander, bystander_wire = rig.peer("client", "k")
    wire.paused = True
    rig.relay(client, server.id, "x" * QUEUE)
    rig.settle()
    assert not client_wire.reads()
    assert bystander_wire.reads()
    wire.paused = False
    rig.exchange.resumed(server)
    rig.settle()
    assert client_wire.reads()
    assert bystander.held == client.held == 0


async def test_a_sender_is_read_again_at_half_of_the_queue() -> None:
    rig = Rig(bridge_queue=QUEUE)
    server, wire, client, client_wire = rig.pair()
    wire.paused = wire.pauses = True
    for _ in range(5):
        rig.relay(client, server.id, "x" * (QUEUE // 4))
        rig.settle()
    sizes = [(server.queued * 2 < QUEUE, client_wire.reads())]
    while server.backlog:
        wire.paused = False
        rig.exchange.resumed(server)
        sizes.append((server.queued * 2 < QUEUE, client_wire.reads()))
    assert all(below is reading for below, reading in sizes)
    assert sizes[0] == (False, False)
    assert sizes[-1] == (True, True)


async def test_a_peer_that_takes_nothing_is_cut() -> None:
    rig = Rig(bridge_queue=QUEUE, bridge_patience=0.1)
    server, wire, client, client_wire = rig.pair()
    wire.paused = True
    rig.relay(client, server.id, "x" * QUEUE)
    async with asyncio.timeout(10):
        while not wire.aborted:
            await asyncio.sleep(0.01)
    assert rig.exchange.figures.cut == {"slow": 1}
    assert client_wire.reads()
    assert client.partners == {}


async def test_a_peer_that_takes_a_little_is_not_cut_at_once() -> None:
    rig = Rig(bridge_queue=QUEUE, bridge_patience=0.2)
    server, wire, client, _ = rig.pair()
    wire.paused = True
    rig.relay(client, server.id, "x" * QUEUE)
    for _ in range(20):
        wire.moved += 1
        await asyncio.sleep(0.02)
    assert not wire.aborted


async def test_a_peer_that_takes_too_little_is_cut_in_the_end() -> None:
    rig = Rig(bridge_queue=QUEUE, bridge_patience=0.2, ping_timeout=0.2)
    server, wire, client, _ = rig.pair()
    wire.paused = True
    rig.relay(client, server.id, "x" * QUEUE)
    async with asyncio.timeout(10):
        while not wire.aborted:
            wire.moved += 1
            await asyncio.sleep(0.01)


async def test_what_too_many_senders_leave_for_one_is_bounded() -> None:
    rig = Rig(bridge_queue=QUEUE, frame_bridge=QUEUE)
    server, wire, client, client_wire = rig.pair()
    wire.paused = True
    for _ in range(4):
        rig.relay(client, server.id, "x" * QUEUE)
    assert wire.aborted
    assert client_wire.reads()


async def test_a_peer_that_does_not_read_what_the_bridge_answers_is_not_read() -> None:
    rig = Rig(bridge_queue=QUEUE)
    peer, wire = rig.peer()
    wire.paused = True
    while wire.reads():
        rig.receive(peer, *["nonsense"] * 100)
        rig.settle()
    assert QUEUE < peer.queued < 2 * QUEUE


async def test_an_announcement_goes_before_the_first_frame_of_the_new_one() -> None:
    rig = Rig()
    server, wire = rig.peer("server", "k")
    client, _ = rig.peer("client", "k")
    rig.relay(client, server.id, "hello")
    rig.settle()
    told, frame = wire.took()
    assert client.id in told
    assert frame == f"{client.id}\nhello"


async def test_frames_before_a_change_stay_before_its_announcement() -> None:
    rig = Rig()
    server, wire, client, _ = rig.pair()
    rig.relay(client, server.id, "one")
    late, _ = rig.peer("client", "k")
    rig.relay(late, server.id, "two")
    rig.relay(client, server.id, "three")
    rig.settle()
    one, told, two, three = wire.took()
    assert (one, two, three) == (f"{client.id}\none", f"{late.id}\ntwo", f"{client.id}\nthree")
    assert late.id in told


async def test_much_does_not_wait_for_an_announcement_but_goes_with_it() -> None:
    rig = Rig()
    server, wire = rig.peer("server", "k")
    client, _ = rig.peer("client", "k")
    rig.relay(client, server.id, "x" * 2 * EAGER)
    told, frame = wire.took()
    assert client.id in told
    assert len(frame) > 2 * EAGER


async def test_what_waits_for_an_announcement_is_written_before_the_end() -> None:
    rig = Rig()
    server, wire = rig.peer("server", "k")
    client, _ = rig.peer("client", "k")
    rig.relay(client, server.id, "hello")
    rig.exchange.switch.end(server, 1001, "stopping", why="stop")
    told, frame = wire.took()
    assert client.id in told
    assert frame == f"{client.id}\nhello"


async def test_nothing_is_kept_for_who_is_gone() -> None:
    rig = Rig()
    server, wire, client, _ = rig.pair()
    wire.paused = True
    rig.relay(client, server.id, "hello")
    rig.settle()
    rig.relay(client, server.id, "hello")
    rig.exchange.lost(server)
    assert (server.queued, server.parts, len(server.backlog)) == (0, [], 0)
    rig.exchange.resumed(server)
    rig.settle()
    assert wire.took() == []


async def test_a_sender_that_goes_while_it_is_not_read_leaves_nothing() -> None:
    rig = Rig(bridge_queue=QUEUE)
    server, wire, client, _ = rig.pair()
    wire.paused = True
    rig.relay(client, server.id, "x" * QUEUE)
    rig.exchange.lost(client)
    wire.paused = False
    rig.exchange.resumed(server)
    rig.settle()
    assert server.holding == set()
    assert server.watch is None


async def test_cutting_twice_counts_once() -> None:
    rig = Rig()
    peer, _ = rig.peer()
    rig.exchange.switch.cut(peer, "slow")
    rig.exchange.switch.cut(peer, "slow")
    rig.exchange.switch.end(peer, 1008, "late", why="late")
    assert rig.exchange.figures.cut == {"slow": 1}
