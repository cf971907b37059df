"""Somebody who does not read: nobody else waits, memory stays bounded, and the policy says what they get."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.exceptions import ConnectionClosed

from sysadmd.events.record import Draft
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import Peer
from tests.integration.test_websocket_listener import no_sessions

TEXT = "x" * 64 * 1024
"""An event of this size fills the buffers of a connection on loopback after some dozens."""
MANY = 200
SMALL_QUEUE: dict[str, Any] = {"limits__queue_events": 10}


def tell(live: LiveApp, number: int, topic: str = "life_preserver") -> None:
    data = {"message": TEXT, "priority": 1, "class": "snapshot", "n": number}
    if topic == "system_state":
        data = {"hostname": "vm", "hostnamechanged": False, "priority": 0, "n": number}
    live.app.events.publish(Draft(topic, data, durable=True))


async def committed(live: LiveApp) -> None:
    await live.app.events.submit(lambda _: (None, []))


async def stall(live: LiveApp, count: int = MANY) -> None:
    """Tell so many events that whoever does not read is far behind."""
    for number in range(count):
        tell(live, number)
        if number % 10 == 9:
            await committed(live)


async def subscribed(peer: Peer, policy: str = "gap", topics: tuple[str, ...] = ("life_preserver",)) -> None:
    await peer.call("events", "subscribe", {"topics": list(topics), "policy": policy})


def backlog(live: LiveApp) -> tuple[int, int]:
    """Events and bytes queued for all subscriptions."""
    queued = [one.queued for session in live.app.engine.sessions for one in session.subscriptions._open.values()]
    return sum(events for events, _ in queued), sum(size for _, size in queued)


@contextlib.asynccontextmanager
async def lazy(live: LiveApp) -> AsyncIterator[Peer]:
    """A connection that takes one message and then leaves the rest to the buffers, which are small."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        sock.connect(("127.0.0.1", live.port))
        sock.setblocking(False)
        async with live.connect(max_queue=1, sock=sock) as peer:
            try:
                yield peer
            finally:
                peer.connection.transport.abort()  # a closing handshake would wait for all that was not read


async def rest_of(peer: Peer, last: int) -> list[dict[str, Any]]:
    """Every event up to the one with this number."""
    found = list(peer.events)
    while not (found and found[-1]["args"].get("n") == last):
        found.append(await peer.receive())
    return found


async def test_a_stalled_subscriber_does_not_stop_the_others(tmp_path: Path) -> None:
    async with running_app(tmp_path, **SMALL_QUEUE) as live, lazy(live) as stalled, live.connect() as reader:
        await subscribed(stalled)
        await subscribed(reader)
        for number in range(MANY):
            tell(live, number)
            assert (await reader.receive())["args"]["n"] == number
        assert await reader.call("rpc", "query")
        assert backlog(live)[0] <= 10
        sessions = {len(session.subscriptions) for session in live.app.engine.sessions}
        assert sessions == {1}


async def test_what_waits_for_a_stalled_subscriber_is_bounded_in_bytes(tmp_path: Path) -> None:
    limit = 256 * 1024
    async with running_app(tmp_path, limits__queue_bytes=limit) as live, lazy(live) as stalled:
        await subscribed(stalled)
        await stall(live)
        assert backlog(live)[1] <= limit


async def test_gap_tells_what_was_lost_and_goes_on(tmp_path: Path) -> None:
    async with running_app(tmp_path, **SMALL_QUEUE) as live, lazy(live) as stalled:
        while live.app.events.last("system_state") is None:  # whose number would be missing from the ones told
            await anyio.sleep(0.01)
        await subscribed(stalled)
        await stall(live)
        tell(live, MANY)
        events = await rest_of(stalled, MANY)
        gaps = [event for event in events if event["name"] == "gap"]
        lost = {seq for gap in gaps for seq in range(gap["args"]["from"], gap["args"]["to"] + 1)}
        seen = [event["seq"] for event in events if event["name"] != "gap"]
        assert {gap["args"]["cause"] for gap in gaps} == {"overflow"}
        assert seen == sorted(set(seen))
        assert lost.isdisjoint(seen)
        first = seen[0]
        assert lost | set(seen) == set(range(first, first + MANY + 1))


async def test_coalesce_keeps_the_newest_of_each_topic(tmp_path: Path) -> None:
    async with running_app(tmp_path, **SMALL_QUEUE) as live, lazy(live) as stalled:
        await subscribed(stalled, "coalesce", ("life_preserver", "system_state"))
        await stall(live)
        tell(live, -1, "system_state")
        await stall(live, 30)
        tell(live, MANY)
        events = await rest_of(stalled, MANY)
        after_gap = events[max(i for i, event in enumerate(events) if event["name"] == "gap") :]
        assert "system_state" in {event["name"] for event in after_gap}
        assert len(events) < MANY


async def test_close_ends_the_connection_with_the_reason(tmp_path: Path) -> None:
    async with running_app(tmp_path, **SMALL_QUEUE) as live, lazy(live) as stalled, live.connect() as other:
        await subscribed(stalled, "close")
        await stall(live)
        with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012
            async with asyncio.timeout(10):
                while True:
                    await stalled.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        assert closed.value.rcvd.reason.startswith("more than 10 events or")
        assert await other.call("rpc", "query")


async def test_a_stalled_peer_is_not_read_either(tmp_path: Path) -> None:
    """Whoever asks and does not read the answers must not make the server hold them."""
    async with running_app(tmp_path) as live, lazy(live) as stalled, live.connect() as other:
        calls = 0
        async with asyncio.timeout(20):
            try:
                while True:
                    sent = stalled.send({"namespace": "rpc", "name": "discover", "id": "x", "args": {}})
                    await asyncio.wait_for(sent, 0.5)
                    calls += 1
                    if calls % 100 == 0:
                        await other.call("rpc", "identify")
            except TimeoutError:
                pass
        answered = live.app.engine.counts["rpc/discover", 200]
        assert answered < calls
        assert await other.call("rpc", "query")


async def test_a_stalled_peer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with running_app(tmp_path, limits__drain=0.5, **SMALL_QUEUE) as live, lazy(live) as stalled:
        await subscribed(stalled)
        await stall(live)
        live.stop()
        await no_sessions(live)


async def test_a_peer_that_stopped_reading_is_found_out_by_the_pings(tmp_path: Path) -> None:
    pings: dict[str, Any] = {"limits__ping_interval": 0.1, "limits__ping_timeout": 0.3}
    async with running_app(tmp_path, **pings, **SMALL_QUEUE) as live, lazy(live) as stalled:
        await subscribed(stalled)
        await stall(live)
        await no_sessions(live)


@pytest.mark.parametrize("end", ["close", "revoke"])
async def test_who_must_go_and_does_not_read_is_cut_off(tmp_path: Path, end: str) -> None:
    admin = {"admin": ("admin",)}
    async with running_app(tmp_path, limits__drain=0.3, accounts=admin, **SMALL_QUEUE) as live, lazy(live) as stalled:
        await subscribed(stalled, "close" if end == "close" else "gap")
        await stall(live)
        if end == "revoke":
            await live.app.auth.accounts.remove("admin")
        await no_sessions(live)
