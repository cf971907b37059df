"""Statements that run some hundred times a second, without what SQLAlchemy does for each row.

SQLAlchemy turns every row of an executemany into parameters by name, type by type: measured, twice the time that
SQLite needs for the row; and compiling an insert takes as long as six rows. Here a Core statement is compiled once for
each dialect, and rows come as tuples in the order of its names, of plain values: a Json column must come as text. The
statement stays Core, so tables and both databases are the same as everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Insert, Update
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError


class Prepared:
    """An insert or update of many rows. `names` are its bound parameters in the order of a row's values."""

    def __init__(self, statement: Insert | Update, names: Sequence[str]) -> None:
        self._statement, self._names = statement, tuple(names)
        self._compiled: dict[str, tuple[str, itemgetter[Any] | None]] = {}

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run it for the rows, if there are any, and say how many rows of the table were touched."""
        if not rows:
            return 0
        dialect = connection.dialect
        text, order = self._compiled.get(dialect.name) or self._compile(dialect)
        ordered = (
            [dict(zip(self._names, row, strict=True)) for row in rows] if order is None else list(map(order, rows))
        )
        # The driver's cursor, in the transaction that the connection has begun: what SQLAlchemy does around it takes as
        # long as SQLite does for five rows.
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(text, ordered)
            return cursor.rowcount
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(text, None, error, dialect.loaded_dbapi.Error) from error
        finally:
            cursor.close()

    def _compile(self, dialect: Dialect) -> tuple[str, itemgetter[Any] | None]:
        """The text, and what puts a row's values into its order; None where the driver takes parameters by name."""
        compiled = self._statement.compile(dialect=dialect)
        places = getattr(compiled, "positiontup", None)
        order = None if places is None else itemgetter(*map(self._names.index, places))
        self._compiled[dialect.name] = str(compiled), order
        return self._compiled[dialect.name]


def encode(value: Any) -> str | None:
    """A JSON value as its column keeps it (store.types.Json); None is SQL NULL."""
    return None if value is None else msgspec.json.encode(value).decode()
