"""Roles in the database: functions over a connection.

A role grants its own patterns and those of the roles it includes. What is stored has no cycles, because a change that
would make one is refused; a database from elsewhere may have one, so reading it ends all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from sysadmd.auth.granting import Grantor
from sysadmd.auth.pattern import check
from sysadmd.errors import BadRequest, Conflict, NotFound
from sysadmd.store.tables import account_role, role

ADMIN = "admin"
"""The role of whoever owns the machine: it stays as it is, so that somebody can always administer."""
ROLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Role:
    """One role as stored: its own patterns, and the names of the roles it includes."""

    patterns: tuple[str, ...]
    includes: tuple[str, ...] = ()


def roles(connection: Connection) -> dict[str, Role]:
    """Every role, by name."""
    rows = connection.execute(select(role.c.name, role.c.patterns, role.c.includes).order_by(role.c.name))
    return {row.name: Role(tuple(row.patterns), tuple(row.includes)) for row in rows}


def granted(known: Mapping[str, Role], names: Iterable[str]) -> tuple[str, ...]:
    """Every pattern that these roles grant, sorted. A role that does not exist grants nothing."""
    patterns: set[str] = set()
    for name in reachable(known, names):
        patterns.update(known[name].patterns)
    return tuple(sorted(patterns))


def reachable(known: Mapping[str, Role], names: Iterable[str]) -> set[str]:
    """These roles and all that they include, however deep; each is visited once, so a cycle ends."""
    found: set[str] = set()
    waiting = [name for name in names if name in known]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [one for one in known[name].includes if one in known]
    return found


def list_roles(connection: Connection) -> list[dict[str, Any]]:
    """Every role by name: `name`, `patterns`, `includes`, and `grants`, which has the patterns of all of them."""
    known = roles(connection)
    return [
        {
            "name": name,
            "patterns": list(one.patterns),
            "includes": list(one.includes),
            "grants": list(granted(known, (name,))),
        }
        for name, one in known.items()
    ]


def set_role(
    connection: Connection, name: str, patterns: Iterable[str], includes: Iterable[str], by: Grantor | None = None
) -> None:
    """Make a role, or replace what it grants.

    Raises BadRequest (name, pattern, unknown or circular inclusion), Conflict (the role is kept as it is) and Forbidden
    (`by` does not hold what it granted or would grant; None holds everything).
    """
    _check_name(name)
    wanted = Role(tuple(sorted({check(one) for one in patterns})), tuple(sorted(set(includes))))
    known = roles(connection)
    _check_kept(name)
    check_known(known, wanted.includes)
    if name in reachable(known, wanted.includes):
        raise BadRequest(f"role {name!r} would include itself", path="args.includes", rule="acyclic")
    after = {**known, name: wanted}
    if by is not None:
        by.check((*granted(known, (name,)), *granted(after, (name,))), f"the role {name!r}")
    row = {"patterns": list(wanted.patterns), "includes": list(wanted.includes)}
    if connection.execute(update(role).where(role.c.name == name).values(row)).rowcount == 0:
        connection.execute(insert(role).values(name=name, **row))


def remove_role(connection: Connection, name: str, by: Grantor | None = None) -> None:
    """Remove a role. Raises NotFound, Conflict (it is in use, or kept) and Forbidden as `set_role`."""
    known = roles(connection)
    if name not in known:
        raise NotFound(f"there is no role {name[:40]!r}")
    _check_kept(name)
    if by is not None:
        by.check(granted(known, (name,)), f"the role {name!r}")
    holder = connection.scalar(select(account_role.c.account).where(account_role.c.role == name).limit(1))
    if holder is not None:
        raise Conflict(f"the account {holder!r} has the role {name!r}")
    includer = next((other for other, one in known.items() if name in one.includes), None)
    if includer is not None:
        raise Conflict(f"the role {includer!r} includes the role {name!r}")
    connection.execute(delete(role).where(role.c.name == name))


def check_known(known: Mapping[str, Role], names: Iterable[str]) -> None:
    """Raise BadRequest for the first of `names` that is no role."""
    for name in sorted(names):
        if name not in known:
            raise BadRequest(f"unknown role {name[:40]!r}; there are {', '.join(sorted(known))}", rule="enum")


def _check_name(name: str) -> None:
    if not ROLE_NAME.fullmatch(name):
        rule = "expected a letter or _, then up to 31 letters, digits, _, . or -"
        raise BadRequest(f"role name {name[:40]!r}: {rule}", rule="pattern")


def _check_kept(name: str) -> None:
    if name == ADMIN:
        raise Conflict("the role 'admin' stays as it is, so that somebody can always administer")
