"""The audit trail of a running server: what is recorded, when it is durable, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection

from sysadmd.auth import audit as module
from sysadmd.auth import audit_table, flood
from sysadmd.auth.audit import Audit, verify_store
from sysadmd.auth.audit_key import KEY_FILE, PUBLIC_FILE, public_bytes, read_public_key, signing_key
from sysadmd.auth.chain import Checkpoint, Row, is_signed
from sysadmd.auth.identity import Peer
from sysadmd.errors import StateError, Unavailable
from sysadmd.events.log import EventLog
from sysadmd.limits import Limits
from sysadmd.store import Store
from tests.unit.auth.doubles import Clock, DirectLog

PEER = Peer("192.0.2.7", "tcp")


class Rig:
    """A trail on a database in `directory`, over a log that a test controls."""

    def __init__(self, directory: Path, writer: Any = None) -> None:
        self.directory, self.clock, self.monotonic = directory, Clock(), Clock()
        self.store = Store.open(directory / "sysadmd.db")
        self.writer: Any = writer(self.store) if writer else DirectLog(self.store)
        self.audit = Audit(
            self.store, self.writer, node="n", key_dir=directory, clock=self.clock, monotonic=self.monotonic
        )

    def rows(self) -> list[Row]:
        return self.store.read_now(lambda connection: list(audit_table.read_rows(connection)))

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(row.record) for row in self.rows()]

    def checkpoints(self) -> list[Checkpoint]:
        return self.store.read_now(audit_table.read_checkpoints)

    def ok(self) -> bool:
        return verify_store(self.store, self.directory).ok


class HeldLog:
    """Takes changes and keeps them until a test commits or refuses them, as the log does while the disk is busy."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.held: list[tuple[Callable[[Connection], Any], asyncio.Future[Any]]] = []

    def submit(self, write: Callable[[Connection], tuple[Any, Sequence[Any]]]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.held.append((write, future))
        return future

    def commit(self) -> None:
        held, self.held = self.held, []
        for write, future in held:
            future.set_result(self.store.write_now(write)[0])

    def fail(self) -> None:
        """The whole batch fails before any change of it runs (the disk is full, say)."""
        held, self.held = self.held, []
        for _, future in held:
            future.set_exception(Unavailable("the disk is full"))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, HeldLog)
    yield made
    made.store.close()


@asynccontextmanager
async def on_the_log(directory: Path) -> AsyncIterator[tuple[Rig, EventLog]]:
    rig = Rig(directory, lambda store: EventLog(store, node="n", limits=Limits()))
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(rig.writer.run)
            yield rig, rig.writer
            tasks.cancel_scope.cancel()
    finally:
        rig.store.close()


# What is recorded


async def test_a_record_says_when_what_where_who_and_from_where(rig: Rig) -> None:
    await rig.audit.record("call", account="ann", peer=PEER, session="s1", method="a/b", args={"x": 1})
    assert rig.records() == [
        {
            "time": rig.clock.now,
            "kind": "call",
            "node": "n",
            "account": "ann",
            "address": "192.0.2.7",
            "via": "tcp",
            "session": "s1",
            "method": "a/b",
            "args": {"x": 1},
        }
    ]


@pytest.mark.parametrize(
    "value,written",
    [("\ud800", "\ud800"), (2**70, 2**70), (Path("/x"), "/x"), (float("nan"), None), (b"\xff", "/w==")],
)
async def test_a_value_that_is_no_json_is_recorded_all_the_same(rig: Rig, value: Any, written: Any) -> None:
    await rig.audit.record("call", value=value)
    assert rig.records()[0]["value"] == written
    assert rig.ok()


async def test_records_keep_their_order_across_groups_and_restarts(tmp_path: Path) -> None:
    for start in (0, 100):
        async with on_the_log(tmp_path) as (rig, _):
            futures = []
            for n in range(start, start + 100):
                futures.append(rig.audit.record("call", n=n))
                if not n % 7:
                    await futures[-1]
            await asyncio.gather(*futures)
    again = Rig(tmp_path)
    assert [record["n"] for record in again.records()] == list(range(200))
    assert again.ok()
    again.store.close()


