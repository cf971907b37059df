"""API tokens: never more than who made them and whom they stand for, until their own end."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable

import pytest

from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyRequests, Unavailable
from sysadmd.limits import Limits
from tests.unit.auth.doubles import Auth

MakeAuth = Callable[..., Auth]
YEARS = 365 * 86_400 * 5.0
ACCESS = {"rpc/query": "read", "rpc/dispatcher/exec": "admin"}


async def scope_of(auth: Auth, name: str = "alice", role: str = "viewer") -> Scope:
    """The account's scope; it is added if need be."""
    if auth.policy.scope(name) is None:
        await auth.accounts.add(name, "secret", [role])
    scope = auth.policy.scope(name)
    assert scope is not None
    return scope


async def admin_of(auth: Auth) -> Scope:
    return await scope_of(auth, "root", "admin")


# What one is


async def test_only_the_digest_is_stored_and_the_list_has_no_token(auth: Auth) -> None:
    alice = await scope_of(auth)
    made = await auth.api_tokens.create(alice, "alice", "monitor")
    (row,) = auth.rows("token")
    assert row["hash"] == hashlib.sha256(made.token.encode()).hexdigest()
    assert made.token not in str(row) + str(auth.api_tokens.list()) + str(vars(auth.tokens))


async def test_it_stands_for_its_account_until_it_is_revoked_however_idle(auth: Auth) -> None:
    alice = await scope_of(auth)
    made = await auth.api_tokens.create(alice, "alice", "monitor")
    auth.clock.now += YEARS
    await auth.tokens.flush()
    assert auth.tokens.resolve(made.token) is alice
    assert auth.tokens.remaining(made.token) == math.inf
    await auth.api_tokens.revoke(made.id)
    assert auth.tokens.resolve(made.token) is None
    assert auth.rows("token") == []


async def test_it_ends_at_its_own_time_to_the_second(auth: Auth) -> None:
    made = await auth.api_tokens.create(await scope_of(auth), "alice", "monitor", life=86_400.0)
    assert made.expires_at == auth.clock.now + 86_400
    auth.clock.now += 86_399.9
    assert auth.tokens.resolve(made.token) is not None
    auth.clock.now += 0.1
    assert auth.tokens.resolve(made.token) is None
    assert auth.api_tokens.list() == []
    await auth.tokens.flush()
    assert auth.rows("token") == []


async def test_it_survives_a_restart_with_all_that_it_is(auth: Auth) -> None:
    alice = await scope_of(auth)
    made = await auth.api_tokens.create(alice, "alice", "monitor", scopes=["event:dispatcher"], life=50.0)
    before = auth.api_tokens.list()
    auth.restart()
    assert auth.api_tokens.list() == before
    scope = auth.tokens.resolve(made.token)
    assert scope is not None
    assert (scope.may_see("dispatcher"), scope.may_see("zfs"), scope.may_call("rpc/query", "read")) == (
        True,
        False,
        False,
    )


async def test_its_last_use_is_written_with_the_others(auth: Auth) -> None:
    made = await auth.api_tokens.create(await scope_of(auth), "alice", "monitor")
    created = auth.clock.now
    auth.clock.now += 5000
    auth.tokens.resolve(made.token)
    await auth.tokens.flush()
    auth.restart()
    (listed,) = auth.api_tokens.list()
    assert (listed.created_at, listed.used_at) == (created, created + 5000)


async def test_logging_out_does_not_end_it(auth: Auth) -> None:
    made = await auth.api_tokens.create(await scope_of(auth), "alice", "monitor")
    assert auth.tokens.revoke(made.token) is False
    assert auth.tokens.resolve(made.token) is not None


# Never more than


async def test_a_confined_one_may_what_both_the_account_and_its_scopes_grant(auth: Auth) -> None:
    root = await admin_of(auth)
    made = await auth.api_tokens.create(root, "root", "runner", scopes=["call:rpc/dispatcher/exec"])
    scope = auth.tokens.resolve(made.token)
    assert scope is not None
    assert scope.may_call("rpc/dispatcher/exec", "admin")
    assert not scope.may_call("rpc/accounts/add", "admin")
    assert not scope.administers


