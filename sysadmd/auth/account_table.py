"""Accounts in the database: functions over a connection, for the running server and for commands on a stopped one.

They take hashes, never passwords: hashing is slow and does not belong inside a transaction. What an account loses with
a change, its tokens, goes in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from sysadmd.auth.password import check_name
from sysadmd.errors import BadRequest, Conflict, NotFound
from sysadmd.store.tables import account, account_role, role, token


@dataclass(frozen=True, slots=True)
class PolicyRows:
    """Who may do what, as stored: the patterns of each role, and the roles of each account that is not disabled."""

    roles: Mapping[str, tuple[str, ...]]
    accounts: Mapping[str, tuple[str, ...]]


def add_account(connection: Connection, name: str, password_hash: str | None, roles: Iterable[str], now: float) -> None:
    """Add an account; without a hash it can log in by other means only.

    Raises BadRequest (name, unknown role) and Conflict (the name is taken).
    """
    check_name(name)
    wanted = sorted(set(roles))
    known = set(connection.scalars(select(role.c.name)))
    unknown = [one for one in wanted if one not in known]
    if unknown:
        raise BadRequest(f"unknown role {unknown[0]!r}; there are {', '.join(sorted(known))}", rule="enum")
    if connection.scalar(select(account.c.name).where(account.c.name == name)) is not None:
        raise Conflict(f"there is an account {name!r} already")
    row = {"name": name, "password_hash": password_hash, "disabled": False, "created_at": now, "changed_at": now}
    connection.execute(insert(account).values(row))
    if wanted:
        connection.execute(insert(account_role), [{"account": name, "role": one} for one in wanted])


def remove_account(connection: Connection, name: str) -> None:
    """Remove an account, its roles and its tokens. Raises NotFound."""
    for table in (token, account_role):
        connection.execute(delete(table).where(table.c.account == name))
    if connection.execute(delete(account).where(account.c.name == name)).rowcount == 0:
        raise _missing(name)


def set_password(connection: Connection, name: str, password_hash: str, now: float) -> None:
    """Set an account's password and end its tokens. Raises NotFound."""
    change = update(account).where(account.c.name == name).values(password_hash=password_hash, changed_at=now)
    if connection.execute(change).rowcount == 0:
        raise _missing(name)
    connection.execute(delete(token).where(token.c.account == name))


def replace_hash(connection: Connection, name: str, old: str, new: str) -> None:
    """Store the same password at another cost, unless the password was changed meanwhile; tokens stay."""
    connection.execute(
        update(account).where(account.c.name == name, account.c.password_hash == old).values(password_hash=new)
    )


def password_hash(connection: Connection, name: str) -> str | None:
    """The hash of an account that may log in with a password, else None."""
    return connection.scalar(
        select(account.c.password_hash).where(account.c.name == name, account.c.disabled.is_(False))
    )


def list_accounts(connection: Connection) -> list[dict[str, Any]]:
    """Every account by name: `name`, `roles`, `disabled`, `created_at` and `changed_at` (Unix seconds); no secrets."""
    roles = _roles(connection)
    columns = (account.c.name, account.c.disabled, account.c.created_at, account.c.changed_at)
    rows = connection.execute(select(*columns).order_by(account.c.name)).mappings()
    return [{**row, "roles": list(roles.get(row["name"], ()))} for row in rows]


def policy_rows(connection: Connection) -> PolicyRows:
    """The whole policy; it is small, and read again after each change."""
    patterns = {row.name: tuple(row.patterns) for row in connection.execute(select(role.c.name, role.c.patterns))}
    roles = _roles(connection)
    names = connection.scalars(select(account.c.name).where(account.c.disabled.is_(False)))
    return PolicyRows(patterns, {name: roles.get(name, ()) for name in names})


def _roles(connection: Connection) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    rows = select(account_role.c.account, account_role.c.role).order_by(account_role.c.account, account_role.c.role)
    for name, one in connection.execute(rows):
        found[name] = (*found.get(name, ()), one)
    return found


def _missing(name: str) -> NotFound:
    return NotFound(f"there is no account {name[:40]!r}")