async def test_records_of_one_turn_share_one_change_of_the_log(rig: Rig, held: Rig) -> None:
    futures = [held.audit.record("call", n=n) for n in range(5)]
    assert len(held.writer.held) == 1
    held.writer.commit()
    await asyncio.gather(*futures)
    assert len(held.rows()) == 5


async def test_a_record_is_written_no_later_than_a_change_that_is_submitted_after_it(tmp_path: Path) -> None:
    async with on_the_log(tmp_path) as (rig, log):
        for n in range(20):
            rig.audit.record("call", n=n)

            def count(connection: Connection) -> tuple[int, Sequence[Any]]:
                return audit_table.read_head(connection)[0], ()

            assert await log.submit(count) == n + 1


async def test_a_future_is_done_only_when_the_record_is_in_the_database(held: Rig) -> None:
    future = held.audit.record("login", account="ann")
    await asyncio.sleep(0)
    assert not future.done()
    held.writer.commit()
    await future
    assert len(held.rows()) == 1


async def test_a_waiter_that_is_cancelled_takes_no_record_with_it(held: Rig) -> None:
    futures = [held.audit.record("login", n=n) for n in range(2)]
    task = asyncio.create_task(asyncio.wait_for(asyncio.shield(futures[0]), 5))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    held.writer.commit()
    await futures[1]
    assert [record["n"] for record in held.records()] == [0, 1]


# When it cannot be written


async def test_a_full_log_refuses_the_record_without_an_exception(rig: Rig) -> None:
    rig.writer.full = True
    future = rig.audit.record("call")
    with pytest.raises(Unavailable):
        await future
    rig.writer.full = False
    await rig.audit.record("call", n=2)
    assert [record.get("n") for record in rig.records()] == [2]
    assert rig.ok()


async def test_a_record_that_was_not_written_is_told_to_who_waits(rig: Rig) -> None:
    rig.writer.error = Unavailable("the disk is full")
    with pytest.raises(Unavailable, match="the disk is full"):
        await rig.audit.record("call")


async def test_after_a_failure_records_are_refused_until_one_was_written(rig: Rig) -> None:
    """That one is tried: else nothing would ever tell that the disk is well again."""
    rig.writer.error = Unavailable("the disk is full")
    await asyncio.wait([rig.audit.record("call", n=1)])
    rig.writer.error = None
    probe = rig.audit.record("call", n=2)
    assert probe.done()
    assert isinstance(probe.exception(), Unavailable)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await rig.audit.record("call", n=3)
    assert [record["n"] for record in rig.records()] == [2, 3]


async def test_a_batch_that_fails_before_its_changes_run_ends_nothing_for_later_records(held: Rig) -> None:
    lost = held.audit.record("call", n=1)
    held.writer.fail()
    with pytest.raises(Unavailable):
        await lost
    held.audit.record("call", n=2)
    assert len(held.writer.held) == 1
    held.writer.commit()
    await asyncio.sleep(0)
    last = held.audit.record("call", n=3)
    held.writer.commit()
    await last
    assert [record["n"] for record in held.records()] == [2, 3]


