"""Roles and users: `/roles`, and one's own, `/profile` (spec job-queues §1.9, §1.10).

Nobody grants more than they hold, and nobody changes who may do more; a change says by its etag which version it
changes.
"""

from __future__ import annotations

import math
from typing import Any

from sysadmd.auth.core4_permissions import spelled, understood
from sysadmd.auth.core4_role_table import Entry, Wanted
from sysadmd.auth.core4_roles import Core4Roles, Detail
from sysadmd.errors import BadRequest, Unauthorized
from sysadmd.listen.core4.exchange import Exchange
from sysadmd.listen.core4.pager import Page
from sysadmd.wire.core4 import iso

UNCHANGED = "no changes"
SORTABLE = ("name", "realname", "email", "created", "updated", "is_active", "_id")


async def listing(exchange: Exchange) -> Page:
    """A page of them."""
    sort, order = exchange.args.order("name", SORTABLE)
    rows = [record(one) for one in await _roles(exchange).list()]
    rows.sort(key=lambda row: (row.get(sort) is not None, row.get(sort)), reverse=order < 0)
    return exchange.page().of(rows)


async def distinct(exchange: Exchange) -> list[str]:
    """Their names."""
    return sorted({one.name for one in await _roles(exchange).list()})


async def detail(exchange: Exchange) -> dict[str, Any]:
    """One, with all that it inherits."""
    return _detail(await _roles(exchange).detail(exchange.path("key")))


async def create(exchange: Exchange) -> dict[str, Any]:
    """Add one: a user where there is an email or a password, else a role."""
    name, password = exchange.args.required("name"), exchange.args.secret()
    return record(await _roles(exchange).create(name, _wanted(exchange), password, by=exchange.grantor))


async def update(exchange: Exchange) -> Any:
    """Change what is given."""
    roles, key, args = _roles(exchange), exchange.path("key"), exchange.args
    etag, wanted, name = args.required("etag"), _wanted(exchange), args.text("name")
    if name is not None and name != (await roles.detail(key)).entry.name:
        raise BadRequest("name: a name stays as it is, since others refer to it", path="name", rule="const")
    return _changed(await roles.change(key, etag, wanted, args.secret(), by=exchange.grantor))


async def remove(exchange: Exchange) -> bool:
    """Remove one; it is taken from all who have it."""
    etag = exchange.http.path_params.get("etag") or exchange.args.required("etag")
    await _roles(exchange).remove(exchange.path("key"), etag, by=exchange.grantor)
    return True


async def profile(exchange: Exchange) -> dict[str, Any]:
    """The caller, with all that is inherited, and when the token ends."""
    found = _detail(await _roles(exchange).account(exchange.scope.account))
    token = exchange.session.token
    left = math.inf if token is None else exchange.parts.tokens.remaining(token)
    return {**found, "token_expires": None if math.isinf(left) else iso(exchange.now + left)}


async def update_profile(exchange: Exchange) -> Any:
    """Change one's own name, address or password; the password with the present one only."""
    args, account, roles = exchange.args, exchange.scope.account, _roles(exchange)
    for name in ("role", "perm", "is_active"):
        if args.values.get(name) is not None:
            raise BadRequest(f"{name}: is not one's own to change", path=name, rule="const")
    password = args.secret()
    if password is not None:
        present = args.required("current_password")
        try:
            await exchange.parts.authenticator.password(account, present, exchange.session.peer)
        except Unauthorized:
            raise BadRequest("current_password: is wrong", path="current_password") from None
    wanted = Wanted(realname=args.text("realname"), email=args.text("email"))
    own = (await roles.account(account)).entry.id
    return _changed(await roles.change(own, args.required("etag"), wanted, password, by=None))


def record(one: Entry) -> dict[str, Any]:
    """core4's record of a role or user."""
    shown: dict[str, Any] = {
        "_id": one.id,
        "name": one.name,
        "realname": one.realname,
        "is_active": one.active,
        "role": list(one.roles),
        "perm": spelled(one.patterns),
        "created": None if one.created_at is None else iso(one.created_at),
        "updated": None if one.changed_at is None else iso(one.changed_at),
        "etag": one.etag,
    }
    return {**shown, "email": one.email} if one.account else shown


def _detail(found: Detail) -> dict[str, Any]:
    return {**record(found.entry), "perm_total": spelled(found.patterns), "role_total": list(found.roles)}


def _changed(one: Entry | None) -> Any:
    return UNCHANGED if one is None else record(one)


def _wanted(exchange: Exchange) -> Wanted:
    args = exchange.args
    perm = args.texts("perm")
    return Wanted(
        realname=args.text("realname"),
        email=args.text("email"),
        active=args.flag("is_active"),
        roles=args.texts("role"),
        patterns=None if perm is None else understood(perm),
    )


def _roles(exchange: Exchange) -> Core4Roles:
    return Core4Roles(exchange.parts.accounts)
