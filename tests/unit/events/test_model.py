"""Random histories against a model of what each follower must see.

The model is one list of all records. A follower must see, in order and once, the wanted records that are newer than
its start, each one either itself or inside the range of a gap; nothing may be in neither. What a follower reads without
ever stalling has no gap at all.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sysadmd.events import EventLog, Subscription
from sysadmd.limits import Limits
from tests.unit.events.following import TestScope, TestSink, durable, reach, running_log, settle, spec, volatile

TOPICS = ("dispatcher", "bridge", "other")
LIMITS = replace(Limits(), queue_events=3, ring_events=6)

Operation = tuple[Any, ...]
operations: st.SearchStrategy[list[Operation]] = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.sampled_from(TOPICS),
            st.booleans(),
            st.sampled_from([None, "a", "b"]),
            st.integers(1, 5),
        ),
        st.tuples(st.just("turn")),
        st.tuples(st.just("settle")),
        st.tuples(
            st.just("follow"),
            st.sampled_from([frozenset({"dispatcher"}), frozenset({"dispatcher", "other"}), frozenset(TOPICS)]),
            st.sampled_from([None, frozenset({"a"})]),
            st.none() | st.integers(0, 20),
        ),
        st.tuples(st.just("stall"), st.integers(0, 4)),
        st.tuples(st.just("drain"), st.integers(0, 4)),
        st.tuples(st.just("leave"), st.integers(0, 4)),
    ),
    min_size=8,
    max_size=40,
)


@dataclass
class Follower:
    subscription: Subscription
    sink: TestSink
    topics: frozenset[str]
    jobs: frozenset[str] | None
    start: int
    stalled: bool = False
    replayed: bool = False

    def wants(self, topic: str, job: str | None) -> bool:
        return topic in self.topics and (job is None or self.jobs is None or job in self.jobs)


@dataclass
class History:
    """The log, and the model beside it."""

    log: EventLog
    records: list[tuple[str, str | None]] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)

    async def run(self, operations: list[Operation]) -> None:
        await self.follow(frozenset(TOPICS), None, None)
        for name, *args in operations:
            await getattr(self, name)(*args)
        await settle(self.log)
        for follower in self.followers:
            follower.sink.room = None
            follower.subscription.resume()
            with anyio.fail_after(5):
                while follower.subscription.behind and not follower.subscription.closed:
                    await asyncio.sleep(0)
        self.check()

    async def publish(self, topic: str, stored: bool, job: str | None, times: int) -> None:
        make = durable if stored else volatile
        for _ in range(times):
            self.records.append((topic, job))
            self.log.publish(make(len(self.records), topic, permission=job))

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def settle(self) -> None:
        await settle(self.log)

    async def follow(self, topics: frozenset[str], jobs: frozenset[str] | None, back: int | None) -> None:
        # Only a record that is delivered is before a new follower; what this turn gathered need not be flushed.
        if self.log.head < len(self.records):
            await reach(self.log, len(self.records))
        start = len(self.records) if back is None else max(0, len(self.records) - back)
        since = None if back is None else (self.log.epoch, start)
        subscription = self.log.subscribe(spec(*topics, scope=TestScope(jobs=jobs), since=since), sink := TestSink())
        self.followers.append(Follower(subscription, sink, topics, jobs, start, replayed=back is not None))

    async def stall(self, which: int) -> None:
        follower = self.followers[which % len(self.followers)]
        follower.sink.room, follower.stalled = 0, True

    async def drain(self, which: int) -> None:
        follower = self.followers[which % len(self.followers)]
        follower.sink.room = None
        follower.subscription.resume()

    async def leave(self, which: int) -> None:
        self.followers[which % len(self.followers)].subscription.close()

    def check(self) -> None:
        for follower in self.followers:
            seen = follower.sink.numbers
            gaps = [n for n in seen if isinstance(n, tuple)]
            got = [n for n in seen if not isinstance(n, tuple)]
            wanted = [n for n, r in enumerate(self.records, 1) if n > follower.start and follower.wants(*r)]
            assert got == sorted(set(got)), "in order and once"
            assert set(got) <= set(wanted), "nothing that was not asked for or not permitted"
            if follower.subscription.closed:
                assert wanted[: len(got)] == got or gaps
                continue
            missing = [n for n in wanted if n not in got and not any(first <= n <= last for _, first, last, _ in gaps)]
            assert missing == [], "a record is seen, or a gap tells of it"
            if not follower.stalled and not follower.replayed:
                assert gaps == []


@settings(max_examples=80)
@given(operations)
@example([("publish", "dispatcher", False, None, 5)] * 2 + [("follow", frozenset(TOPICS), None, 10)] + [("turn",)])
def test_every_follower_sees_what_the_model_says(operations: list[Operation]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with running_log(Path(directory) / "a.db", LIMITS) as log:
                await History(log).run(operations)

    asyncio.run(play())