async def test_one_record_too_many_for_a_slow_disk_is_refused_and_not_kept(
    held: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PENDING_RECORDS", 3)
    futures = [held.audit.record("call", n=n) for n in range(4)]
    assert isinstance(futures[3].exception(), Unavailable)
    held.writer.commit()
    await asyncio.gather(*futures[:3])
    assert [record["n"] for record in held.records()] == [0, 1, 2]


async def test_a_head_that_somebody_spoiled_refuses_every_record(rig: Rig) -> None:
    await rig.audit.record("call")
    rig.store.write_now(lambda c: c.exec_driver_sql("update meta set value = 'x' where key = 'audit_head'"))
    with pytest.raises(StateError, match="head"):
        await rig.audit.record("call")
    verdict = verify_store(rig.store, rig.directory)
    assert (verdict.first_bad, verdict.ok) == (1, False)


# Checkpoints


async def test_a_checkpoint_signs_the_newest_record(rig: Rig) -> None:
    for n in range(3):
        rig.audit.record("call", n=n)
    await rig.audit.checkpoint()
    (one,) = rig.checkpoints()
    public = read_public_key(rig.directory / PUBLIC_FILE)
    assert public is not None
    assert (one.seq, one.hash, one.time) == (3, rig.rows()[2].hash, rig.clock.now)
    assert is_signed(public, one)
    assert rig.ok()


async def test_nothing_new_is_not_signed_again(rig: Rig) -> None:
    await rig.audit.checkpoint()
    rig.audit.record("call")
    await rig.audit.checkpoint()
    await rig.audit.checkpoint()
    assert [one.seq for one in rig.checkpoints()] == [1]


async def test_what_was_recorded_while_a_checkpoint_was_made_is_signed_by_the_next(held: Rig) -> None:
    held.audit.record("call", n=1)
    task = asyncio.create_task(held.audit.checkpoint())
    await asyncio.sleep(0)
    held.writer.commit()
    while not held.writer.held:
        await asyncio.sleep(0.001)
    late = held.audit.record("call", n=2)
    held.writer.commit()
    await asyncio.gather(task, late)
    task = asyncio.create_task(held.audit.checkpoint())
    while not held.writer.held:
        await asyncio.sleep(0.001)
    held.writer.commit()
    await task
    assert [one.seq for one in held.checkpoints()] == [1, 2]


async def test_after_so_many_records_the_head_is_signed_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_RECORDS", 10)
    async with on_the_log(tmp_path) as (rig, _), anyio.create_task_group() as tasks:
        await tasks.start(partial(rig.audit.run, version="v"))
        for n in range(9):
            rig.audit.record("call", n=n)
        with anyio.fail_after(10):
            while not rig.checkpoints():
                await anyio.sleep(0.01)
        assert rig.checkpoints()[0].seq == 10
        tasks.cancel_scope.cancel()


async def test_a_run_records_start_and_stop_and_signs_the_stop(tmp_path: Path) -> None:
    async with on_the_log(tmp_path) as (rig, _), anyio.create_task_group() as tasks:
        await tasks.start(partial(rig.audit.run, version="v"))
        tasks.cancel_scope.cancel()
    again = Rig(tmp_path)
    assert [record["kind"] for record in again.records()] == ["start", "stop"]
    assert again.records()[0]["version"] == "v"
    assert [one.seq for one in again.checkpoints()] == [2]
    assert again.ok()
    again.store.close()


@pytest.mark.parametrize("damage", ["key", "head", "disk"])
async def test_a_checkpoint_that_cannot_be_made_is_tried_again(rig: Rig, damage: str) -> None:
    rig.audit.record("call")
    if damage == "key":
        (rig.directory / KEY_FILE).write_text("no key")
    elif damage == "head":
        rig.store.write_now(lambda c: c.exec_driver_sql("update meta set value = '!' || value where key='audit_head'"))
    else:
        rig.writer.full = True
    await rig.audit.checkpoint()
    assert rig.checkpoints() == []
    (rig.directory / KEY_FILE).unlink(missing_ok=True)
    rig.store.write_now(lambda c: c.exec_driver_sql("update meta set value=trim(value,'!') where key='audit_head'"))
    rig.writer.full = False
    await rig.audit.checkpoint()
    assert [one.seq for one in rig.checkpoints()] == [1]


async def test_a_checkpoint_is_also_a_line_of_the_log_that_can_be_checked_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(module.log, "info", lambda event, **fields: lines.append({"event": event, **fields}))
    rig.audit.record("call")
    await rig.audit.checkpoint()
    (line,) = lines
    public = read_public_key(rig.directory / PUBLIC_FILE)
    assert public is not None
    assert is_signed(public, Checkpoint(line["seq"], line["hash"], line["at"], line["key"], line["signature"]))


# The key


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert public_bytes(signing_key(tmp_path)) == public_bytes(key) == read_public_key(tmp_path / PUBLIC_FILE)


def test_a_public_key_that_is_missing_is_written_again(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    (tmp_path / PUBLIC_FILE).unlink()
    signing_key(tmp_path)
    assert read_public_key(tmp_path / PUBLIC_FILE) == public_bytes(key)


def test_a_new_key_does_not_keep_the_public_half_of_the_old_one(tmp_path: Path) -> None:
    old = signing_key(tmp_path)
    (tmp_path / KEY_FILE).unlink()
    assert public_bytes(signing_key(tmp_path)) == read_public_key(tmp_path / PUBLIC_FILE) != public_bytes(old)


@pytest.mark.parametrize("content", ["", "not base64!", "AAAA"])
def test_a_file_that_holds_no_public_key_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / PUBLIC_FILE).write_text(content)
    with pytest.raises(StateError, match=PUBLIC_FILE):
        read_public_key(tmp_path / PUBLIC_FILE)


def test_a_key_of_another_kind_is_named(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    other = X25519PrivateKey.generate().private_bytes(encoding, form, serialization.NoEncryption())
    (tmp_path / KEY_FILE).write_bytes(other)
    with pytest.raises(StateError, match="not an Ed25519 key"):
        signing_key(tmp_path)


async def test_checkpoints_without_the_public_key_are_not_called_good(rig: Rig) -> None:
    rig.audit.record("call")
    await rig.audit.checkpoint()
    (rig.directory / PUBLIC_FILE).unlink()
    with pytest.raises(StateError, match=PUBLIC_FILE):
        verify_store(rig.store, rig.directory)


# What strangers cause


@pytest.mark.parametrize("kind", ["refused", "login_failed"])
async def test_what_one_address_causes_is_bounded_and_the_rest_is_counted(rig: Rig, kind: str) -> None:
    for _ in range(int(flood.BURST) + 30):
        rig.audit.record(kind, peer=PEER)
    rig.audit.record(kind, peer=Peer("198.51.100.9", "tcp"))
    await rig.audit.checkpoint()
    records = rig.records()
    assert [record["kind"] for record in records] == [kind] * int(flood.BURST + 1) + ["suppressed"]
    assert records[-1]["counts"] == {kind: 30}
    rig.monotonic.now += 2.0
    for _ in range(100):
        rig.audit.record(kind, peer=PEER)
    await rig.audit.checkpoint()
    assert len(rig.records()) == len(records) + 2 * flood.RATE + 1
    assert rig.records()[-1]["counts"] == {kind: 90}


async def test_refusals_do_not_hide_log_ins_that_failed(held: Rig) -> None:
    for _ in range(300):
        held.audit.record("refused", peer=PEER)
    held.audit.record("login_failed", peer=PEER)
    held.writer.commit()
    assert held.records()[-1]["kind"] == "login_failed"


async def test_many_addresses_together_are_bounded_too(held: Rig) -> None:
    for n in range(3000):
        held.audit.record("login_failed", peer=Peer(f"10.{n >> 8}.{n & 255}.1", "tcp"))
    held.writer.commit()
    assert len(held.records()) == flood.TOTAL * flood.BURST


async def test_the_prefixes_that_are_remembered_are_bounded() -> None:
    some = flood.Flood(Clock())
    for n in range(flood.BUCKETS * 2):
        some.admits(str(n), "refused")
    assert len(some._buckets) == flood.BUCKETS


async def test_what_the_server_does_for_its_own_accounts_is_never_suppressed(held: Rig) -> None:
    for _ in range(300):
        held.audit.record("call", account="ann", peer=PEER)
        held.audit.record("login", account="ann", peer=PEER)
    held.writer.commit()
    assert len(held.rows()) == 600


# Reading


async def test_list_pages_and_filters(rig: Rig) -> None:
    for n in range(5):
        rig.audit.record("call" if n % 2 else "login", account="ann" if n < 3 else "bob", n=n)
    first = await rig.audit.list(limit=2)
    assert ([one["seq"] for one in first["records"]], first["next"]) == ([1, 2], 3)
    rest = await rig.audit.list(since=3)
    assert ([one["n"] for one in rest["records"]], rest["next"]) == ([2, 3, 4], None)
    assert [one["n"] for one in (await rig.audit.list(kind="call"))["records"]] == [1, 3]
    assert [one["n"] for one in (await rig.audit.list(account="bob"))["records"]] == [3, 4]


async def test_verify_names_what_sql_did_to_a_running_servers_trail(rig: Rig) -> None:
    for n in range(5):
        rig.audit.record("call", n=n)
    with sqlite3.connect(rig.store.path) as database:
        database.execute("update audit set record = '{}' where seq = 4")
    verdict = await rig.audit.verify()
    assert (verdict.records, verdict.first_bad) == (3, 4)
