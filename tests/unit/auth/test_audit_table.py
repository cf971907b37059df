"""The audit trail in the database."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from sysadmd.auth import audit_table
from sysadmd.auth.audit import verify_store
from sysadmd.auth.chain import GENESIS, Checkpoint, Row
from sysadmd.errors import StateError
from sysadmd.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "sysadmd.db")
    yield opened
    opened.close()


def append(store: Store, *texts: str) -> int:
    return store.write_now(lambda connection: audit_table.append(connection, texts))


def rows(store: Store, start: int = 1) -> list[Row]:
    return store.read_now(lambda connection: list(audit_table.read_rows(connection, start)))


def sql(store: Store, statement: str) -> Any:
    return store.write_now(lambda connection: connection.exec_driver_sql(statement).rowcount)


def test_an_empty_trail_has_the_head_that_the_first_record_follows(store: Store) -> None:
    assert store.read_now(audit_table.read_head) == (0, GENESIS)
    assert append(store, "a") == 1
    assert rows(store)[0].previous == GENESIS


def test_what_is_appended_follows_what_is_there(store: Store) -> None:
    assert append(store, "a", "b") == 2
    assert append(store) == 2
    assert append(store, "c") == 3
    assert [(row.seq, row.record) for row in rows(store)] == [(1, "a"), (2, "b"), (3, "c")]
    assert store.read_now(audit_table.read_head) == (3, rows(store)[-1].hash)
    assert verify_store(store, store.path.parent).ok


def test_a_transaction_that_fails_leaves_rows_and_head_as_they_were(store: Store) -> None:
    append(store, "a")

    def fail(connection: Connection) -> None:
        audit_table.append(connection, ["b"])
        raise ValueError

    with pytest.raises(ValueError):
        store.write_now(fail)
    assert append(store, "c") == 2
    assert verify_store(store, store.path.parent).ok


def test_rows_are_read_in_pages_from_any_number(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_table, "PAGE", 3)
    append(store, *map(str, range(10)))
    assert [row.record for row in rows(store)] == [str(n) for n in range(10)]
    assert [row.seq for row in rows(store, 8)] == [8, 9, 10]
    assert rows(store, 11) == []


def test_bytes_that_are_no_text_are_a_changed_record_like_another(store: Store) -> None:
    append(store, *map(str, range(10)))
    sql(store, "update audit set record = cast(x'ff' as text) where seq = 6")
    assert [row.seq for row in rows(store)] == list(range(1, 11))
    verdict = verify_store(store, store.path.parent)
    assert (verdict.first_bad, verdict.reason) == (6, "changed: its text does not give its hash")


@pytest.mark.parametrize("value", ["", "x", "3:", ":" + "0" * 64, "-1:" + "0" * 64, "3:xyz"])
def test_a_head_that_is_none_is_said(store: Store, value: str) -> None:
    append(store, "a")
    sql(store, f"update meta set value = '{value}' where key = 'audit_head'")
    if not value:
        assert store.read_now(audit_table.read_head) == (0, GENESIS)
        return
    with pytest.raises(StateError, match="head"):
        store.read_now(audit_table.read_head)
    with pytest.raises(StateError, match="head"):
        append(store, "b")
    assert not verify_store(store, store.path.parent).ok


def test_a_record_has_one_checkpoint(store: Store) -> None:
    first, second = Checkpoint(1, "h", 1.0, "k", "s"), Checkpoint(1, "h", 2.0, "k", "s")
    for one in (first, second):
        store.write_now(partial(audit_table.add_checkpoint, one=one))
    assert store.read_now(audit_table.read_checkpoints) == [first]


def test_a_search_that_finds_nothing_ends_and_says_where_to_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_table, "PAGE", 2)
    append(store, *(['{"kind": "a"}'] * 9), '{"kind": "b"}')

    def find(since: int) -> tuple[list[dict[str, Any]], int | None]:
        return store.read_now(lambda connection: audit_table.find(connection, since=since, limit=2, kind="b"))

    assert find(1) == ([], 5)
    assert find(5) == ([], 9)
    found, following = find(9)
    assert ([one["seq"] for one in found], following) == ([10], None)


@pytest.mark.parametrize("text", ["no json", "[1]", '"x"'])
def test_what_somebody_made_of_a_record_is_shown(store: Store, text: str) -> None:
    append(store, text)
    found, _ = store.read_now(lambda connection: audit_table.find(connection, since=1, limit=1))
    assert found == [{"seq": 1, "text": text, "hash": rows(store)[0].hash}]
