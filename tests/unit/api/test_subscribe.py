"""`events/subscribe` and `events/unsubscribe`: their forms, and what a caller may see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sysadmd.events.record import Draft
from sysadmd.server.app import App
from sysadmd.store.tables import role
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import Peer


def tell(live: LiveApp, message: str) -> None:
    data = {"message": message, "priority": 1, "class": "snapshot"}
    live.app.events.publish(Draft("life_preserver", data, durable=True))


async def message(peer: Peer) -> dict[str, Any]:
    return await peer.event(lambda event: event["name"] in {"life_preserver", "gap"})


async def test_the_reply_names_the_last_topic_as_it_was_spelled(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        assert await peer.call("events", "subscribe", ["life_preserver", "life-preserver"]) == {
            "subscribe": "life-preserver"
        }


async def test_an_object_without_topics_subscribes_to_nothing(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        assert await peer.call("events", "subscribe", {"topics": []}) == {}
        assert await peer.call("events", "unsubscribe", {"topics": []}) == {}
        (session,) = live.app.engine.sessions
        assert len(session.subscriptions) == 0


@pytest.mark.parametrize(
    "args",
    [
        "weather",
        ["dispatcher", "weather"],
        [],
        7,
        {},
        {"topics": ["weather"]},
        {"topics": ["dispatcher"], "policy": "wait"},
        {"topics": ["dispatcher"], "since": {"epoch": "x"}},
        {"topics": ["dispatcher"], "since": {"epoch": "x", "seq": -1}},
        {"topics": ["dispatcher"], "filter": {"": 1}},
        {"topics": ["dispatcher"], "filter": {"a": {"b": 1}}},
        {"topics": ["dispatcher"], "color": "red"},
    ],
)
async def test_what_breaks_a_rule_is_refused_and_nothing_is_subscribed(tmp_path: Path, args: Any) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        reply = await peer.request("events", "subscribe", args)
        assert reply["args"]["code"] == 400
        assert reply["args"]["message"].startswith("args")
        (session,) = live.app.engine.sessions
        assert len(session.subscriptions) == 0


def listener_role(app: App) -> None:
    """A role that may subscribe and see one topic only."""

    def add(connection: Any) -> None:
        row = {"name": "listener", "patterns": ["call:@read", "event:system_state"]}
        columns = {column.name for column in role.columns}
        connection.execute(role.insert().values({key: value for key, value in row.items() if key in columns}))

    app.store.write_now(add)


async def test_a_topic_that_the_caller_may_not_see_is_403_in_each_form(tmp_path: Path) -> None:
    accounts = {"ear": ("listener",)}
    async with running_app(tmp_path, prepare=listener_role, accounts=accounts) as live, live.connect("ear") as peer:
        for args in ("life-preserver", ["system-state", "life-preserver"], {"topics": ["life-preserver"]}):
            reply = await peer.request("events", "subscribe", args)
            assert reply["args"] == {"code": 403, "message": "ear may not see life-preserver"}
        assert await peer.call("events", "subscribe", ["system-state"]) == {"subscribe": "system-state"}


async def test_resuming_delivers_what_was_missed_without_a_hole_or_a_duplicate(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        async with live.connect() as peer:
            await peer.call("events", "subscribe", {"topics": ["life_preserver"]})
            tell(live, "one")
            seen = await message(peer)
        tell(live, "two")
        async with live.connect() as peer:
            since = {"epoch": seen["epoch"], "seq": seen["seq"]}
            await peer.call("events", "subscribe", {"topics": ["life_preserver"], "since": since})
            tell(live, "three")
            assert [(await message(peer))["args"]["message"] for _ in range(2)] == ["two", "three"]


async def test_a_resumed_subscription_gets_no_snapshot(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True) as live, live.connect() as peer:
        await peer.call("rpc", "dispatcher", {"action": "run", "nap": "sleep 30"})
        here = {"epoch": live.app.events.epoch, "seq": live.app.events.head}
        topics = {"topics": ["dispatcher"], "snapshot": True}
        await peer.call("events", "subscribe", {**topics, "filter": {"process_id": "nobody"}, "since": here})
        assert peer.events == []
        await peer.call("events", "subscribe", topics)
        assert {event["args"]["process_id"] for event in peer.events} == {"nap"}
        await peer.call("rpc", "dispatcher", {"action": "kill", "job_id": "nap"})


async def test_a_resume_token_of_another_history_is_told_and_the_snapshot_follows(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        await peer.call("events", "subscribe", ["life_preserver"])
        tell(live, "last")
        await message(peer)
        since = {"epoch": "0" * 16, "seq": 5}
        await peer.call("events", "subscribe", {"topics": ["life_preserver"], "since": since, "snapshot": True})
        assert [(await message(peer))["name"] for _ in range(2)] == ["gap", "life_preserver"]


async def test_a_filter_lets_through_what_matches(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        args = {"topics": ["life_preserver"], "filter": {"message": ["b", "c"]}}
        await peer.call("events", "subscribe", args)
        for text in ("a", "b", "c"):
            tell(live, text)
        assert [(await message(peer))["args"]["message"] for _ in range(2)] == ["b", "c"]


async def test_events_use_the_dialect_of_the_frame_that_subscribed(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        subscribe = {"jsonrpc": "2.0", "method": "events/subscribe", "params": {"topics": ["life_preserver"]}, "id": 1}
        await peer.send(subscribe)
        assert (await peer.receive())["result"]["subscribe"] == ["life_preserver"]
        tell(live, "x")
        event = await peer.receive()
        assert (event["jsonrpc"], event["method"]) == ("2.0", "events/life_preserver")
        assert event["params"]["args"]["message"] == "x"
        assert "id" not in event
