"""Order, durability and failures of the log."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection, func, insert, select

from sysadmd.errors import Conflict, Unavailable
from sysadmd.events import Draft, EventLog
from sysadmd.events import log as log_module
from sysadmd.events import writer as writer_module
from sysadmd.events.writer import BLOCK, Complaint
from sysadmd.limits import Limits
from sysadmd.store import Store, tables
from sysadmd.store.rows import LANES
from tests.unit.events.following import TestScope, TestSink, durable, reach, running_log, settle, spec, volatile


def lane(name: str, *drafts: Draft) -> Any:
    def write(connection: Connection) -> tuple[str, tuple[Draft, ...]]:
        connection.execute(insert(tables.lane).values(name=name))
        return name, drafts

    return write


def stored(store_path: Path) -> list[tuple[int, str]]:
    store = Store.open(store_path)
    rows = store.read_now(lambda c: c.execute(select(tables.event.c.seq, tables.event.c.data)).all())
    store.close()
    return [(seq, data) for seq, data in rows]


async def test_a_volatile_record_is_written_in_the_same_turn(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        log.publish(volatile(1))
        await asyncio.sleep(0)
        assert sink.numbers == [1]


async def test_records_of_one_turn_leave_in_one_write(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        for n in range(10):
            log.publish(volatile(n))
        await asyncio.sleep(0)
        assert sink.numbers == list(range(10))
        assert len(sink.writes) == 1


async def test_a_volatile_record_never_overtakes_a_durable_one(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        log.publish(durable(1))
        log.publish(volatile(2))
        log.submit(lane("x", durable(3)))
        log.publish(volatile(4))
        await asyncio.sleep(0)
        log.publish(volatile(5))
        await settle(log)
        assert sink.numbers == [1, 2, 3, 4, 5]
        assert [m["seq"] for m in sink.seen] == [1, 2, 3, 4, 5]


async def test_submit_resolves_after_commit_and_delivery(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        assert await log.submit(lane("x", durable(7))) == "x"
        assert sink.numbers == [7]
        assert stored(tmp_path / "a.db") == [(1, '{"n":7}')]


async def test_submit_runs_outside_of_the_loop(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        assert await log.submit(lambda _: (threading.get_ident(), [])) != threading.get_ident()


async def test_a_failing_change_fails_alone(tmp_path: Path) -> None:
    def fail(connection: Connection) -> tuple[None, list[Draft]]:
        connection.execute(insert(tables.lane).values(name="half"))
        raise Conflict("taken")

    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        before, failing, after = log.submit(lane("a", durable(1))), log.submit(fail), log.submit(lane("b", durable(2)))
        with pytest.raises(Conflict, match="taken"):
            await failing
        assert (await before, await after) == ("a", "b")
        assert sink.numbers == [1, 2]
        names = await log.submit(lambda c: (set(c.execute(select(tables.lane.c.name)).scalars()), []))
        assert {"a", "b"} <= names
        assert "half" not in names


async def test_a_change_whose_record_is_not_json_fails_alone(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        bad = log.submit(lane("a", Draft("dispatcher", {"n": object()}, durable=True)))
        good = log.submit(lane("b", durable(1)))
        with pytest.raises(TypeError):
            await bad
        assert await good == "b"


async def test_data_that_is_not_json_is_refused_at_once(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        with pytest.raises(TypeError):
            log.publish(Draft("dispatcher", {"n": object()}, durable=False))


async def test_a_caller_that_gives_up_changes_nothing(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.submit(lane("a", durable(1))).cancel()
        await settle(log)
        assert len(stored(tmp_path / "a.db")) == 1


async def test_every_record_of_a_durable_topic_is_stored(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.publish(volatile(1, "life_preserver"))
        await settle(log)
    assert stored(tmp_path / "a.db") == [(1, '{"n":1}')]


async def test_the_last_record_survives_a_restart(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        assert log.last("system_state") is None
        log.publish(durable(1, "system_state"))
        log.publish(durable(2, "system_state"))
        log.publish(durable(3, "dispatcher"))
        await settle(log)
    async with running_log(tmp_path / "a.db") as log:
        last = log.last("system_state")
        assert last is not None
        assert (last.seq, last.data, last.topic) == (2, {"n": 2}, "system_state")
        assert log.last("dispatcher") is None


async def test_what_was_accepted_before_the_end_is_written(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        futures = [log.submit(lane(f"l{n}", durable(n))) for n in range(100)]
        log.publish(durable(100))
    assert all(future.done() and future.exception() is None for future in futures)
    assert len(stored(tmp_path / "a.db")) == 101


async def test_after_the_end_changes_are_refused(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        pass
    with pytest.raises(Unavailable, match="stopping"):
        log.submit(lane("a"))
    with pytest.raises(Unavailable, match="stopping"):
        log.publish(durable(1))


async def test_seqs_go_on_after_the_reserved_block(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.publish(volatile(1))
        assert log.head == 1
    async with running_log(tmp_path / "a.db") as log:
        log.publish(volatile(1))
        assert log.head == BLOCK + 1


async def test_a_block_is_followed_by_the_next_without_a_pause(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:
        for n in range(BLOCK + 10):
            log.publish(volatile(n))
            if n % 1000 == 999:
                await settle(log)
        await settle(log)
        assert log.head == BLOCK + 10
        reserved = await log.submit(
            lambda c: (c.execute(select(tables.meta.c.value).where(tables.meta.c.key == "seq_reserved")).scalar(), [])
        )
        assert int(reserved or 0) > BLOCK + 10


async def test_a_full_fifo_refuses_changes_and_tells_one_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "PENDING_ENTRIES", 4)
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        log.publish(durable(1))
        for n in (2, 3, 4, 5, 6):
            log.publish(volatile(n))
        with pytest.raises(Unavailable, match="too many changes"):
            log.submit(lane("x"))
        with pytest.raises(Unavailable, match="too many records"):
            log.publish(durable(7))
        await reach(log, 6)
        log.publish(volatile(8))
        await settle(log)
        assert sink.numbers == [1, 2, 3, 4, ("gap", 5, 6, "overflow"), 8]
        assert [m["seq"] for m in sink.seen] == [1, 2, 3, 4, 6, 7]


async def test_the_bytes_of_the_fifo_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "PENDING_BYTES", 100)
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        log.publish(Draft("dispatcher", {"n": 1, "text": "x" * 100}, durable=True))
        log.publish(volatile(2))
        await settle(log)
        log.publish(volatile(3))
        await settle(log)
        assert sink.numbers == [1, ("gap", 2, 2, "overflow"), 3]


async def test_a_database_that_fails_refuses_changes_and_the_log_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        log.publish(durable(1))
        await settle(log)
        other = Store.open(tmp_path / "a.db")
        other.write_now(lambda c: c.exec_driver_sql("ALTER TABLE event RENAME TO hidden"))
        change = log.submit(lane("a", durable(2)))
        log.publish(volatile(3))
        log.publish(durable(4))
        with pytest.raises(Unavailable, match="database cannot be used: no such table: event"):
            await change
        other.write_now(lambda c: c.exec_driver_sql("ALTER TABLE hidden RENAME TO event"))
        other.close()
        assert await log.submit(lane("a", durable(5))) == "a"
        gaps = [n for n in sink.numbers if isinstance(n, tuple)]
        assert [n for n in sink.numbers if not isinstance(n, tuple)] == [1, 3, 5]
        assert [(last - first + 1, cause) for _, first, last, cause in gaps] == [(1, "overflow")]
        assert "was not written" in caplog.text
        assert sorted(m["seq"] for m in sink.seen) == [m["seq"] for m in sink.seen]


async def test_a_record_that_a_dialect_cannot_write_is_logged_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        log.publish(Draft("dispatcher", {"broken": True}, durable=False))
        log.publish(volatile(2))
        await asyncio.sleep(0)
        assert sink.numbers == [2]
        assert "record 1 of topic dispatcher cannot be written" in caplog.text


async def test_changes_of_one_turn_share_a_commit(tmp_path: Path) -> None:
    async with running_log(tmp_path / "a.db") as log:

        def version(connection: Connection) -> int:
            return int(connection.exec_driver_sql("PRAGMA data_version").scalar() or 0)

        watcher = Store.open(tmp_path / "a.db")
        with watcher._readers.connect() as connection:
            version(connection)
            connection.rollback()
            futures = [log.submit(lane(f"l{n}")) for n in range(50)]
            await futures[0]
            connection.rollback()
            count = connection.execute(select(func.count()).select_from(tables.lane)).scalar()
        watcher.close()
        assert count == 50 + len(LANES)


async def test_a_change_is_not_written_when_the_drain_is_over(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db")
    log = EventLog(store, node="here", limits=Limits(drain=0.05))
    release = threading.Event()

    def slow(_: Connection) -> tuple[None, list[Draft]]:
        release.wait(5)
        return None, []

    async with anyio.create_task_group() as tasks:
        await tasks.start(log.run)
        log.submit(slow)
        await asyncio.sleep(0.01)
        late = log.submit(lane("late"))
        tasks.cancel_scope.cancel()
    with pytest.raises(Unavailable, match="stopped before"):
        await late
    release.set()
    await asyncio.sleep(0.05)
    store.close()


async def test_without_a_reservation_no_number_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "BLOCK", 8)
    monkeypatch.setattr(writer_module, "BLOCK", 8)
    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), sink := TestSink())
        other = Store.open(tmp_path / "a.db")
        other.write_now(lambda c: c.exec_driver_sql("ALTER TABLE meta RENAME TO hidden"))
        for n in range(1, 21):
            log.publish(volatile(n))
            with suppress(Unavailable):
                await settle(log)
        before = len(sink.seen)
        assert 0 < before < 20
        assert max(m["seq"] for m in sink.seen) <= 8
        other.write_now(lambda c: c.exec_driver_sql("ALTER TABLE hidden RENAME TO meta"))
        other.close()
        log.publish(durable(21))
        await settle(log)
        (gap, first, last, cause), number = sink.numbers[before:]
        assert (gap, last - first + 1, cause, number) == ("gap", 20 - before, "overflow", 21)
        seqs = [m["seq"] for m in sink.seen]
        assert seqs == sorted(set(seqs))


async def test_a_scope_that_fails_takes_nothing_from_those_who_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(TestScope):
        __hash__ = object.__hash__

        def may_job(self, name: str, right: str) -> bool:
            raise RuntimeError("no answer")

    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(scope=Broken()), TestSink())
        assert await log.submit(lane("a", durable(1, permission="job"), durable(2))) == "a"
        assert log.head == 2
        assert "record 1 of topic dispatcher did not reach everybody" in caplog.text


async def test_a_sink_that_cannot_even_be_closed_ends_alone(tmp_path: Path) -> None:
    class Broken(TestSink):
        def writable(self) -> bool:
            raise OSError("gone")

        def overflow_close(self, reason: str) -> None:
            raise OSError("gone")

    async with running_log(tmp_path / "a.db") as log:
        log.subscribe(spec(), Broken())
        log.subscribe(spec(), sink := TestSink())
        log.publish(volatile(1))
        await asyncio.sleep(0)
        assert sink.numbers == [1]
        assert log.followers == 1


async def test_a_change_that_hangs_in_the_disk_at_the_end_is_answered(tmp_path: Path) -> None:
    hang = threading.Event()

    def write(_connection: Connection) -> tuple[None, list[Draft]]:
        hang.wait(10)
        return None, []

    async with running_log(tmp_path / "a.db", replace(Limits(), drain=0.05)) as log:
        change = log.submit(write)
        await asyncio.sleep(0.02)
        asyncio.get_running_loop().call_later(0.5, hang.set)
    with pytest.raises(Unavailable, match="it may be stored"):
        await asyncio.wait_for(change, 1)


def test_batches_that_fail_are_complained_of_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    times = iter((0.0, 1.0, 9.0, 10.5, 11.0))
    complaint = Complaint(lambda: next(times))
    for _ in range(5):
        complaint.about(OSError("disk full"), 2)
    complaint.ended()
    complaint.ended()
    assert [record.getMessage() for record in caplog.records] == [
        "a batch of 2 entries was not written",
        "4 batches of 8 entries were not written: disk full",
        "the database is written again, after 5 batches that were not",
    ]


async def test_a_reservation_that_fails_is_not_tried_again_for_each_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_log(tmp_path / "a.db") as log:
        handed: list[int] = []
        monkeypatch.setattr(log, "_hand_over", lambda: handed.append(log._next))
        log._next = log._reserved - BLOCK // 2 + 1
        for n in range(3000):
            log.publish(volatile(n))
        assert len(handed) == 3
