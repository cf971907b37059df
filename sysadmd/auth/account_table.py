"""Accounts in the database: functions over a connection, for the running server and for commands on a stopped one.

They take hashes, never passwords: hashing is slow and does not belong inside a transaction. What an account loses with
a change, its tokens, goes in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from sysadmd.auth import role_table
from sysadmd.auth.granting import Grantor
from sysadmd.auth.password import check_name
from sysadmd.errors import Conflict, NotFound
from sysadmd.store.tables import account, account_role, token


@dataclass(frozen=True, slots=True)
class PolicyRows:
    """Who may do what: all that each role grants, and the roles of each account that is not disabled.

    `local`: the names that are local accounts, also those that are disabled; the machine has no say about them.
    """

    roles: Mapping[str, tuple[str, ...]]
    accounts: Mapping[str, tuple[str, ...]]
    local: frozenset[str] = frozenset()


def add_account(
    connection: Connection,
    name: str,
    password_hash: str | None,
    roles: Iterable[str],
    now: float,
    *,
    by: Grantor | None = None,
) -> None:
    """Add an account; without a hash it can log in by other means only.

    Raises BadRequest (name, unknown role), Conflict (the name is taken) and Forbidden (`by` does not hold what the
    roles grant; None holds everything).
    """
    check_name(name)
    wanted = _check_roles(connection, roles, by)
    if connection.scalar(select(account.c.name).where(account.c.name == name)) is not None:
        raise Conflict(f"there is an account {name!r} already")
    row = {"name": name, "password_hash": password_hash, "disabled": False, "created_at": now, "changed_at": now}
    connection.execute(insert(account).values(row))
    _give(connection, name, wanted)


def remove_account(connection: Connection, name: str, by: Grantor | None = None) -> None:
    """Remove an account, its roles and its tokens. Raises NotFound, and Forbidden when it may do more than `by`."""
    check_held(connection, name, by)
    for table in (token, account_role):
        connection.execute(delete(table).where(table.c.account == name))
    if connection.execute(delete(account).where(account.c.name == name)).rowcount == 0:
        raise _missing(name)


def set_password(connection: Connection, name: str, password_hash: str, now: float, by: Grantor | None = None) -> None:
    """Set an account's password and end its tokens. Raises NotFound, Forbidden as `remove_account`, and Conflict for an
    account of the machine.
    """
    check_held(connection, name, by)
    if _source(connection, name) != "local":
        raise Conflict(f"{name} is an account of the machine: its password is set there, with passwd(1)")
    change = update(account).where(account.c.name == name).values(password_hash=password_hash, changed_at=now)
    connection.execute(change)
    connection.execute(delete(token).where(token.c.account == name))


def set_roles(connection: Connection, name: str, roles: Iterable[str], by: Grantor | None = None) -> None:
    """Give an account these roles instead of those it has.

    Raises NotFound, BadRequest (unknown role), Forbidden (`by` does not hold what it had, or would get), and Conflict
    for an account of the machine, which would have its groups' roles again with the next log-in.
    """
    check_held(connection, name, by)
    if _source(connection, name) != "local":
        raise Conflict(f"{name} is an account of the machine: its groups give its roles; here it can be disabled")
    wanted = _check_roles(connection, roles, by)
    connection.execute(delete(account_role).where(account_role.c.account == name))
    _give(connection, name, wanted)


def set_disabled(connection: Connection, name: str, disabled: bool, by: Grantor | None = None) -> None:  # noqa: FBT001
    """Whether an account may not log in; its tokens end when it may not. Raises as `remove_account`."""
    check_held(connection, name, by)
    if connection.execute(update(account).where(account.c.name == name).values(disabled=disabled)).rowcount == 0:
        raise _missing(name)
    if disabled:
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
    """Every account by name: `name`, `source` (local, system), `roles`, `disabled`, `created_at` and `changed_at` (Unix
    seconds); no secrets.
    """
    roles = _roles(connection)
    columns = (account.c.name, account.c.source, account.c.disabled, account.c.created_at, account.c.changed_at)
    rows = connection.execute(select(*columns).order_by(account.c.name)).mappings()
    return [{**row, "roles": list(roles.get(row["name"], ()))} for row in rows]


def policy_rows(connection: Connection) -> PolicyRows:
    """The whole policy; it is small, and read again after each change."""
    known = role_table.roles(connection)
    patterns = {name: role_table.granted(known, (name,)) for name in known}
    roles = _roles(connection)
    rows = connection.execute(select(account.c.name, account.c.source, account.c.disabled)).all()
    accounts = {row.name: roles.get(row.name, ()) for row in rows if not row.disabled}
    return PolicyRows(patterns, accounts, frozenset(row.name for row in rows if row.source == "local"))


def _source(connection: Connection, name: str) -> str:
    """`local` or `system`. Raises NotFound."""
    source: str | None = connection.scalar(select(account.c.source).where(account.c.name == name))
    if source is None:
        raise _missing(name)
    return source


def _check_roles(connection: Connection, names: Iterable[str], by: Grantor | None) -> list[str]:
    """The names of roles that `by` may give, sorted."""
    wanted, known = sorted(set(names)), role_table.roles(connection)
    role_table.check_known(known, wanted)
    if by is not None:
        for name in wanted:
            by.check(role_table.granted(known, (name,)), f"the role {name!r}")
    return wanted


def check_held(connection: Connection, name: str, by: Grantor | None) -> None:
    """Refuse to touch an account that may do more than `by`, whether or not it is disabled."""
    if by is not None:
        held = connection.scalars(select(account_role.c.role).where(account_role.c.account == name))
        by.check(role_table.granted(role_table.roles(connection), held), f"the account {name!r}")


def _give(connection: Connection, name: str, roles: Iterable[str]) -> None:
    rows = [{"account": name, "role": one} for one in roles]
    if rows:
        connection.execute(insert(account_role), rows)


def _roles(connection: Connection) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    rows = select(account_role.c.account, account_role.c.role).order_by(account_role.c.account, account_role.c.role)
    for name, one in connection.execute(rows):
        found[name] = (*found.get(name, ()), one)
    return found


def _missing(name: str) -> NotFound:
    return NotFound(f"there is no account {name[:40]!r}")
