"""Many rows in one statement, for the one place where the cost of a row counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows that hold every column of the table, in its order, as the driver wants them.

    SQLAlchemy's own executemany builds a dictionary and a tuple for each row, which is half of an insert's time here.
    The statement is still its own; values are not converted, so a Json column must come as text.
    """
    if not rows:
        return
    compiled = insert(table).compile(dialect=connection.dialect)
    if compiled.positional:
        connection.exec_driver_sql(str(compiled), list(rows))
    else:
        names = [column.name for column in table.columns]
        connection.exec_driver_sql(str(compiled), [dict(zip(names, row, strict=True)) for row in rows])
