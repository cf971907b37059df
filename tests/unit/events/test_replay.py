"""Followers that resume: from the ring, from the store, across restarts, while publishing goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.events import replay as replay_module
from sysadmd.events.subscription import Subscription
from sysadmd.events.writer import BLOCK
from sysadmd.limits import Limits
from sysadmd.store import Store
from tests.unit.events.following import TestScope, TestSink, durable, running_log, settle, spec, volatile
from tests.unit.store.plans import plans

RING = replace(Limits(), ring_events=5)


async def at_head(subscription: Subscription) -> None:
    with anyio.fail_after(5):
        while subscription.behind:
            await asyncio.sleep(0.001)


async def test_the_ring_is_replayed_before_subscribe_returns(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        for n in range(1, 6):
            log.publish(volatile(n))
        log.subscribe(spec(since=(log.epoch, 2)), sink := TestSink())
        assert sink.numbers == [3, 4, 5]
        log.publish(volatile(6))
        await asyncio.sleep(0)
        assert sink.numbers == [3, 4, 5, 6]


async def test_since_the_newest_record_gives_only_new_ones(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.publish(volatile(1))
        log.subscribe(spec(since=(log.epoch, 1)), sink := TestSink())
        log.publish(volatile(2))
        await asyncio.sleep(0)
        assert sink.numbers == [2]


async def test_older_records_come_from_the_store_after_one_gap(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db", RING) as log:
        for n in range(1, 21):
            log.publish(durable(n) if n % 2 else volatile(n))
        await settle(log)
        subscription = log.subscribe(spec(since=(log.epoch, 3)), sink := TestSink())
        await at_head(subscription)
        log.publish(volatile(21))
        await asyncio.sleep(0)
        assert sink.numbers == [("gap", 4, 15, "expired"), 5, 7, 9, 11, 13, 15, 16, 17, 18, 19, 20, 21]


async def test_durable_topics_have_no_gap(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db", RING) as log:
        for n in range(1, 21):
            log.publish(volatile(n, "bridge" if n % 2 else "dispatcher"))
        await settle(log)
        subscription = log.subscribe(spec("bridge", since=(log.epoch, 3)), sink := TestSink())
        await at_head(subscription)
        assert sink.numbers == [5, 7, 9, 11, 13, 15, 17, 19]


async def test_a_restart_loses_volatile_records_only_and_says_so(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.publish(durable(1))
        log.publish(volatile(2))
        log.publish(durable(3))
        await settle(log)
        epoch = log.epoch
    async with running_log(tmp_path / "a.db") as log:
        assert log.epoch == epoch
        log.publish(volatile(4))
        subscription = log.subscribe(spec(since=(epoch, 1)), sink := TestSink())
        await at_head(subscription)
        assert sink.numbers == [("gap", 2, BLOCK, "restart"), 3, 4]


@pytest.mark.parametrize("token", [("other", 1), (None, 99), (None, -1)])
async def test_a_token_of_another_history_gives_a_gap_and_the_last_records(
    tmp_path: Path, token: tuple[str | None, int]
) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.publish(durable(1, "system_state"))
        log.publish(durable(2, "system_state"))
        await settle(log)
        since = (token[0] or log.epoch, token[1])
        log.subscribe(spec("system_state", since=since, replay_last=True), sink := TestSink())
        assert sink.numbers == [("gap", 1, 2, "restart"), 2]


async def test_a_replay_waits_for_its_sink_and_costs_nothing_meanwhile(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db", RING) as log:
        for n in range(1, 11):
            log.publish(durable(n))
        await settle(log)
        subscription = log.subscribe(spec(since=(log.epoch, 0)), sink := TestSink(room=0))
        for n in range(11, 2000):
            log.publish(durable(n))
        await settle(log)
        assert subscription.queued == (0, 0)
        sink.room = None
        subscription.resume()
        await at_head(subscription)
        assert [n for n in sink.numbers if not isinstance(n, tuple)] == list(range(1, 2000))
        assert subscription.dropped == 0


@pytest.mark.parametrize("rows", [1, 7, 512])
async def test_nothing_is_missing_or_double_while_publishing_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(replay_module, "PAGE_ROWS", rows)
    async with running_log(tmp_path / "a.db", RING) as log:
        for n in range(1, 101):
            log.publish(durable(n))
        await settle(log)
        subscription = log.subscribe(spec(since=(log.epoch, 0)), sink := TestSink())
        for n in range(101, 301):
            log.publish(durable(n) if n % 3 else durable(n, "dispatcher"))
            await asyncio.sleep(0)
        await settle(log)
        await at_head(subscription)
        assert [n for n in sink.numbers if not isinstance(n, tuple)] == list(range(1, 301))


async def test_pages_are_bounded_by_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "PAGE_BYTES", 1)
    async with running_log(tmp_path / "a.db", RING) as log:
        for n in range(1, 21):
            log.publish(durable(n, "bridge"))
        await settle(log)
        subscription = log.subscribe(spec("bridge", since=(log.epoch, 0)), sink := TestSink())
        await at_head(subscription)
        assert sink.numbers == list(range(1, 21))


async def test_a_scope_that_changes_during_a_replay_holds_for_the_rest(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db", RING) as log:
        for n in range(1, 21):
            log.publish(durable(n, "bridge"))
        await settle(log)
        subscription = log.subscribe(spec("bridge", since=(log.epoch, 0)), sink := TestSink())
        subscription.rescope(TestScope(topics=frozenset()))
        await at_head(subscription)
        assert sink.numbers == []


async def test_a_follower_that_leaves_during_a_replay_gets_no_more(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db", RING) as log:
        for n in range(1, 21):
            log.publish(durable(n, "bridge"))
        await settle(log)
        log.subscribe(spec("bridge", since=(log.epoch, 0)), sink := TestSink()).close()
        await asyncio.sleep(0.02)
        assert sink.numbers == []


async def test_a_store_that_cannot_be_read_ends_the_subscription(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(replay_module, "_page", broken)
    async with running_log(tmp_path / "a.db", RING) as log:
        for n in range(1, 21):
            log.publish(durable(n, "bridge"))
        await settle(log)
        subscription = log.subscribe(spec("bridge", since=(log.epoch, 0)), sink := TestSink())
        with anyio.fail_after(5):
            while not subscription.closed:
                await asyncio.sleep(0.001)
        assert sink.closed == ["stored records cannot be read: the disk is gone"]
        assert "stored records cannot be read" in caplog.text


async def test_what_leaves_the_ring_before_its_page_is_read_is_told_too(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db", RING) as log:
        for n in range(1, 8):
            log.publish(volatile(n))
        subscription = log.subscribe(spec(since=(log.epoch, 0)), sink := TestSink())
        log.publish(volatile(8))
        await at_head(subscription)
        assert sink.numbers == [("gap", 1, 2, "expired"), ("gap", 3, 3, "expired"), 4, 5, 6, 7, 8]


@pytest.mark.parametrize("topics, way", [(1, "ix_event_topic_seq"), (2, "PRIMARY KEY")])
async def test_a_page_is_read_in_order_without_sorting_the_rest(tmp_path: Path, topics: int, way: str) -> None:
    store = Store.open(tmp_path / "a.db")
    wanted = frozenset(["dispatcher", "bridge"][:topics])
    found = plans(store, lambda connection: replay_module._page(connection, 5, 100, wanted))
    store.close()
    assert way in found
    assert "TEMP B-TREE" not in found
