"""Who is told what, and when."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sysadmd.bridge import roster as module
from sysadmd.bridge.roster import LISTS
from tests.unit.bridge.wires import FakeWire, Rig


def lists(wire: FakeWire) -> list[Any]:
    """The announcements that came since the last time."""
    found = [json.loads(message)["args"] for message in wire.took() if message.startswith("{")]
    return [args["available_connections"] for args in found if args and "available_connections" in args]


async def test_a_change_is_told_a_moment_later() -> None:
    rig = Rig()
    _, wire = rig.peer("server", "k")
    client, _ = rig.peer("client", "k")
    assert lists(wire) == []
    async with asyncio.timeout(10):
        while not (told := lists(wire)):
            await asyncio.sleep(0.005)
    assert told == [[client.id]]


async def test_many_changes_are_told_once() -> None:
    rig = Rig()
    _, wire = rig.peer("server", "k")
    clients = [rig.peer("client", "k")[0] for _ in range(100)]
    rig.settle()
    assert lists(wire) == [sorted(client.id for client in clients)]
    assert rig.exchange.figures.announcements == 101


async def test_a_fleet_of_which_all_speak_at_once_is_told_of_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELAY", 60.0)
    rig = Rig()
    server, wire = rig.peer("server", "k")
    clients = []
    for number in range(100):
        clients.append(rig.peer("client", "k")[0])
        rig.relay(clients[-1], server.id, str(number))
        await asyncio.sleep(0)  # the turn in which it came is over
    rig.settle()
    alone, first, announcement, *frames = wire.took()
    assert clients[0].id in alone
    assert json.loads(announcement)["args"]["available_connections"] == sorted(client.id for client in clients)
    assert [first, *frames] == [f"{client.id}\n{number}" for number, client in enumerate(clients)]


async def test_the_first_frame_of_a_new_one_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    server, wire, _, _ = rig.pair()
    server.told = float("-inf")  # it is long ago that anything changed
    monkeypatch.setattr(module, "DELAY", 60.0)
    late, _ = rig.peer("client", "k")
    rig.relay(late, server.id, "hello")
    rig.exchange.switch._flush()
    told, frame = wire.took()
    assert late.id in told
    assert frame == f"{late.id}\nhello"


async def test_who_does_not_read_is_told_when_it_does() -> None:
    rig = Rig()
    server, wire = rig.peer("server", "k")
    wire.paused = True
    for _ in range(3):
        client, _ = rig.peer("client", "k")
        rig.settle()
        rig.exchange.lost(client)
        rig.settle()
    last, _ = rig.peer("client", "k")
    rig.settle()
    assert server.queued == 0
    wire.paused = False
    rig.settle()
    assert lists(wire) == [[last.id]]


async def test_a_change_and_its_undoing_are_not_told() -> None:
    rig = Rig()
    server, server_wire, _, client_wire = rig.pair()
    rig.say(server, "response", {"md5_keys": []}, "bridge_request_list_keys")
    rig.say(server, "response", {"md5_keys": ["k"]}, "bridge_request_list_keys")
    rig.settle()
    assert lists(server_wire) == lists(client_wire) == []


async def test_an_empty_list_comes_after_one_that_was_not() -> None:
    rig = Rig()
    _, server_wire, client, _ = rig.pair()
    rig.exchange.lost(client)
    rig.settle()
    assert lists(server_wire) == [[]]
    rig.peer("client", "other")
    rig.settle()
    assert lists(server_wire) == []


async def test_who_wants_details_is_told_an_empty_list_first() -> None:
    rig = Rig()
    _, wire = rig.peer("server", "k", details=True)
    rig.settle()
    message = json.loads(wire.took()[-1])
    assert message["args"] == {"available_connections": [], "connections": {}}


async def test_a_role_that_changes_nothing_is_not_told() -> None:
    rig = Rig()
    peer, wire = rig.open()
    rig.roster.admit(peer, "key", "nick")
    rig.say(peer, "response", {"md5_keys": ["k"]}, "bridge_request_list_keys")
    rig.say(peer, "response", {"type": "server"}, "sysadm_bridge_request_ident")
    rig.settle()
    assert lists(wire) == []
    assert peer.role == "server"


async def test_one_beyond_the_list_of_a_peer_leaves_the_list_before() -> None:
    rig = Rig(bridge_checksums=2)
    peer, _ = rig.peer("client", "a")
    assert rig.roster.listed(peer, ["a", "b"])
    assert not rig.roster.listed(peer, ["a", "b", "c"])
    assert peer.checksums == frozenset({"a", "b"})


async def test_one_beyond_the_lists_of_a_key() -> None:
    rig = Rig(bridge_checksums=2)
    peers = [rig.peer("client", f"a{number}", f"b{number}")[0] for number in range(LISTS)]
    more, _ = rig.peer("client")
    assert not rig.roster.listed(more, ["c"])
    rig.exchange.lost(peers[0])
    assert rig.roster.listed(more, ["c"])


async def test_one_beyond_the_connections_of_a_key() -> None:
    rig = Rig(bridge_connections=1)
    first, _ = rig.open()
    second, _ = rig.open()
    assert rig.roster.admit(first, "key", "nick")
    assert not rig.roster.admit(second, "key", "nick")
    assert rig.roster.admit(second, "another", "nick")
    assert second.key == "another"


async def test_nothing_is_left_of_who_is_gone() -> None:
    rig = Rig()
    server, _, client, _ = rig.pair()
    for peer in (server, client, server):
        rig.exchange.lost(peer)
    rig.settle()
    assert len(rig.roster) == 0
    assert (rig.roster._of_key, rig.roster._listed) == ({}, {})
    assert server.id not in rig.roster


async def test_a_fleet_s_announcements_leave_the_loop_to_others() -> None:
    rig = Rig(bridge_connections=1000)
    _, wire = rig.peer("server", "k", details=True)
    for _ in range(300):
        rig.peer("client", "k")
    turns = 0
    async with asyncio.timeout(30):
        while rig.roster._due:
            turns += 1
            await asyncio.sleep(0)
    rig.settle()
    assert turns > 1
    assert len(lists(wire)[-1]) == 300
