"""Bulk inserts mean the same as SQLAlchemy's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql

from sysadmd.store import Store, tables
from sysadmd.store.bulk import insert_rows

ROWS = [(1, 1.5, "dispatcher", None, "{}"), (2, 2.5, "bridge", "dispatcher.a", '{"a":"\u00e4"}')]


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db")
    store.write_now(lambda c: insert_rows(c, tables.event, ROWS))
    store.write_now(lambda c: insert_rows(c, tables.event, []))
    assert store.read_now(lambda c: c.execute(select(tables.event)).all()) == ROWS
    store.close()


def test_named_parameters_are_used_where_the_driver_wants_them() -> None:
    sent: list[tuple[str, Any]] = []

    class Connection:
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

        def exec_driver_sql(self, statement: str, parameters: Any) -> None:
            sent.append((statement, parameters))

    connection = Connection()
    compiled = insert(tables.event).compile(dialect=connection.dialect)
    if compiled.positional:
        pytest.skip("this SQLAlchemy has no PostgreSQL dialect with named parameters")
    insert_rows(connection, tables.event, ROWS)  # type: ignore[arg-type]
    assert sent[0][1][1] == {
        "seq": 2, "time": 2.5, "topic": "bridge", "permission": "dispatcher.a", "data": '{"a":"\u00e4"}',
    }  # fmt: skip
