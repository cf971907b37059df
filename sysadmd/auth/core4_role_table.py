"""core4's roles in the database: accounts and roles as one list, functions over a connection.

There a user is a role with an email and a password: one list of names, each with permissions of its own and with the
roles that it inherits from. Here the two are two tables, and only roles have permissions. So an account's own
permissions are those of a role of the same name, its *own role*, which the account has and which includes the roles
that it inherits from; who inherits from a user includes that role. There is no second model of permissions: whatever is
changed here is a change of accounts and roles, by their functions and under their rules.

An entry's `etag` is a digest of all that it says, its password's hash too, so it changes with each change, whoever made
it and by whichever API.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, select, update

from sysadmd.auth import account_table, role_table
from sysadmd.auth.granting import Grantor
from sysadmd.auth.password import check_name
from sysadmd.errors import BadRequest, Conflict, NotFound
from sysadmd.store.tables import account, account_role, role

EXISTS = "name or email exists"
REALNAME = 256
"""Characters."""
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,190}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list. `patterns` and `roles` are its own: permissions, and the names that it inherits from.

    `account`: it can log in, if it is `active` and has a password. `own`: it is an account with a role of its own.
    """

    name: str
    account: bool
    patterns: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    realname: str = ""
    email: str | None = None
    active: bool = True
    own: bool = False
    created_at: float | None = None
    changed_at: float | None = None
    secret: str | None = None

    @property
    def id(self) -> str:
        """24 hexadecimal digits that stay as long as the name does."""
        return _digest(["account" if self.account else "role", self.name])

    @property
    def etag(self) -> str:
        """24 hexadecimal digits that are others after any change."""
        said = [self.name, self.patterns, self.roles, self.realname, self.email, self.active, self.secret]
        return _digest([*said, self.changed_at])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an entry is to say; None: as it is. `secret` is the hash of a password."""

    realname: str | None = None
    email: str | None = None
    active: bool | None = None
    roles: tuple[str, ...] | None = None
    patterns: tuple[str, ...] | None = None
    secret: str | None = None


def entries(connection: Connection) -> list[Entry]:
    """All of them by name."""
    known = role_table.roles(connection)
    holds: dict[str, list[str]] = {}
    for held in connection.execute(select(account_role.c.account, account_role.c.role)):
        holds.setdefault(held.account, []).append(held.role)
    accounts = [_of_account(row, holds.get(row.name, []), known) for row in connection.execute(select(account))]
    owned = {one.name for one in accounts if one.own}
    roles = [_of_role(row) for row in connection.execute(select(role)) if row.name not in owned]
    return sorted([*accounts, *roles], key=lambda one: (one.name, not one.account))


def find(connection: Connection, key: str) -> Entry:
    """The entry with this id, or name; an account where a role has the same name. Raises NotFound."""
    known = entries(connection)
    for one in known:
        if one.id == key:
            return one
    for one in known:
        if one.name == key:
            return one
    raise NotFound(f"role [{key[:40]}] not found")


def named(connection: Connection, name: str, *, account: bool) -> Entry:
    """The account, or the role, of exactly this name. Raises NotFound."""
    for one in entries(connection):
        if (one.name, one.account) == (name, account):
            return one
    raise NotFound(f"role [{name[:40]}] not found")


def create(connection: Connection, name: str, wanted: Wanted, now: float, by: Grantor | None = None) -> Entry:
    """Add one: an account where there is an email or a password, else a role.

    Raises BadRequest, NotFound (a role to inherit from), Conflict (name or email is taken), Forbidden (`by`).
    """
    check_name(name)
    if any(one.name == name for one in entries(connection)):
        raise Conflict(EXISTS)
    patterns, parents = wanted.patterns or (), _checked_roles(connection, wanted.roles or ())
    if wanted.email is None and wanted.secret is None:
        _refuse_for_role(wanted)
        role_table.set_role(connection, name, patterns, parents, by)
        _describe_role(connection, name, created_at=now, changed_at=now, realname=_realname(wanted.realname))
        return named(connection, name, account=False)
    held = parents
    if patterns:
        role_table.set_role(connection, name, patterns, parents, by)
        held = (name,)
    account_table.add_account(connection, name, wanted.secret, held, now, by=by)
    if wanted.active is False:
        account_table.set_disabled(connection, name, True, by)
    _describe_account(connection, name, realname=_realname(wanted.realname), email=_email(connection, name, wanted))
    return named(connection, name, account=True)


def change(
    connection: Connection, key: str, etag: str, wanted: Wanted, now: float, *, by: Grantor | None = None
) -> Entry | None:
    """Change one; None: it says so already. Raises as `create`, and Conflict when `etag` is not that of the present."""
    one = _current(connection, key, etag)
    unsaid = {name: value for name, value in _said(wanted).items() if value is not None}
    if unsaid.get("roles") is not None:
        unsaid["roles"] = tuple(sorted(set(_checked_roles(connection, unsaid["roles"]))))
    after = replace(one, **unsaid)
    if wanted.secret is None and after == one:
        return None
    (_change_account if one.account else _change_role)(connection, one, after, wanted, now, by=by)
    return named(connection, one.name, account=one.account)


def remove(connection: Connection, key: str, etag: str, by: Grantor | None = None) -> Entry:
    """Remove one, and take it from all who have it. Raises NotFound, Conflict (`etag`, or it is kept), Forbidden."""
    one = _current(connection, key, etag)
    if one.account:
        account_table.remove_account(connection, one.name, by)
    if one.own or not one.account:
        _pull(connection, one.name, by)
        role_table.remove_role(connection, one.name, by)
    return one


def totals(connection: Connection, one: Entry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every pattern that it has, and every role that it has them from."""
    known = role_table.roles(connection)
    patterns = {*one.patterns, *role_table.granted(known, one.roles)}
    return tuple(sorted(patterns)), tuple(sorted(role_table.reachable(known, one.roles)))


