"""Pages of stored records, for whoever looks back instead of following."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
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


def peaks(
    connection: Connection, topic: str, *, start: float, end: float, seconds: float, limit: int
) -> list[tuple[float, int, dict[str, int]]]:
    """Of each `seconds` between the two times the record with the largest sum of `counts`: its time, the sum, and the
    counts that are not 0; oldest first. Of more than `limit` records, the newest.
    """
    mine = (event.c.topic == topic) & (event.c.time >= start) & (event.c.time <= end)
    query = select(event.c.time, event.c.data).where(mine).order_by(event.c.seq.desc()).limit(limit)
    found: dict[int, tuple[float, int, dict[str, int]]] = {}
    for time, data in connection.execute(query):
        counts = _COUNTS.decode(data).counts
        total, bucket = sum(counts.values()), int(time // seconds)
        if bucket not in found or total > found[bucket][1]:
            found[bucket] = time, total, {state: n for state, n in counts.items() if n}
    return [found[bucket] for bucket in sorted(found)]


class _Counted(msgspec.Struct):
    """The part of a record's data that `peaks` looks at."""

    counts: dict[str, int] = {}


_COUNTS = msgspec.json.Decoder(_Counted)


def _wanted(connection: Connection, topic: str, equal: Mapping[str, Any]) -> ColumnElement[bool]:
    """The data is text: SQLite reads it as JSON as it is, PostgreSQL wants to be told."""
    told = connection.dialect.name == "postgresql"
    data = cast(event.c.data, JSON) if told else type_coerce(event.c.data, JSON)
    return and_(event.c.topic == topic, *(data[key].as_string() == value for key, value in equal.items()))