async def test_its_scope_is_the_same_object_until_the_account_changes(auth: Auth) -> None:
    made = await auth.api_tokens.create(await scope_of(auth), "alice", "monitor", scopes=["event:*"])
    first = auth.tokens.resolve(made.token)
    assert auth.tokens.resolve(made.token) is first
    await auth.accounts.add("bob", "secret", ["viewer"])
    assert auth.tokens.resolve(made.token) is first


async def test_what_the_account_loses_the_token_loses_and_its_bound_stays(auth: Auth) -> None:
    root = await admin_of(auth)
    made = await auth.api_tokens.create(root, "root", "runner", scopes=["call:rpc/dispatcher/exec", "event:dispatcher"])
    vouch = auth.tokens.voucher(made.token)
    assert vouch is not None
    auth.alter("root", "update account_role set role = 'viewer' where account = ?")
    scope = vouch()
    assert scope is not None
    assert not scope.may_call("rpc/dispatcher/exec", "admin")
    assert not scope.may_call("rpc/query", "read")
    assert scope.may_see("dispatcher")
    assert not scope.may_see("zfs")


async def test_a_log_in_token_needs_no_voucher(auth: Auth) -> None:
    assert auth.tokens.voucher(auth.tokens.issue(await scope_of(auth))) is None


async def test_nobody_makes_one_that_may_more_than_they_do(auth: Auth) -> None:
    alice = await scope_of(auth)
    for scopes in (["call:*"], ["call:@admin"], ["call:rpc/dispatcher/exec"], ["event:dispatcher", "job:*:run"]):
        with pytest.raises(Forbidden, match="you may not"):
            await auth.api_tokens.create(alice, "alice", "more", scopes=scopes, access=ACCESS)
    assert auth.rows("token") == []
    made = await auth.api_tokens.create(alice, "alice", "less", scopes=["call:rpc/query"], access=ACCESS)
    assert auth.tokens.resolve(made.token) is not None


async def test_a_confined_token_makes_none_that_leaves_its_bound(auth: Auth) -> None:
    root = await admin_of(auth)
    made = await auth.api_tokens.create(root, "root", "maker", scopes=["call:rpc/tokens/*", "event:zfs"])
    confined = auth.tokens.resolve(made.token)
    assert confined is not None
    for scopes in (None, ["call:rpc/query"], ["event:*"], ["event:zfs", "call:*"]):
        with pytest.raises(Forbidden):
            await auth.api_tokens.create(confined, "root", "more", scopes=scopes)
    await auth.api_tokens.create(confined, "root", "less", scopes=["event:zfs"])


async def test_for_another_account_only_who_administers_and_has_all_that_it_has(auth: Auth) -> None:
    alice, root = await scope_of(auth), await admin_of(auth)
    with pytest.raises(Forbidden):
        await auth.api_tokens.create(alice, "root", "steal")
    with pytest.raises(Forbidden):
        await auth.api_tokens.create(alice, "root", "steal", scopes=["event:dispatcher"])
    await scope_of(auth, "bob")
    with pytest.raises(Forbidden, match="only an administrator"):
        await auth.api_tokens.create(alice, "bob", "steal")  # who may exactly the same, but is somebody else
    narrow = Scope("boss", (), ("call:@admin",))
    assert narrow.administers
    with pytest.raises(Forbidden):
        await auth.api_tokens.create(narrow, "alice", "steal", scopes=["call:@admin"])
    made = await auth.api_tokens.create(root, "alice", "given")
    assert auth.tokens.resolve(made.token) is alice


async def test_what_is_no_permission_is_refused(auth: Auth) -> None:
    with pytest.raises(BadRequest):
        await auth.api_tokens.create(await scope_of(auth), "alice", "odd", scopes=["everything"])


