"""core4's roles on a running server: who loses something loses it at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sysadmd.auth.core4_role_table import Wanted
from sysadmd.auth.core4_roles import Core4Roles
from sysadmd.errors import BadRequest, Unauthorized
from tests.unit.auth.doubles import Auth

MakeAuth = Callable[..., Auth]
PASSWORD = "correct horse"


async def test_a_new_user_logs_in_with_what_was_given(make_auth: MakeAuth) -> None:
    auth = make_auth()
    await Core4Roles(auth.accounts).create("ada", Wanted(patterns=("job:a:read",)), PASSWORD, by=None)
    assert (await auth.accounts.authenticate("ada", PASSWORD)).may_job("a", "read")


async def test_a_user_without_a_password_logs_in_with_none(make_auth: MakeAuth) -> None:
    auth = make_auth()
    await Core4Roles(auth.accounts).create("ada", Wanted(email="ada@example.org"), None, by=None)
    with pytest.raises(Unauthorized):
        await auth.accounts.authenticate("ada", "")


async def test_a_new_password_ends_the_tokens_of_that_account_alone(make_auth: MakeAuth) -> None:
    auth = make_auth()
    roles = Core4Roles(auth.accounts)
    one = await roles.create("ada", Wanted(), PASSWORD, by=None)
    await roles.create("bert", Wanted(), PASSWORD, by=None)
    tokens = {name: auth.tokens.issue(await auth.accounts.authenticate(name, PASSWORD)) for name in ("ada", "bert")}
    await roles.change(one.id, one.etag, Wanted(), "another phrase", by=None)
    assert auth.tokens.resolve(tokens["ada"]) is None
    assert auth.tokens.resolve(tokens["bert"]) is not None
    assert (await auth.accounts.authenticate("ada", "another phrase")).account == "ada"


@pytest.mark.parametrize("way", ["inactive", "removed"])
async def test_who_is_closed_or_removed_has_no_token_left(make_auth: MakeAuth, way: str) -> None:
    auth = make_auth()
    roles = Core4Roles(auth.accounts)
    one = await roles.create("ada", Wanted(), PASSWORD, by=None)
    token = auth.tokens.issue(await auth.accounts.authenticate("ada", PASSWORD))
    if way == "removed":
        await roles.remove(one.id, one.etag, by=None)
    else:
        await roles.change("ada", one.etag, Wanted(active=False), None, by=None)
    assert auth.tokens.resolve(token) is None
    with pytest.raises(Unauthorized):
        await auth.accounts.authenticate("ada", PASSWORD)


async def test_a_changed_role_reaches_those_who_inherit_it(make_auth: MakeAuth) -> None:
    auth = make_auth()
    roles = Core4Roles(auth.accounts)
    one = await roles.create("readers", Wanted(patterns=("job:a:read",)), None, by=None)
    await roles.create("ada", Wanted(roles=("readers",)), PASSWORD, by=None)
    await roles.change(one.id, one.etag, Wanted(patterns=("job:b:read",)), None, by=None)
    scope = auth.policy.scope("ada")
    assert scope is not None
    assert (scope.may_job("a"), scope.may_job("b")) == (False, True)


async def test_a_detail_has_what_is_inherited(make_auth: MakeAuth) -> None:
    auth = make_auth()
    roles = Core4Roles(auth.accounts)
    await roles.create("ada", Wanted(roles=("viewer",), patterns=("job:a:run",)), PASSWORD, by=None)
    detail = await roles.detail("ada")
    assert detail.roles == ("viewer",)
    assert {"job:a:run", "call:@read"} <= set(detail.patterns)
    assert detail.entry in await roles.list()


async def test_a_bad_password_makes_nobody(make_auth: MakeAuth) -> None:
    auth = make_auth()
    with pytest.raises(BadRequest):
        await Core4Roles(auth.accounts).create("ada", Wanted(), "", by=None)
    assert await auth.accounts.list() == []
