"""Tokens: exact, bounded in time and number, and kept over a restart."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.auth.scope import Scope
from sysadmd.auth.token_table import LENGTH
from sysadmd.limits import Limits
from tests.unit.auth.doubles import Auth

MakeAuth = Callable[..., Auth]


async def login(auth: Auth, name: str = "alice") -> tuple[Scope, str]:
    """Add the account if need be, and take a token."""
    if auth.policy.scope(name) is None:
        await auth.accounts.add(name, "secret", ["viewer"])
    scope = auth.policy.scope(name)
    assert scope is not None
    return scope, auth.tokens.issue(scope)


async def test_a_token_is_32_letters_and_digits(auth: Auth) -> None:
    _, token = await login(auth)
    assert re.fullmatch(r"[A-Za-z0-9]{32}", token)


async def test_no_two_tokens_are_alike(auth: Auth) -> None:
    scope, _ = await login(auth)
    assert len({auth.tokens.issue(scope) for _ in range(200)}) == 200


async def test_a_token_stands_for_the_scope_of_its_account(auth: Auth) -> None:
    scope, token = await login(auth)
    assert auth.tokens.resolve(token) is scope
    _, other = await login(auth, "bob")
    resolved = auth.tokens.resolve(other)
    assert resolved is not None
    assert resolved.account == "bob"


async def test_only_the_digest_is_stored(auth: Auth) -> None:
    _, token = await login(auth)
    (row,) = auth.rows("token")
    assert row["hash"] == hashlib.sha256(token.encode()).hexdigest()
    assert token not in str(row)
    assert token not in str(vars(auth.tokens))


# Exact comparison (spec sysadm §3.8: the original searched for a substring)


async def test_the_empty_token_matches_nothing(auth: Auth) -> None:
    await login(auth)
    assert auth.tokens.resolve("") is None


async def test_no_part_of_a_token_matches(auth: Auth) -> None:
    _, token = await login(auth)
    parts = {token[start:end] for start in range(LENGTH) for end in range(start + 1, LENGTH + 1)} - {token}
    assert [part for part in parts if auth.tokens.resolve(part) is not None] == []


async def test_nothing_around_a_token_matches(auth: Auth) -> None:
    _, token = await login(auth)
    for text in (
        f" {token}",
        f"{token} ",
        f"{token}\n",
        f"{token}\0",
        f"x{token}",
        f"{token}x",
        token * 2,
        f"{token}::::",
    ):
        assert auth.tokens.resolve(text) is None


async def test_case_matters(auth: Auth) -> None:
    _, token = await login(auth)
    assert auth.tokens.resolve(token.swapcase()) is None


async def test_neither_name_role_nor_stored_digest_is_a_token(auth: Auth) -> None:
    _, token = await login(auth)
    digest = hashlib.sha256(token.encode()).hexdigest()
    for text in (
        "alice",
        "viewer",
        "user",
        "operator",
        "admin",
        digest,
        digest[:LENGTH],
        "%",
        "_" * LENGTH,
        "*" * LENGTH,
    ):
        assert auth.tokens.resolve(text) is None


@pytest.mark.parametrize(
    "value", [None, 0, True, [], {}, b"x" * LENGTH, ["x"] * LENGTH, "é" * LENGTH, "\ud800" * LENGTH]
)
async def test_what_is_no_text_of_that_form_is_no_token(auth: Auth, value: Any) -> None:
    await login(auth)
    assert auth.tokens.resolve(value) is None
    assert auth.tokens.remaining(value) == 0.0
    assert auth.tokens.revoke(value) is False


async def test_no_other_text_matches(auth: Auth) -> None:
    _, token = await login(auth)

    @settings(max_examples=300)
    @given(st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9]{32}", fullmatch=True))
    def guess(text: str) -> None:
        assert text == token or auth.tokens.resolve(text) is None

    guess()


# Time


async def test_an_idle_token_ends_after_15_minutes(auth: Auth) -> None:
    _, token = await login(auth)
    auth.clock.now += 900
    assert auth.tokens.resolve(token) is not None
    auth.clock.now += 900.001
    assert auth.tokens.resolve(token) is None
    auth.clock.now -= 1
    assert auth.tokens.resolve(token) is None


async def test_use_restarts_the_15_minutes_until_12_hours(auth: Auth) -> None:
    _, token = await login(auth)
    began = auth.clock.now
    while auth.clock.now < began + 43_200 - 800:
        auth.clock.now += 800
        assert auth.tokens.resolve(token) is not None
    assert auth.tokens.remaining(token) == pytest.approx(began + 43_200 - auth.clock.now)
    auth.clock.now = began + 43_199.9
    assert auth.tokens.resolve(token) is not None
    auth.clock.now = began + 43_200
    assert auth.tokens.resolve(token) is None
    assert auth.tokens.remaining(token) == 0.0


async def test_an_open_connection_keeps_its_token_in_use(auth: Auth) -> None:
    _, token = await login(auth)
    for _ in range(5):
        auth.clock.now += 600
        auth.tokens.touch(token)
    assert auth.tokens.resolve(token) is not None


async def test_asking_what_remains_is_no_use(auth: Auth) -> None:
    _, token = await login(auth)
    auth.clock.now += 600
    assert auth.tokens.remaining(token) == 43_200 - 600
    auth.clock.now += 600
    assert auth.tokens.resolve(token) is None


async def test_the_limits_are_those_of_the_configuration(make_auth: MakeAuth) -> None:
    auth = make_auth(Limits(token_idle=10, token_absolute=15))
    _, token = await login(auth)
    auth.clock.now += 10
    assert auth.tokens.resolve(token) is not None
    auth.clock.now += 5
    assert auth.tokens.resolve(token) is None


# Ends


async def test_a_revoked_token_is_over(auth: Auth) -> None:
    scope, token = await login(auth)
    other = auth.tokens.issue(scope)
    assert auth.tokens.revoke(token) is True
    assert auth.tokens.revoke(token) is False
    assert auth.tokens.resolve(token) is None
    assert auth.tokens.resolve(other) is scope
    assert len(auth.rows("token")) == 1


async def test_a_new_password_ends_the_tokens_of_that_account_alone(auth: Auth) -> None:
    _, alice = await login(auth)
    _, bob = await login(auth, "bob")
    await auth.accounts.passwd("alice", "other")
    assert auth.tokens.resolve(alice) is None
    assert auth.tokens.resolve(bob) is not None
    auth.restart()
    assert auth.tokens.resolve(alice) is None
    assert auth.tokens.resolve(bob) is not None


async def test_a_removed_account_has_no_tokens_and_gets_none_back(auth: Auth) -> None:
    _, token = await login(auth)
    await auth.accounts.remove("alice")
    await auth.accounts.add("alice", "secret", ["admin"])
    assert auth.tokens.resolve(token) is None
    assert auth.rows("token") == []


async def test_a_token_that_is_written_after_its_account_was_removed_is_not_kept(auth: Auth) -> None:
    scope, _ = await login(auth)
    await auth.accounts.remove("alice")
    token = auth.tokens.issue(scope)
    assert auth.tokens.resolve(token) is None
    assert auth.rows("token") == []


async def test_one_token_above_the_number_of_an_account_ends_the_one_idle_for_longest(make_auth: MakeAuth) -> None:
    auth = make_auth(Limits(tokens_per_account=3))
    scope, _ = await login(auth, "bob")
    scope, first = await login(auth)
    issued = [first]
    for _ in range(2):
        auth.clock.now += 1
        issued.append(auth.tokens.issue(scope))
    auth.clock.now += 1
    auth.tokens.resolve(first)
    auth.clock.now += 1
    issued.append(auth.tokens.issue(scope))
    assert [auth.tokens.resolve(token) is not None for token in issued] == [True, False, True, True]
    assert len(auth.rows("token")) == 4


async def test_tokens_that_are_over_make_room_first(make_auth: MakeAuth) -> None:
    auth = make_auth(Limits(tokens_per_account=2, token_idle=100))
    scope, first = await login(auth)
    auth.clock.now += 60
    second = auth.tokens.issue(scope)
    auth.clock.now += 60
    third = auth.tokens.issue(scope)
    assert [auth.tokens.resolve(token) is not None for token in (first, second, third)] == [False, True, True]


# Memory answers, the database remembers


async def test_a_use_writes_nothing(auth: Auth) -> None:
    _, token = await login(auth)
    writes = auth.log.writes
    for _ in range(100):
        auth.tokens.resolve(token)
    assert auth.log.writes == writes


async def test_a_token_survives_a_restart(auth: Auth) -> None:
    _, token = await login(auth)
    auth.restart()
    scope = auth.tokens.resolve(token)
    assert scope is not None
    assert scope.roles == ("viewer",)


async def test_the_time_of_use_survives_with_a_flush(auth: Auth) -> None:
    _, token = await login(auth)
    auth.clock.now += 800
    auth.tokens.resolve(token)
    await auth.tokens.flush()
    auth.clock.now += 800
    auth.restart()
    assert auth.tokens.resolve(token) is not None


async def test_without_a_flush_a_token_is_older_never_younger(auth: Auth) -> None:
    _, token = await login(auth)
    auth.clock.now += 800
    auth.tokens.resolve(token)
    auth.clock.now += 800
    auth.restart()
    assert auth.tokens.resolve(token) is None


async def test_a_flush_deletes_what_is_over(auth: Auth) -> None:
    await login(auth)
    auth.clock.now += 901
    await auth.tokens.flush()
    assert auth.rows("token") == []
    assert not auth.tokens._live
    assert not auth.tokens._of_account


async def test_a_token_found_to_be_over_is_deleted_by_the_next_flush(auth: Auth) -> None:
    _, token = await login(auth)
    auth.clock.now += 901
    assert auth.tokens.resolve(token) is None
    await auth.tokens.flush()
    assert auth.rows("token") == []


async def test_a_flush_without_anything_to_say_writes_nothing(auth: Auth) -> None:
    _, token = await login(auth)
    auth.tokens.resolve(token)
    await auth.tokens.flush()
    writes = auth.log.writes
    await auth.tokens.flush()
    assert auth.log.writes == writes


async def test_a_full_log_refuses_no_log_in(auth: Auth) -> None:
    scope, _ = await login(auth)
    auth.log.full = True
    assert auth.tokens.resolve(auth.tokens.issue(scope)) is scope


@pytest.mark.parametrize("how", ["full", "error"])
async def test_a_revocation_that_could_not_be_written_is_written_by_the_next_flush(auth: Auth, how: str) -> None:
    _, token = await login(auth)
    setattr(auth.log, how, OSError("disk full") if how == "error" else True)
    assert auth.tokens.revoke(token)
    await asyncio.sleep(0.01)
    assert auth.tokens.resolve(token) is None
    assert len(auth.rows("token")) == 1
    auth.log.full, auth.log.error = False, None
    await auth.tokens.flush()
    assert auth.rows("token") == []


async def test_a_flush_that_fails_is_made_up_for(auth: Auth) -> None:
    _, token = await login(auth)
    auth.clock.now += 800
    auth.tokens.resolve(token)
    auth.log.full = True
    await auth.tokens.flush()
    auth.log.full = False
    await auth.tokens.flush()
    (row,) = auth.rows("token")
    assert row["used_at"] == auth.clock.now


async def test_the_owner_of_the_flush_writes_a_last_time_when_it_is_cancelled(auth: Auth) -> None:
    _, token = await login(auth)
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: auth.tokens.run(task_status=task_status))
        auth.clock.now += 5
        auth.tokens.resolve(token)
        tasks.cancel_scope.cancel()
    (row,) = auth.rows("token")
    assert row["used_at"] == auth.clock.now