def _current(connection: Connection, key: str, etag: str) -> Entry:
    one = find(connection, key)
    if one.etag != etag:
        raise Conflict("the etag is not that of the present version: somebody changed it", path="etag", rule="etag")
    return one


def _change_account(
    connection: Connection, one: Entry, after: Entry, wanted: Wanted, now: float, *, by: Grantor | None
) -> None:
    account_table.check_held(connection, one.name, by)
    if (after.patterns, after.roles) != (one.patterns, one.roles):
        held = after.roles
        if one.own or after.patterns:
            if not one.own and one.name in role_table.roles(connection):
                raise Conflict(f"there is a role {one.name!r}, which would be this account's own")
            role_table.set_role(connection, one.name, after.patterns, after.roles, by)
            held = (one.name,)
        account_table.set_roles(connection, one.name, held, by)
    if wanted.secret is not None:
        account_table.set_password(connection, one.name, wanted.secret, now, by)
    if after.active != one.active:
        account_table.set_disabled(connection, one.name, not after.active, by)
    values = {"realname": _realname(after.realname), "email": _email(connection, one.name, wanted) or one.email}
    _describe_account(connection, one.name, **values, changed_at=now)


def _change_role(
    connection: Connection, one: Entry, after: Entry, wanted: Wanted, now: float, *, by: Grantor | None
) -> None:
    _refuse_for_role(wanted)
    if (after.patterns, after.roles) != (one.patterns, one.roles):
        role_table.set_role(connection, one.name, after.patterns, after.roles, by)
    elif by is not None:
        by.check(role_table.granted(role_table.roles(connection), (one.name,)), f"the role {one.name!r}")
    _describe_role(connection, one.name, changed_at=now, realname=_realname(after.realname))


def _pull(connection: Connection, name: str, by: Grantor | None) -> None:
    """Take a role from every account and role that has it."""
    for holder in connection.scalars(select(account_role.c.account).where(account_role.c.role == name)).all():
        account_table.check_held(connection, holder, by)
    connection.execute(delete(account_role).where(account_role.c.role == name))
    for other, stored in role_table.roles(connection).items():
        if name in stored.includes:
            role_table.set_role(connection, other, stored.patterns, set(stored.includes) - {name}, by)


def _of_account(row: Any, holds: list[str], known: Mapping[str, role_table.Role]) -> Entry:
    own = known[row.name] if row.name in holds else None
    inherited = {one for one in holds if one != row.name} | set(own.includes if own else ())
    return Entry(
        name=row.name,
        account=True,
        patterns=own.patterns if own else (),
        roles=tuple(sorted(inherited)),
        realname=row.realname or "",
        email=row.email,
        active=not row.disabled,
        own=own is not None,
        created_at=row.created_at,
        changed_at=row.changed_at,
        secret=row.password_hash,
    )


def _of_role(row: Any) -> Entry:
    return Entry(
        name=row.name,
        account=False,
        patterns=tuple(row.patterns),
        roles=tuple(row.includes),
        realname=row.realname or "",
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def _said(wanted: Wanted) -> dict[str, Any]:
    """What is not secret."""
    patterns = None if wanted.patterns is None else tuple(sorted(set(wanted.patterns)))
    said = {"realname": wanted.realname, "email": wanted.email, "active": wanted.active}
    return {**said, "roles": wanted.roles, "patterns": patterns}


def _checked_roles(connection: Connection, names: Iterable[str]) -> tuple[str, ...]:
    known = role_table.roles(connection)
    for name in names:
        if name not in known:
            raise NotFound(f"role [{name[:40]}] not found")
    return tuple(names)


def _refuse_for_role(wanted: Wanted) -> None:
    if wanted.email is not None or wanted.secret is not None:
        raise BadRequest("a role has no email and no password; a user is made with them")
    if wanted.active is False:
        raise BadRequest("a role is always active; to withdraw what it grants, change or remove it", path="is_active")


def _realname(text: str | None) -> str | None:
    if text is not None and len(text) > REALNAME:
        raise BadRequest(f"longer than {REALNAME} characters", path="realname", rule="maxLength")
    return text


def _email(connection: Connection, name: str, wanted: Wanted) -> str | None:
    email = wanted.email
    if email is None:
        return None
    if not _EMAIL.fullmatch(email):
        raise BadRequest("expected an address such as ada@example.org", path="email", rule="format")
    taken = connection.scalar(select(account.c.name).where(account.c.email == email, account.c.name != name))
    if taken is not None:
        raise Conflict(EXISTS)
    return email


def _describe_account(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(account).where(account.c.name == name).values(**values))


def _describe_role(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(role).where(role.c.name == name).values(**values))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]
