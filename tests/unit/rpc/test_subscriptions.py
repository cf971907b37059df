"""The subscriptions of one session: the seed's form, the extended form, their bound, and what comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sysadmd.errors import TooManyRequests
from sysadmd.events.record import Draft
from sysadmd.events.subscription import SubscriptionSpec
from sysadmd.limits import Limits
from sysadmd.wire.classic import CLASSIC
from sysadmd.wire.sysadm import SYSADM
from tests.unit.rpc.rig import Rig, rig, scope, settle


def snapshot_of(pool: str) -> Draft:
    return Draft("life_preserver", {"message": pool, "priority": 1, "class": "snapshot"}, durable=True)


async def publish(server: Rig, *pools: str) -> None:
    for pool in pools:
        server.events.publish(snapshot_of(pool))
    await server.events.submit(lambda _: (None, []))
    await settle()


def extended(*topics: str, **options: Any) -> SubscriptionSpec:
    names = frozenset(topics or ("life_preserver",))
    return SubscriptionSpec(names, SYSADM, scope(), extended=True, **options)


def messages(written: list[Any]) -> list[str]:
    return [one["args"]["message"] for one in written]


async def test_subscribing_twice_delivers_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["life_preserver", "life_preserver"])
        session.subscriptions.add(scope(), SYSADM, ["life_preserver"])
        await publish(server, "tank")
        assert messages(outlet.written) == ["tank"]
        assert len(session.subscriptions) == 1


async def test_one_unsubscribe_ends_what_was_subscribed_twice(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["life_preserver"])
        session.subscriptions.add(scope(), SYSADM, ["life_preserver"])
        session.subscriptions.remove(SYSADM, ["life_preserver", "dispatcher"])
        await publish(server, "tank")
        assert outlet.written == []
        assert not session.subscriptions


async def test_topics_end_one_by_one(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["life_preserver", "dispatcher"])
        session.subscriptions.remove(SYSADM, ["dispatcher"])
        await publish(server, "tank")
        assert messages(outlet.written) == ["tank"]


async def test_each_dialect_has_its_own_subscription(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["life_preserver"])
        session.subscriptions.add(scope(), CLASSIC, ["life_preserver"])
        await publish(server, "tank")
        assert sorted(one["name"] for one in outlet.written) == ["life-preserver", "life_preserver"]
        session.subscriptions.remove(CLASSIC, ["life_preserver"])
        assert len(session.subscriptions) == 1


async def test_the_last_event_of_a_replayed_topic_is_written_before_add_returns(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        await publish(server, "old", "last")
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["life_preserver", "dispatcher"])
        assert messages(outlet.written) == ["last"]


async def test_subscribing_again_replays_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        await publish(server, "last")
        session, outlet = server.session()
        for _ in range(2):
            session.subscriptions.add(scope(), SYSADM, ["life_preserver"])
        assert messages(outlet.written) == ["last", "last"]


async def test_an_extended_subscription_has_an_id_and_its_own_copy(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        ids = [session.subscriptions.add_extended(extended()) for _ in range(2)]
        assert ids == ["1", "2"]
        await publish(server, "tank")
        assert messages(outlet.written) == ["tank", "tank"]
        assert set(outlet.written[0]) >= {"epoch", "seq", "time", "node"}


async def test_an_id_that_was_given_back_is_used_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        for _ in range(3):
            session.subscriptions.add_extended(extended())
        assert session.subscriptions.remove_extended("2")
        assert session.subscriptions.add_extended(extended()) == "2"


@pytest.mark.parametrize("name", ["1", "99", "life_preserver", "#"])
async def test_an_id_that_nobody_has_ends_nothing(tmp_path: Path, name: str) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        session.subscriptions.add(scope(), SYSADM, ["life_preserver"])
        assert not session.subscriptions.remove_extended(name)
        assert len(session.subscriptions) == 1


async def test_a_snapshot_comes_first_as_far_as_the_scope_shows_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        drafts = [
            Draft("life_preserver", {"message": name, "priority": 1, "class": "snapshot"}, False, permission)
            for name, permission in (("mine", None), ("others", "secret.job"))
        ]
        seeing = scope("ann", "event:*")
        spec = SubscriptionSpec(frozenset(("life_preserver",)), SYSADM, seeing, extended=True)
        session.subscriptions.add_extended(spec, drafts)
        await publish(server, "next")
        assert messages(outlet.written) == ["mine", "next"]
        assert [one["seq"] - outlet.written[0]["seq"] for one in outlet.written] == [0, 1]


async def test_the_bound_is_64_and_the_next_one_is_refused(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        for _ in range(64):
            session.subscriptions.add_extended(extended())
        with pytest.raises(TooManyRequests, match="64 subscriptions are open"):
            session.subscriptions.add_extended(extended())
        with pytest.raises(TooManyRequests):
            session.subscriptions.add(scope(), SYSADM, ["life_preserver"])
        assert len(session.subscriptions) == 64


async def test_subscribing_again_to_a_topic_needs_no_room(tmp_path: Path) -> None:
    async with rig(tmp_path, Limits(subscriptions=1)) as server:
        session, _ = server.session()
        for _ in range(3):
            session.subscriptions.add(scope(), SYSADM, ["life_preserver"])
        assert len(session.subscriptions) == 1


async def test_a_stalled_outlet_gets_the_rest_when_it_takes_frames_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["life_preserver"])
        session.subscriptions.add_extended(extended())
        outlet.stalled = True
        await publish(server, "tank")
        assert outlet.written == []
        outlet.stalled = False
        session.subscriptions.resume()
        assert messages(outlet.written) == ["tank", "tank"]


async def test_closing_ends_all_of_them(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["life_preserver", "dispatcher"])
        session.subscriptions.add_extended(extended())
        session.close()
        await publish(server, "tank")
        assert outlet.written == []
        assert server.events.followers == 0
