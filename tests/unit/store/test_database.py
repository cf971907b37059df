"""The database file: modes, transactions, readers, backup."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from sysadmd.errors import StateError
from sysadmd.store import Store, tables
from sysadmd.store.rows import NOBODY, get_meta, put_meta


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "sysadmd.db")
    yield store
    store.close()


def lanes(connection: Connection) -> set[str]:
    return set(connection.execute(select(tables.lane.c.name)).scalars())


def add_lane(connection: Connection) -> None:
    connection.execute(insert(tables.lane).values(name="extra"))


def new_job(**values: object) -> dict[str, object]:
    return {
        "id": "a" * 24, "seq": 1, "ext_id": "p1", "kind": "command", "name": "dispatcher.no_queue", "lane": "no_queue",
        "owner": "root", "args": {}, "state": "pending", "log_uid": "u", "created_at": 1.0,
    } | values  # fmt: skip


def event(seq: int, data: str) -> dict[str, object]:
    return {"seq": seq, "time": 1.0, "topic": "dispatcher", "permission": None, "data": data}


def test_only_the_owner_can_read_the_database(store: Store) -> None:
    store.write_now(add_lane)
    files = list(store.path.parent.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {file.name for file in files} >= {"sysadmd.db", "sysadmd.db-wal"}


def test_every_commit_reaches_the_disk(store: Store) -> None:
    with store.transaction() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    def fail(connection: Connection) -> None:
        add_lane(connection)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        store.write_now(fail)
    assert "extra" not in store.read_now(lanes)


def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(OperationalError, match="readonly"):
        store.read_now(add_lane)


async def test_read_runs_beside_a_write(store: Store) -> None:
    with store.transaction() as connection:
        add_lane(connection)
        assert "extra" not in await store.read(lanes)
    assert "extra" in await store.read(lanes)


async def test_read_runs_in_a_worker_thread(store: Store) -> None:
    assert await store.read(lambda _: threading.get_ident()) != threading.get_ident()


def test_a_reader_sees_one_state_throughout(store: Store) -> None:
    def twice(connection: Connection) -> tuple[int | None, int | None]:
        count = select(func.count()).select_from(tables.lane)
        first = connection.execute(count).scalar()
        store.write_now(add_lane)
        return first, connection.execute(count).scalar()

    first, second = store.read_now(twice)
    assert first == second


def test_meta_values_are_replaced(store: Store) -> None:
    store.write_now(lambda c: put_meta(c, "k", "1"))
    store.write_now(lambda c: put_meta(c, "k", "2"))
    assert store.read_now(lambda c: (get_meta(c, "k"), get_meta(c, "none"))) == ("2", None)


def test_the_epoch_lasts_until_it_is_renewed(store: Store) -> None:
    again = Store.open(store.path)
    assert again.epoch == store.epoch
    again.new_epoch()
    again.close()
    other = Store.open(store.path)
    assert other.epoch == again.epoch != store.epoch
    other.close()


def test_a_live_process_id_is_unique_and_a_final_one_is_free(store: Store) -> None:
    store.write_now(lambda c: c.execute(insert(tables.job).values(**new_job(state="complete"))))
    store.write_now(lambda c: c.execute(insert(tables.job).values(**new_job(id="b" * 24, seq=2))))
    with pytest.raises(IntegrityError, match="ext_id"):
        store.write_now(lambda c: c.execute(insert(tables.job).values(**new_job(id="c" * 24, seq=3, state="failed"))))


def test_json_columns_come_back_as_they_went_in(store: Store) -> None:
    args = {"text": "päth\n", "list": [1, 2.5, None, True]}
    store.write_now(lambda c: c.execute(insert(tables.job).values(**new_job(args=args))))
    row = store.read_now(lambda c: c.execute(select(tables.job.c.args, tables.job.c.last_error)).one())
    assert row == (args, None)


def test_backup_copies_a_live_database(store: Store, tmp_path: Path) -> None:
    store.write_now(add_lane)
    seen: list[tuple[int, int]] = []
    store.backup(tmp_path / "copy.db", lambda left, total: seen.append((left, total)))
    assert seen[-1][0] == 0
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    copy = Store.open(tmp_path / "copy.db")
    assert "extra" in copy.read_now(lanes)
    assert copy.epoch == store.epoch
    copy.close()


def test_a_backup_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"nowhere/copy\.db"):
        store.backup(tmp_path / "nowhere" / "copy.db")
    (tmp_path / "dir").mkdir()
    with pytest.raises(StateError):
        store.backup(tmp_path / "dir")
    assert not list(tmp_path.glob("*.part"))


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"flowers " * 1000)
    with pytest.raises(StateError, match=r"a\.db: file is not a database"):
        Store.open(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"nowhere/a\.db: No such file or directory"):
        Store.open(tmp_path / "nowhere" / "a.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_read_only_file_is_named(tmp_path: Path) -> None:
    Store.open(tmp_path / "a.db").close()
    (tmp_path / "a.db").chmod(0o400)
    with pytest.raises(StateError, match=r"a\.db: Permission denied"):
        Store.open(tmp_path / "a.db")


def test_a_backup_ends_beside_a_server_that_writes_all_the_time(store: Store, tmp_path: Path) -> None:
    with store.transaction() as connection:
        connection.execute(insert(tables.event), [event(seq, "x" * 4000) for seq in range(9000)])
    steps: list[int] = []

    def write(left: int, _total: int) -> None:
        steps.append(left)
        assert len(steps) < 20, "it began anew"
        store.write_now(lambda c: c.execute(insert(tables.event), event(10_000 + len(steps), "late")))

    store.backup(tmp_path / "copy.db", write)
    assert len(steps) > 3
    copy = Store.open(tmp_path / "copy.db")
    assert copy.read_now(lambda c: c.execute(select(func.max(tables.event.c.seq))).scalar()) == 8999
    copy.close()


def test_a_backup_follows_no_link_that_somebody_laid(store: Store, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "copy.db.part").symlink_to(tmp_path / "precious")
    store.backup(tmp_path / "copy.db")
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_new_epoch_disowns_open_attempts_and_reuses_no_attempt_name(store: Store) -> None:
    add: dict[Table, list[dict[str, Any]]] = {
        tables.job: [new_job()],
        tables.step: [
            {"job_id": "a" * 24, "idx": idx, "stage": idx, "type": "command", "spec": {}, "state": state}
            for idx, state in enumerate(["ok", "running", "waiting"])
        ],
        tables.attempt: [
            {"job_id": "a" * 24, "idx": idx, "n": 1, "worker_id": "i", "host": "h", "lease_id": "l", "created_at": 1.0,
             "outcome": outcome}
            for idx, outcome in enumerate(["ok", None])
        ],
    }  # fmt: skip
    for table, values in add.items():
        with store.transaction() as connection:
            connection.execute(insert(table), values)
    store.new_epoch()
    owners = select(tables.attempt.c.worker_id).order_by(tables.attempt.c.idx)
    assert store.read_now(lambda c: c.execute(owners).scalars().all()) == ["i", NOBODY]
    used = select(tables.step.c.tries_used).order_by(tables.step.c.idx)
    first, second, third = store.read_now(lambda c: c.execute(used).scalars().all())
    assert (first, second) == (0, 0)
    assert third > 0


def test_a_new_epoch_gives_the_steps_of_the_queue_new_numbers_and_the_tries_they_had(store: Store) -> None:
    states = ["ok", "running", "waiting", "retry"]
    same = {"job_id": "a" * 24, "stage": 0, "type": "task", "spec": {}, "tries_used": 1, "starts": 1}
    rows = [{**same, "idx": idx, "state": state} for idx, state in enumerate(states)]
    with store.transaction() as connection:
        connection.execute(insert(tables.job), [new_job()])
        connection.execute(insert(tables.step), rows)
    store.new_epoch()
    wanted = select(tables.step.c.starts, tables.step.c.tries_used).order_by(tables.step.c.idx)
    found = store.read_now(lambda c: c.execute(wanted).all())
    assert [used for _, used in found] == [1, 1, 1, 1]
    assert found[0].starts == 1
    assert all(row.starts > 1 for row in found[1:])
