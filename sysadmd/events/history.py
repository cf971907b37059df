"""Pages of stored records, for whoever looks back instead of following."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, and_, cast, func, select, type_coerce

from sysadmd.events.record import Record, record_of
from sysadmd.store.tables import event


def count(connection: Connection, topic: str, equal: Mapping[str, Any]) -> int:
    """Stored records of a topic whose data has these values, all text."""
    return connection.scalar(select(func.count()).select_from(event).where(_wanted(connection, topic, equal))) or 0


def page(
    connection: Connection, topic: str, equal: Mapping[str, Any], *, start: int, limit: int, newest_first: bool
) -> list[Record]:
    """`limit` of them from the number `start` on, counted from 0, in order of seq."""
    columns = (event.c.seq, event.c.time, event.c.topic, event.c.permission, event.c.data)
    order = event.c.seq.desc() if newest_first else event.c.seq
    query = select(*columns).where(_wanted(connection, topic, equal)).order_by(order).offset(start).limit(limit)
    return [record_of(tuple(row)) for row in connection.execute(query)]


def _wanted(connection: Connection, topic: str, equal: Mapping[str, Any]) -> ColumnElement[bool]:
    """The data is text: SQLite reads it as JSON as it is, PostgreSQL wants to be told."""
    told = connection.dialect.name == "postgresql"
    data = cast(event.c.data, JSON) if told else type_coerce(event.c.data, JSON)
    return and_(event.c.topic == topic, *(data[key].as_string() == value for key, value in equal.items()))
