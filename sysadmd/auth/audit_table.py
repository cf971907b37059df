"""The audit trail in the database: appending inside a transaction, and reading."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, insert, select
from sqlalchemy.exc import OperationalError

from sysadmd.auth.chain import GENESIS, Checkpoint, Row, chained
from sysadmd.errors import StateError
from sysadmd.store.prepared import Prepared
from sysadmd.store.rows import get_meta, put_meta
from sysadmd.store.tables import audit, audit_checkpoint

HEAD = "audit_head"
"""Key of the newest record's number and hash in the table `meta`: a tail that was cut off is missed."""
PAGE = 1000
"""Rows that are read at once."""

_HEAD = re.compile(r"[0-9]{1,18}:[0-9a-f]{64}")
_INSERT = Prepared(insert(audit), list(Row._fields))


def append(connection: Connection, texts: Iterable[str]) -> int:
    """Append records; the number of the last one."""
    seq, head = read_head(connection)
    rows = list(chained(texts, seq, head))
    if rows:
        _INSERT.run(connection, rows)
        seq, head = rows[-1].seq, rows[-1].hash
        put_meta(connection, HEAD, f"{seq}:{head}")
    return seq


def read_head(connection: Connection) -> tuple[int, str]:
    """Number and hash of the newest record. Raises StateError when somebody stored something else there."""
    stored = get_meta(connection, HEAD) or f"0:{GENESIS}"
    if not _HEAD.fullmatch(stored):
        raise StateError(f"what is stored as the audit trail's head is no number and hash: {stored[:100]!r}")
    seq, _, head = stored.partition(":")
    return int(seq), head


def read_rows(connection: Connection, start: int = 1) -> Iterator[Row]:
    """The records from number `start` on, some at a time."""
    columns = select(audit.c.seq, audit.c.record, audit.c.previous, audit.c.hash).order_by(audit.c.seq).limit(PAGE)
    while page := _page(connection, columns.where(audit.c.seq >= start)):
        yield from page
        start = page[-1].seq + 1


def _page(connection: Connection, rows: Select[Any]) -> list[Row]:
    """Rows; of what cannot be read as text, because somebody stored other bytes there, the number alone."""
    try:
        return [Row(*row) for row in connection.execute(rows)]
    except OperationalError:
        if (first := connection.execute(rows.with_only_columns(audit.c.seq).limit(1)).scalar()) is None:
            raise
    try:
        return [Row(*row) for row in connection.execute(rows.limit(1))]
    except OperationalError:
        return [Row(first, "", "", "")]


def read_checkpoints(connection: Connection) -> list[Checkpoint]:
    """Every checkpoint, in order."""
    table = audit_checkpoint
    columns = (table.c.seq, table.c.hash, table.c.time, table.c.key, table.c.signature)
    return [Checkpoint(*row) for row in connection.execute(select(*columns).order_by(table.c.seq))]


def add_checkpoint(connection: Connection, one: Checkpoint) -> None:
    """Insert a checkpoint, unless its record has one."""
    table = audit_checkpoint
    if connection.scalar(select(table.c.seq).where(table.c.seq == one.seq)) is None:
        connection.execute(
            insert(table).values(seq=one.seq, hash=one.hash, time=one.time, key=one.key, signature=one.signature)
        )


def find(
    connection: Connection, *, since: int, limit: int, kind: str | None = None, account: str | None = None
) -> tuple[list[dict[str, Any]], int | None]:
    """Records from the number `since` on, and the number to go on from; None at the end of the trail."""
    found: list[dict[str, Any]] = []
    for looked, row in enumerate(read_rows(connection, since)):
        if len(found) == limit or looked == limit * PAGE:
            return found, row.seq
        record = {"seq": row.seq, **_decoded(row.record), "hash": row.hash}
        if kind in (None, record.get("kind")) and account in (None, record.get("account")):
            found.append(record)
    return found, None


def _decoded(text: str) -> dict[str, Any]:
    """A record; what somebody made of it, if it is none any more, is shown as it is."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        value = None
    return value if isinstance(value, dict) else {"text": text}
