"""What one follower sees: scope, filter, overflow policies, sinks that stall or fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from sysadmd.events import Draft, Filter
from sysadmd.limits import Limits
from tests.unit.events.following import TestDialect, TestScope, TestSink, durable, running_log, settle, spec
from tests.unit.events.following import volatile as draft

SMALL = replace(Limits(), queue_events=4)


async def test_equal_followers_share_one_encoding(tmp_path: Path) -> None:
    dialect = TestDialect()
    async with running_log(tmp_path / "a.db") as log:
        sinks = [TestSink() for _ in range(20)]
        for sink in sinks:
            log.subscribe(spec(dialect=dialect), sink)
        log.publish(draft(1))
        await asyncio.sleep(0)
        assert all(sink.numbers == [1] for sink in sinks)
        assert dialect.calls == 1
        assert len({id(sink.writes[0]) for sink in sinks}) == 1


async def test_only_extended_followers_see_the_meta(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(extended=False), plain := TestSink())
        log.subscribe(spec(), extended := TestSink())
        log.publish(draft(1))
        await asyncio.sleep(0)
        assert plain.seen == [{"topic": "dispatcher", "data": {"n": 1}}]
        assert extended.seen == [plain.seen[0] | {"seq": 1, "epoch": log.epoch, "node": "here"}]


async def test_topics_scope_and_filter_choose_the_records(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec("dispatcher", "bridge"), everything := TestSink())
        log.subscribe(spec("bridge"), bridge := TestSink())
        no_topic = TestScope(topics=frozenset({"bridge"}))
        log.subscribe(spec("dispatcher", "bridge", scope=no_topic), blind := TestSink())
        one_job = TestScope(jobs=frozenset({"dispatcher.a"}))
        log.subscribe(spec("dispatcher", "bridge", scope=one_job), worker := TestSink())
        log.subscribe(spec("dispatcher", "bridge", filter=Filter.parse({"n": [1, 3]})), odd := TestSink())
        log.publish(draft(1, permission="dispatcher.a"))
        log.publish(draft(2, permission="dispatcher.b"))
        log.publish(draft(3, "bridge"))
        log.publish(draft(4))
        await settle(log)
        assert everything.numbers == [1, 2, 3, 4]
        assert bridge.numbers == blind.numbers == [3]
        assert worker.numbers == [1, 3, 4]
        assert odd.numbers == [1, 3]


async def test_a_dialect_may_have_nothing_to_say(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        log.publish(Draft("dispatcher", {"silent": True}, durable=False))
        await asyncio.sleep(0)
        assert sink.writes == []


async def test_a_new_follower_sees_nothing_from_before(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), old := TestSink())
        log.publish(draft(1))
        log.subscribe(spec(), new := TestSink())
        log.publish(draft(2))
        await asyncio.sleep(0)
        assert old.numbers == [1, 2]
        assert new.numbers == [2]


async def test_a_closed_follower_sees_no_more_and_may_close_again(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        subscription = log.subscribe(spec(), sink := TestSink())
        log.publish(draft(1))
        subscription.close()
        subscription.close()
        log.publish(draft(2))
        await asyncio.sleep(0)
        assert 2 not in sink.numbers
        assert log.followers == 0


async def test_a_stalled_follower_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        subscription = log.subscribe(spec(), sink := TestSink(room=1))
        for n in range(4):
            log.publish(draft(n))
            await asyncio.sleep(0)
        assert sink.numbers == [0]
        assert subscription.queued[0] == 3
        sink.room = None
        subscription.resume()
        log.publish(draft(4))
        await asyncio.sleep(0)
        assert sink.numbers == [0, 1, 2, 3, 4]
        assert subscription.queued == (0, 0)


@pytest.mark.parametrize("count", [4, 5])
async def test_the_policy_acts_one_event_beyond_the_limit(tmp_path: Path, count: int) -> None:
    async with running_log(tmp_path / "a.db", SMALL) as log:
        subscription = log.subscribe(spec(), sink := TestSink(room=0))
        for n in range(count):
            log.publish(draft(n))
        await asyncio.sleep(0)
        sink.room = None
        subscription.resume()
        assert sink.numbers == ([0, 1, 2, 3] if count == 4 else [("gap", 1, 5, "overflow")])
        assert subscription.dropped == (0 if count == 4 else 5)


async def test_the_policy_acts_one_byte_beyond_the_limit(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), measure := TestSink())
        log.publish(draft(1))
        await asyncio.sleep(0)
    frame = len(measure.writes[0])
    for limit, dropped in ((2 * frame, 0), (2 * frame - 1, 2)):
        async with running_log(tmp_path / f"{limit}.db", replace(Limits(), queue_bytes=limit)) as log:
            subscription = log.subscribe(spec(), TestSink(room=0))
            log.publish(draft(1))
            log.publish(draft(2))
            await asyncio.sleep(0)
            assert subscription.dropped == dropped


async def test_repeated_overflow_is_one_gap_in_front_of_what_is_left(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db", SMALL) as log:
        subscription = log.subscribe(spec(), sink := TestSink(room=0))
        for n in range(1, 13):
            log.publish(draft(n))
            await asyncio.sleep(0)
        sink.room = None
        subscription.resume()
        assert sink.numbers == [("gap", 1, 10, "overflow"), 11, 12]
        assert subscription.dropped == 10


async def test_coalesce_keeps_the_newest_of_each_topic(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db", SMALL) as log:
        subscription = log.subscribe(spec("dispatcher", "other", policy="coalesce"), sink := TestSink(room=0))
        for n in range(1, 6):
            log.publish(draft(n, "other" if n in {2, 3} else "dispatcher"))
        await asyncio.sleep(0)
        sink.room = None
        subscription.resume()
        assert sink.numbers == [("gap", 1, 4, "overflow"), 3, 5]


async def test_close_ends_the_subscription_and_tells_the_connection(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db", SMALL) as log:
        subscription = log.subscribe(spec(policy="close"), sink := TestSink(room=0))
        for n in range(5):
            log.publish(draft(n))
        await asyncio.sleep(0)
        assert subscription.closed
        assert sink.closed == ["more than 4 events or 4194304 bytes unread"]
        assert log.followers == 0


async def test_a_sink_that_fails_ends_alone(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        broken = log.subscribe(spec(), failing := TestSink(fails=True))
        log.subscribe(spec(), sink := TestSink())
        log.publish(draft(1))
        await asyncio.sleep(0)
        assert sink.numbers == [1]
        assert broken.closed
        assert failing.closed == ["the sink failed: reset by peer"]


async def test_the_last_follower_of_a_group_may_fail_while_another_comes(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), TestSink(fails=True))
        log.publish(draft(1))
        subscription = log.subscribe(spec(), sink := TestSink())
        log.publish(draft(2))
        await asyncio.sleep(0)
        assert sink.numbers == [2]
        subscription.close()
        assert log.followers == 0


async def test_rescope_applies_to_new_and_to_queued_records(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        subscription = log.subscribe(spec("dispatcher", "other"), sink := TestSink(room=0))
        log.publish(draft(1, "other"))
        log.publish(draft(2, permission="dispatcher.a"))
        log.publish(draft(3, permission="dispatcher.b"))
        subscription.rescope(TestScope(topics=frozenset({"dispatcher"}), jobs=frozenset({"dispatcher.a"})))
        log.publish(draft(4, permission="dispatcher.b"))
        log.publish(draft(5, permission="dispatcher.a"))
        await asyncio.sleep(0)
        sink.room = None
        subscription.resume()
        assert sink.numbers == [2, 5]


async def test_replay_gives_the_last_record_before_subscribe_returns(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        for n, topic in enumerate(["system_state", "life_preserver", "system_state", "dispatcher"]):
            log.publish(durable(n, topic))
        await settle(log)
        wanted = spec("system_state", "life_preserver", "dispatcher", replay_last=True)
        log.subscribe(wanted, sink := TestSink())
        assert sink.numbers == [1, 2]
        log.subscribe(replace(wanted, scope=TestScope(topics=frozenset({"life_preserver"}))), partial := TestSink())
        assert partial.numbers == [1]
        log.publish(durable(9, "system_state"))
        await settle(log)
        assert sink.numbers == [1, 2, 9]
