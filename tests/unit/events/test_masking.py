"""Records about jobs, delivered to followers who may read other jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sysadmd.events import Draft, Filter
from sysadmd.limits import Limits
from sysadmd.wire.masking import UNAUTHORIZED
from tests.unit.events.following import DIALECT, TestScope, TestSink, running_log, settle, spec

READER = TestScope(jobs=frozenset({"a.Job"}))
STRANGER = TestScope(jobs=frozenset())


def draft(name: str = "a.Job", **more: Any) -> Draft:
    data = {"event": "start_job", "job": {"id": "f" * 24, "name": name, "state": "running"}, "counts": {}, **more}
    return Draft("queue", data, durable=True, permission=name)


def names(sink: TestSink) -> list[str]:
    return [one["data"]["job"]["name"] for one in sink.seen]


async def test_each_follower_sees_what_it_may_whoever_came_first(tmp_path: Path) -> None:
    async with running_log(tmp_path / "db") as log:
        scopes = (STRANGER, READER, STRANGER, READER)
        sinks = [TestSink() for _ in scopes]
        for scope, sink in zip(scopes, sinks, strict=True):
            log.subscribe(spec("queue", scope=scope), sink)
        log.publish(draft())
        await settle(log)
        assert [names(sink) for sink in sinks] == [[UNAUTHORIZED], ["a.Job"], [UNAUTHORIZED], ["a.Job"]]


async def test_followers_of_one_scope_share_the_masked_frame(tmp_path: Path) -> None:
    async with running_log(tmp_path / "db") as log:
        for _ in range(3):
            log.subscribe(spec("queue", scope=STRANGER), TestSink())
        log.subscribe(spec("queue", scope=STRANGER, filter=Filter.parse({"event": "start_job"})), TestSink())
        before = DIALECT.calls
        log.publish(draft())
        await settle(log)
        assert DIALECT.calls == before + 1


async def test_an_older_record_is_masked_when_it_is_replayed(tmp_path: Path) -> None:
    async with running_log(tmp_path / "db") as log:
        start = log.head
        log.publish(draft())
        await settle(log)
        sink = TestSink()
        log.subscribe(spec("queue", scope=STRANGER, since=(log.epoch, start)), sink)
        assert names(sink) == [UNAUTHORIZED]


async def test_a_filter_finds_no_more_than_is_shown(tmp_path: Path) -> None:
    async with running_log(tmp_path / "db") as log:
        probe = Filter.parse({"job.id": "f" * 24})
        stranger, reader = TestSink(), TestSink()
        log.subscribe(spec("queue", scope=STRANGER, filter=probe), stranger)
        log.subscribe(spec("queue", scope=READER, filter=probe), reader)
        log.publish(draft())
        await settle(log)
        assert (names(stranger), names(reader)) == ([], ["a.Job"])


async def test_a_follower_without_the_topic_sees_nothing(tmp_path: Path) -> None:
    async with running_log(tmp_path / "db") as log:
        sink = TestSink()
        log.subscribe(spec("queue", scope=TestScope(topics=frozenset())), sink)
        log.publish(draft())
        await settle(log)
        assert sink.seen == []


async def test_what_waits_is_dropped_when_the_right_to_it_is_lost(tmp_path: Path) -> None:
    async with running_log(tmp_path / "db") as log:
        sink = TestSink(room=0)
        subscription = log.subscribe(spec("queue", scope=READER), sink)
        log.publish(draft())
        log.publish(draft("b.Job"))
        await settle(log)
        subscription.rescope(STRANGER)
        sink.room = None
        subscription.resume()
        assert names(sink) == [UNAUTHORIZED]


async def test_summaries_that_left_the_memory_are_no_loss(tmp_path: Path) -> None:
    """Each says what the one before it said; what happened to the jobs is stored."""
    async with running_log(tmp_path / "db", replace(Limits(), ring_events=2)) as log:
        start = log.head
        for _ in range(4):
            log.publish(draft())
            log.publish(Draft("queue", {"event": "summary", "rows": []}, durable=False))
        await settle(log)
        sink = TestSink()
        log.subscribe(spec("queue", scope=READER, since=(log.epoch, start)), sink)
        await settle(log)
        while len(sink.seen) < 5:
            await settle(log)
        assert [one["topic"] for one in sink.seen] == ["queue"] * 5
        assert [one["data"]["event"] for one in sink.seen] == ["start_job"] * 4 + ["summary"]
