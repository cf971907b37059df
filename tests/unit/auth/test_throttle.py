"""Counts of failed log-ins, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest

from sysadmd.auth.throttle import NO_NAME, Throttle
from sysadmd.auth.turns import Turns
from sysadmd.errors import TooManyRequests
from sysadmd.limits import Limits
from tests.unit.auth.doubles import Auth

MakeAuth = Callable[..., Auth]
HERE, THERE = "192.0.2.1/32", "2001:db8:0:1::/64"


def fail(throttle: Throttle, times: int, account: str | None = "admin", prefix: str = HERE) -> None:
    for _ in range(times):
        throttle.failed(account, prefix)


async def test_the_failure_at_the_limit_begins_the_lock_out(auth: Auth) -> None:
    for number in range(1, auth.limits.login_failures):
        assert auth.throttle.failed("admin", HERE) == []
        assert not auth.throttle.blocked("admin", HERE), number
    (begun,) = auth.throttle.failed("admin", HERE)
    assert (begun.account, begun.prefix, begun.failures) == ("admin", HERE, 5)
    assert begun.blocked_until == auth.clock.now + auth.limits.login_block
    assert auth.throttle.blocked("admin", HERE)


async def test_nobody_can_lock_an_account_out(auth: Auth) -> None:
    fail(auth.throttle, 1000)
    assert not auth.throttle.blocked("admin", THERE)


async def test_a_lock_out_of_one_account_leaves_the_others_behind_the_address_alone(auth: Auth) -> None:
    fail(auth.throttle, auth.limits.login_failures)
    assert not auth.throttle.blocked("oper", HERE)
    assert not auth.throttle.blocked(None, HERE)


async def test_a_prefix_that_sprays_accounts_is_locked_out_for_all_of_them(auth: Auth) -> None:
    limit = auth.limits.login_failures_prefix
    for number in range(limit - 1):
        assert auth.throttle.failed(f"user{number}", HERE) == []
    assert not auth.throttle.blocked("admin", HERE)
    (begun,) = auth.throttle.failed("last", HERE)
    assert (begun.account, begun.failures) == (None, limit)
    assert [auth.throttle.blocked(name, HERE) for name in ("admin", "last", None)] == [True, True, True]
    assert not auth.throttle.blocked("admin", THERE)


async def test_proofs_without_a_name_count_for_the_prefix(auth: Auth) -> None:
    fail(auth.throttle, auth.limits.login_failures_prefix - 1, None)
    assert not auth.throttle.blocked(None, HERE)
    fail(auth.throttle, 1, None)
    assert auth.throttle.blocked(None, HERE)


async def test_a_lock_out_ends(auth: Auth) -> None:
    fail(auth.throttle, 5)
    auth.clock.now += auth.limits.login_block - 0.1
    assert auth.throttle.blocked("admin", HERE)
    auth.clock.now += 0.1
    assert not auth.throttle.blocked("admin", HERE)
    assert auth.throttle.failed("admin", HERE) == []  # from the beginning again
    assert not auth.throttle.blocked("admin", HERE)


async def test_failures_are_forgotten_after_the_window(auth: Auth) -> None:
    fail(auth.throttle, 4)
    auth.clock.now += auth.limits.login_window + 1
    fail(auth.throttle, 4)
    assert not auth.throttle.blocked("admin", HERE)
    auth.clock.now += auth.limits.login_window - 1
    fail(auth.throttle, 1)
    assert auth.throttle.blocked("admin", HERE)


async def test_a_success_clears_its_pair_and_nothing_else(auth: Auth) -> None:
    fail(auth.throttle, 4)
    fail(auth.throttle, 4, "oper")
    auth.throttle.succeeded("admin", HERE)
    assert {(one.account, one.failures) for one in auth.throttle.list()} == {("oper", 4), (None, 8)}
    fail(auth.throttle, 4)
    assert not auth.throttle.blocked("admin", HERE)


async def test_names_that_can_be_no_account_share_a_count(auth: Auth) -> None:
    for name in ("", "a\0b", "\ud800", "x" * 200, "no such name!"):
        auth.throttle.failed(name, HERE)
    assert auth.throttle.blocked("another impossible name", HERE)
    assert {row["account"] for row in auth.rows("throttle")} == {"", NO_NAME}


async def test_a_restart_forgives_nobody(auth: Auth) -> None:
    fail(auth.throttle, 5)
    fail(auth.throttle, 4, "oper", THERE)
    before = auth.throttle.list()
    auth.restart()
    assert auth.throttle.list() == before
    assert auth.throttle.blocked("admin", HERE)
    fail(auth.throttle, 1, "oper", THERE)
    assert auth.throttle.blocked("oper", THERE)


async def test_what_is_over_leaves_the_database(auth: Auth) -> None:
    fail(auth.throttle, 5)
    fail(auth.throttle, 1, "oper", THERE)
    auth.clock.now += auth.limits.login_window + 1
    auth.throttle.sweep()
    assert [(row["account"], row["prefix"]) for row in auth.rows("throttle")] == [("admin", HERE)]
    auth.clock.now += auth.limits.login_block
    auth.throttle.sweep()
    assert auth.rows("throttle") == []


async def test_the_sweep_is_a_task_of_the_server(auth: Auth) -> None:
    fail(auth.throttle, 1)
    auth.clock.now += auth.limits.login_window + 1
    async with anyio.create_task_group() as tasks:
        await tasks.start(auth.throttle.run)
        tasks.cancel_scope.cancel()
    assert auth.rows("throttle") == []


async def test_the_tables_are_bounded_and_forget_the_oldest(make_auth: MakeAuth) -> None:
    auth = make_auth(Limits(login_table=16))
    for number in range(40):
        auth.throttle.failed("admin", f"192.0.2.{number}/32")
    assert len(auth.throttle.list()) == 32
    kept = {f"192.0.2.{number}/32" for number in range(24, 40)}
    assert {one.prefix for one in auth.throttle.list()} == kept
    assert {row["prefix"] for row in auth.rows("throttle")} == kept


async def test_one_prefix_cannot_push_out_what_is_known_of_others(make_auth: MakeAuth) -> None:
    auth = make_auth(Limits(login_table=64))
    fail(auth.throttle, 5, "admin", THERE)
    for number in range(1000):
        if not auth.throttle.blocked(f"user{number}", HERE):
            auth.throttle.failed(f"user{number}", HERE)
    assert auth.throttle.blocked("admin", THERE)


async def test_what_could_not_be_written_is_written_later(auth: Auth) -> None:
    auth.log.full = True
    fail(auth.throttle, 5)
    assert auth.throttle.blocked("admin", HERE)
    assert auth.rows("throttle") == []
    auth.log.full, auth.log.error = False, OSError("disk")
    auth.throttle.sweep()
    await asyncio.sleep(0)  # the write fails
    await asyncio.sleep(0)  # and is told so
    assert auth.rows("throttle") == []
    auth.log.error = None
    auth.throttle.sweep()
    assert {row["failures"] for row in auth.rows("throttle")} == {5}


@pytest.mark.parametrize(
    "what,left",
    [
        ({"account": "admin"}, {("oper", HERE), (None, HERE), ("oper", THERE), (None, THERE)}),
        ({"prefix": HERE}, {("admin", THERE), ("oper", THERE), (None, THERE)}),
        (
            {"account": "admin", "prefix": HERE},
            {("oper", HERE), (None, HERE), ("admin", THERE), ("oper", THERE), (None, THERE)},
        ),
        ({}, set()),
    ],
)
async def test_counts_can_be_cleared(auth: Auth, what: dict[str, str], left: set[tuple[str | None, str]]) -> None:
    for name in ("admin", "oper"):
        fail(auth.throttle, 2, name, HERE)
        fail(auth.throttle, 2, name, THERE)
    assert auth.throttle.clear(**what) == 6 - len(left)
    assert {(one.account, one.prefix) for one in auth.throttle.list()} == left
    auth.restart()
    assert {(one.account, one.prefix) for one in auth.throttle.list()} == left


async def test_a_prefix_that_waits_too_long_a_line_is_told_so() -> None:
    turns, open_gate, inside = Turns(), asyncio.Event(), asyncio.Event()

    async def wait(prefix: str) -> None:
        async with turns.turn(prefix, 1):
            inside.set()
            await open_gate.wait()

    first = asyncio.create_task(wait(HERE))
    await inside.wait()
    second = asyncio.create_task(wait(HERE))
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests, match="1 log-ins from this address wait already"):
        await wait(HERE)
    inside.clear()
    other = asyncio.create_task(wait(THERE))
    await inside.wait()
    open_gate.set()
    await asyncio.gather(first, second, other)
    assert turns._lines == {}