@pytest.mark.parametrize("name", ["nobody", "", "alice\0", "ALICE"])
async def test_an_account_that_is_not_there_gets_none(auth: Auth, name: str) -> None:
    await scope_of(auth)
    with pytest.raises(NotFound):
        await auth.api_tokens.create(await admin_of(auth), name, "ghost")


async def test_one_above_the_number_of_an_account_is_refused_and_ends_none(make_auth: MakeAuth) -> None:
    auth = make_auth(Limits(api_tokens_per_account=2, tokens_per_account=1))
    alice = await scope_of(auth)
    kept = [await auth.api_tokens.create(alice, "alice", str(n), life=100.0 * (n + 1)) for n in range(2)]
    with pytest.raises(TooManyRequests):
        await auth.api_tokens.create(alice, "alice", "third")
    login = auth.tokens.issue(alice)
    for token in (*(one.token for one in kept), login):
        assert auth.tokens.resolve(token) is not None
    auth.clock.now += 100
    await auth.api_tokens.create(alice, "alice", "third")
    assert [one.name for one in auth.api_tokens.list("alice")] == ["1", "third"]


# Ends


async def test_who_asks_for_their_own_sees_and_revokes_only_those(auth: Auth) -> None:
    alice, root = await scope_of(auth), await admin_of(auth)
    mine = await auth.api_tokens.create(alice, "alice", "mine")
    theirs = await auth.api_tokens.create(root, "root", "theirs")
    assert [one.id for one in auth.api_tokens.list("alice")] == [mine.id]
    assert len(auth.api_tokens.list()) == 2
    for unknown in (theirs.id, "000000000000", "", mine.token):
        with pytest.raises(NotFound, match="there is no such token of yours"):
            await auth.api_tokens.revoke(unknown, "alice")
    await auth.api_tokens.revoke(mine.id, "alice")
    assert auth.tokens.resolve(mine.token) is None
    assert auth.tokens.resolve(theirs.token) is not None


@pytest.mark.parametrize("how", ["passwd", "remove", "disable"])
async def test_it_ends_with_a_new_password_and_with_its_account(auth: Auth, how: str) -> None:
    made = await auth.api_tokens.create(await scope_of(auth), "alice", "monitor")
    vouch = auth.tokens.voucher(made.token)
    assert vouch is not None
    if how == "passwd":
        await auth.accounts.passwd("alice", "other")
    elif how == "remove":
        await auth.accounts.remove("alice")
        await auth.accounts.add("alice", "secret", ["admin"])
    else:
        auth.alter("alice", "update account set disabled = 1 where name = ?")
    assert auth.tokens.resolve(made.token) is None
    assert vouch() is None
    auth.restart()
    assert auth.tokens.resolve(made.token) is None


async def test_a_password_that_changes_meanwhile_ends_the_one_that_is_being_made(auth: Auth) -> None:
    alice = await scope_of(auth)
    new_password = "update account set password_hash = 'other' where name = ?"
    asyncio.get_running_loop().call_soon(lambda: auth.alter("alice", new_password, revoked=True))
    with pytest.raises(Conflict):
        await auth.api_tokens.create(alice, "alice", "late")
    await asyncio.sleep(0)
    assert auth.rows("token") == []
    assert auth.api_tokens.list() == []


async def test_a_full_log_makes_none(auth: Auth) -> None:
    alice = await scope_of(auth)
    auth.log.full = True
    with pytest.raises(Unavailable):
        await auth.api_tokens.create(alice, "alice", "lost")
    assert auth.api_tokens.list() == []


async def test_a_revocation_holds_though_it_could_not_be_written_and_is_written_later(auth: Auth) -> None:
    made = await auth.api_tokens.create(await scope_of(auth), "alice", "monitor")
    told: list[bool] = []
    auth.api_tokens.on_revoke(lambda: told.append(auth.tokens.resolve(made.token) is None))
    auth.log.full = True
    with pytest.raises(Unavailable):
        await auth.api_tokens.revoke(made.id)
    assert told == [True]
    auth.log.full = False
    await auth.tokens.flush()
    assert auth.rows("token") == []
