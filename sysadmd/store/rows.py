"""Rows that every new database starts with, and the single values of `meta`."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, func, insert, select, update

from sysadmd.store import tables

ROLES: dict[str, list[str]] = {
    "admin": ["call:*", "event:*", "job:*:read", "job:*:run"],
    "operator": ["call:@read", "call:@run", "event:*", "job:*:read", "job:*:run"],
    "standard_user": [
        "call:core4/core4.api.v1.request.standard*",
        "call:core4/core4.api.v1.request.store*/update",
        "call:core4/core4.api.v1.server*",
    ],
    "viewer": ["call:@read", "event:*", "job:*:read"],
}
"""The shipped roles, as rows of the table that others are rows of too. `standard_user` is what users of core4's
programs have: their profile and the event socket, and no job of others.
"""

LANES: dict[str, int | None] = {"no_queue": None, "pkg_queue": 1, "iocage_queue": 1, "default": None, "transfer": None}
"""The dispatcher's lanes and how many attempts run in each at once, and the two of the job queue."""


NOBODY = ""
"""The executor instance of a disowned attempt: no executor has that name."""


def seed(connection: Connection) -> None:
    """Fill the tables of a database that was just created."""
    roles = [{"name": name, "patterns": patterns, "includes": []} for name, patterns in ROLES.items()]
    connection.execute(insert(tables.role), roles)
    connection.execute(insert(tables.lane), [{"name": name, "max_running": n} for name, n in LANES.items()])
    put_meta(connection, "epoch", new_epoch())


def new_epoch() -> str:
    """16 hexadecimal digits that name one history of records."""
    return secrets.token_hex(8)


def disown_attempts(connection: Connection) -> None:
    """Make the open attempts of a restored database those of no living executor, so that the dispatcher calls them lost
    unless an executor says that it runs them; sent again, a command of long ago would run a second time.

    Steps of the dispatcher that still wait count their attempts from a random number on: the history that this database
    was taken from went on, and an executor answers for the attempt of the same name that it was given there.
    """
    open_attempts = update(tables.attempt).where(tables.attempt.c.outcome.is_(None))
    connection.execute(open_attempts.values(worker_id=NOBODY))
    waiting = update(tables.step).where(tables.step.c.state == "waiting", tables.step.c.type == "command")
    connection.execute(waiting.values(tries_used=tables.step.c.tries_used + 1 + secrets.randbelow(1_000_000)))
    # The queue numbers attempts apart from tries; the outputs of those that the other history made have names too.
    queued = (tables.step.c.type != "command") & tables.step.c.state.not_in(["ok", "failed", "skipped", "killed"])
    begun = func.coalesce(tables.step.c.starts, 0) + 1 + secrets.randbelow(1_000_000)
    connection.execute(update(tables.step).where(queued).values(starts=begun))


def get_meta(connection: Connection, key: str) -> str | None:
    """One value of `meta`, or None."""
    return connection.execute(select(tables.meta.c.value).where(tables.meta.c.key == key)).scalar()


def put_meta(connection: Connection, key: str, value: str) -> None:
    """Set one value of `meta`."""
    if connection.execute(update(tables.meta).where(tables.meta.c.key == key).values(value=value)).rowcount == 0:
        connection.execute(insert(tables.meta).values(key=key, value=value))
