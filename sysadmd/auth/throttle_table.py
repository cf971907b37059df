"""Failed log-ins in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select

from sysadmd.store.tables import throttle

Key = tuple[str, str]
"""Account and prefix; the account is empty for the prefix as a whole."""


class Count(NamedTuple):
    """Failed log-ins of one key. Times are Unix seconds."""

    failures: int
    failed_at: float
    blocked_until: float | None = None


def read(connection: Connection) -> list[tuple[Key, Count]]:
    """Every count, the one whose last failure is the oldest first."""
    rows = connection.execute(select(throttle).order_by(throttle.c.failed_at))
    return [((row.account, row.prefix), Count(row.failures, row.failed_at, row.blocked_until)) for row in rows]


def replace(connection: Connection, changed: Mapping[Key, Count | None]) -> None:
    """Make the rows of these keys what is given; None: there is none."""
    _delete(connection, changed)
    rows = [
        {"account": account, "prefix": prefix, **count._asdict()}
        for (account, prefix), count in changed.items()
        if count is not None
    ]
    if rows:
        connection.execute(insert(throttle), rows)


def _delete(connection: Connection, keys: Iterable[Key]) -> None:
    statement = delete(throttle).where(throttle.c.account == bindparam("a"), throttle.c.prefix == bindparam("p"))
    rows = [{"a": account, "p": prefix} for account, prefix in keys]
    if rows:
        connection.execute(statement, rows)
