"""Prepared statements mean the same as SQLAlchemy's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from sysadmd.store import Store, tables
from sysadmd.store.prepared import Prepared

COLUMNS = [column.name for column in tables.event.columns]
ROWS = [(1, 1.5, "dispatcher", None, "{}"), (2, 2.5, "bridge", "dispatcher.a", '{"a":"\u00e4"}')]


def prepared() -> Prepared:
    return Prepared(insert(tables.event), COLUMNS)


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db")
    statement = prepared()
    assert store.write_now(lambda c: statement.run(c, ROWS)) == 2
    assert store.write_now(lambda c: statement.run(c, [])) == 0
    assert store.read_now(lambda c: c.execute(select(tables.event)).all()) == ROWS
    store.close()


def test_a_refused_row_is_sqlalchemys_error(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db")
    with pytest.raises(IntegrityError, match="UNIQUE"):
        store.write_now(lambda c: prepared().run(c, [ROWS[0], ROWS[0]]))
    assert store.read_now(lambda c: c.execute(select(tables.event)).all()) == []
    store.close()


def test_named_parameters_are_used_where_the_driver_wants_them() -> None:
    sent: list[tuple[str, Any]] = []

    class Cursor:
        rowcount = 2

        def executemany(self, statement: str, parameters: Any) -> None:
            sent.append((statement, parameters))

        def close(self) -> None:
            pass

    class Driver:
        cursor = Cursor

    class Connection:
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        connection: ClassVar[Any] = Driver()

    dialect: Any = Connection.dialect
    dialect.loaded_dbapi = type("Dbapi", (), {"Error": RuntimeError})
    if insert(tables.event).compile(dialect=dialect).positional:
        pytest.skip("this SQLAlchemy has no PostgreSQL dialect with named parameters")
    prepared().run(Connection(), ROWS)  # type: ignore[arg-type]
    assert sent[0][1][1] == {
        "seq": 2, "time": 2.5, "topic": "bridge", "permission": "dispatcher.a", "data": '{"a":"\u00e4"}',
    }  # fmt: skip
