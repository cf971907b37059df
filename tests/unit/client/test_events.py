"""Event streams: order, resuming, refusals, ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sysadmd.backoff import Backoff
from sysadmd.client import AsyncClient, CallTimeout, ConnectFailed, ConnectionLost, EventStream, RemoteError
from sysadmd.client.mock import NO_REPLY, MockServer
from sysadmd.errors import Forbidden
from sysadmd.wire.messages import Request
from tests.unit.client.waiting import until

QUICK = Backoff(first=0.001, limit=0.002)
CONSENT = {"topics": ["life_preserver"], "epoch": "e1", "seq": 10, "subscription": "1"}


def data(text: str) -> dict[str, Any]:
    return {"message": text, "priority": 1, "class": "snapshot"}


def subscribing_server() -> MockServer:
    return MockServer({"events/subscribe": lambda args: CONSENT, "rpc/identify": lambda args: 1})


def stream_of(server: MockServer, **options: Any) -> tuple[AsyncClient, EventStream]:
    client = AsyncClient("unix:///mock", dial=server.dial, timeout=1)
    return client, client.events("life_preserver", backoff=QUICK, **options)


def subscriptions(server: MockServer) -> list[Request]:
    return [request for request in server.requests if request.name == "subscribe"]


async def test_events_come_with_payload_and_resume_token() -> None:
    server = subscribing_server()
    client, stream = stream_of(server)
    async with stream:
        server.emit("life_preserver", data("one"), 11, epoch="e1")
        event = await anext(stream)
    assert (event.topic, event.epoch, event.seq, event.node) == ("life_preserver", "e1", 11, "mock")
    assert event.args["message"] == "one"
    assert stream.last == ("e1", 11)
    await client.aclose()


async def test_what_is_asked_for_is_sent_in_the_extended_form() -> None:
    server = subscribing_server()
    client = AsyncClient("unix:///mock", dial=server.dial)
    wanted = client.events(
        ["dispatcher", "system_state"],
        ("e0", 7),
        filter={"process_id": ["a", "b"]},
        policy="close",
        snapshot=True,
    )
    async with wanted:
        pass
    assert subscriptions(server)[0].args == {
        "topics": ["dispatcher", "system_state"],
        "since": {"epoch": "e0", "seq": 7},
        "filter": {"process_id": ["a", "b"]},
        "policy": "close",
        "snapshot": True,
    }
    await client.aclose()


async def test_no_topic_is_refused() -> None:
    client = AsyncClient("unix:///mock", dial=MockServer().dial)
    with pytest.raises(ValueError, match="no topic"):
        client.events([])


async def test_events_that_precede_the_consent_are_kept_in_order() -> None:
    server = MockServer()

    def subscribe(args: Any) -> Any:
        for seq in (8, 9):
            server.emit("life_preserver", data(str(seq)), seq, epoch="e1")
        return CONSENT

    server.handlers["events/subscribe"] = subscribe
    client, stream = stream_of(server)
    async with stream:
        server.emit("life_preserver", data("11"), 11, epoch="e1")
        assert [(await anext(stream)).seq for _ in range(3)] == [8, 9, 11]
    await client.aclose()


async def test_a_broken_connection_is_resumed_after_the_last_event() -> None:
    server = subscribing_server()
    client, stream = stream_of(server)
    async with stream:
        server.emit("life_preserver", data("one"), 11, epoch="e1")
        await anext(stream)
        server.drop()
        waiting = asyncio.ensure_future(anext(stream))
        await until(lambda: len(subscriptions(server)) == 2)
        server.emit("life_preserver", data("two"), 12, epoch="e1")
        assert (await waiting).seq == 12
    assert subscriptions(server)[1].args["since"] == {"epoch": "e1", "seq": 11}
    assert stream.reconnects == 1
    await client.aclose()


async def test_a_stream_without_events_yet_resumes_where_the_server_stood() -> None:
    server = subscribing_server()
    client, stream = stream_of(server)
    async with stream:
        server.drop()
        waiting = asyncio.ensure_future(anext(stream))
        await until(lambda: len(subscriptions(server)) == 2)
        server.emit("life_preserver", data("one"), 11, epoch="e1")
        await waiting
    assert subscriptions(server)[1].args["since"] == {"epoch": "e1", "seq": 10}
    await client.aclose()


async def test_what_was_received_before_the_break_is_still_given_out() -> None:
    server = subscribing_server()
    client, stream = stream_of(server, reconnect=False)
    async with stream:
        for seq in (11, 12):
            server.emit("life_preserver", data(str(seq)), seq, epoch="e1")
        server.drop()
        assert [(await anext(stream)).seq for _ in range(2)] == [11, 12]
        with pytest.raises(ConnectionLost):
            await anext(stream)
    await client.aclose()


async def test_reconnecting_goes_on_while_the_server_is_away() -> None:
    server = subscribing_server()
    client, stream = stream_of(server)
    async with stream:
        server.refusing = True
        server.drop()
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        server.refusing = False
        await until(lambda: len(subscriptions(server)) == 2)
        server.emit("life_preserver", data("back"), 13, epoch="e1")
        assert (await waiting).seq == 13
    await client.aclose()


async def test_an_old_event_of_a_snapshot_does_not_turn_the_resume_token_back() -> None:
    server = subscribing_server()
    client, stream = stream_of(server, snapshot=True)
    async with stream:
        server.emit("life_preserver", data("old"), 3, epoch="e1")
        await anext(stream)
        assert stream.last == ("e1", 10)
        server.emit("life_preserver", data("restored"), 1, epoch="e2")
        await anext(stream)
        assert stream.last == ("e2", 1)
    await client.aclose()


async def test_a_refusal_after_reconnecting_is_final() -> None:
    server = subscribing_server()
    client, stream = stream_of(server)

    def refuse(args: Any) -> Any:
        raise Forbidden("no longer")

    async with stream:
        server.handlers["events/subscribe"] = refuse
        server.drop()
        with pytest.raises(RemoteError, match="no longer"):
            await anext(stream)
    await client.aclose()


async def test_a_refused_subscription_is_told_at_once() -> None:
    client, stream = stream_of(MockServer())
    with pytest.raises(RemoteError, match="404"):
        async with stream:
            pass
    await client.aclose()


async def test_the_first_connection_is_not_tried_twice() -> None:
    server = MockServer()
    server.refusing = True
    client, stream = stream_of(server)
    with pytest.raises(ConnectFailed):
        await anext(stream)
    await client.aclose()


async def test_a_server_without_consent_ends_by_the_deadline() -> None:
    server = MockServer({"events/subscribe": lambda args: NO_REPLY})
    client = AsyncClient("unix:///mock", dial=server.dial, timeout=0.02)
    with pytest.raises(CallTimeout):
        async with client.events("dispatcher"):
            pass
    assert server.connections == []
    await client.aclose()


async def test_closing_the_client_ends_its_streams() -> None:
    server = subscribing_server()
    client, stream = stream_of(server)
    waiting = asyncio.ensure_future(anext(stream, None))
    await until(lambda: bool(subscriptions(server)))
    await client.aclose()
    assert await waiting is None
    assert [event async for event in stream] == []


async def test_a_slow_consumer_of_events_does_not_hold_up_calls() -> None:
    server = subscribing_server()
    client, stream = stream_of(server)
    async with client, stream:
        for seq in range(2000):
            server.emit("life_preserver", data("x"), seq, epoch="e1")
        assert await client.call("rpc/identify") == 1


async def test_a_gap_is_an_event() -> None:
    server = subscribing_server()
    client, stream = stream_of(server)
    async with stream:
        server.emit("gap", {"from": 11, "to": 20, "cause": "overflow"}, 20, epoch="e1")
        event = await anext(stream)
    assert (event.topic, event.args) == ("gap", {"from": 11, "to": 20, "cause": "overflow"})
    assert stream.last == ("e1", 20)
    await client.aclose()
