"""Lock-outs at the one door: what is looked at, counted, answered and recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sysadmd.auth.accounts import REFUSED
from sysadmd.auth.authenticator import PACE, Authenticator
from sysadmd.auth.identity import Peer
from sysadmd.auth.scope import Scope
from sysadmd.errors import Unauthorized
from tests.unit.auth.doubles import Auth

HERE, THERE = Peer("192.0.2.1", "tcp"), Peer("192.0.2.2", "rest")


class Seen:
    """A trail that remembers."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str | None, dict[str, Any]]] = []

    def record(self, kind: str, *, account: Any = None, peer: Any = None, session: Any = None, **data: Any) -> None:
        self.records.append((kind, account, data))

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.records]


class Door:
    """An authenticator whose sleeps are remembered, and a proof that knows one secret."""

    def __init__(self, auth: Auth) -> None:
        self.auth, self.trail, self.slept, self.looked = auth, Seen(), list[float](), 0
        self.answers: set[str] = set()
        self.now = 0.0
        self.door = Authenticator(
            auth.accounts, auth.tokens, auth.throttle, trail=self.trail, sleep=self._sleep, monotonic=lambda: self.now
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def attempt(self, *, good: bool, account: str | None = "admin", peer: Peer = HERE, **options: Any) -> bool:
        async def proof() -> Scope:
            self.looked += 1
            await asyncio.sleep(0)
            self.now += 0.25
            if not good:
                raise Unauthorized("a reason of its own")
            return Scope(account or "admin", (), ())

        try:
            await self.door.attempt("password", account, peer, proof, **options)
        except Unauthorized as error:
            self.answers.add(str(error))
            return False
        return True


@pytest.fixture
def door(auth: Auth) -> Door:
    return Door(auth)


async def test_a_locked_out_address_is_not_even_looked_at(door: Door) -> None:
    for _ in range(5):
        assert not await door.attempt(good=False)
    assert door.looked == 5
    assert not await door.attempt(good=True)
    assert door.looked == 5
    assert door.answers == {REFUSED}
    assert await door.attempt(good=True, peer=THERE)


async def test_the_refusal_of_a_locked_out_address_takes_as_long_as_a_wrong_password(door: Door) -> None:
    for _ in range(5):
        await door.attempt(good=False)
    assert door.slept == []
    await door.attempt(good=True)
    assert door.slept == [0.25]


async def test_after_a_restart_it_takes_what_a_check_takes(door: Door) -> None:
    for _ in range(5):
        await door.attempt(good=False)
    door.auth.restart()
    again = Door(door.auth)
    assert not await again.attempt(good=True)
    assert (again.looked, again.slept) == (0, [PACE])


async def test_tries_that_are_sent_at_once_are_judged_one_after_the_other(door: Door) -> None:
    answers = await asyncio.gather(*(door.attempt(good=False) for _ in range(30)), door.attempt(good=True))
    assert answers == [False] * 31
    assert door.looked == 5


async def test_a_success_starts_the_count_anew(door: Door) -> None:
    for _ in range(3):
        for _ in range(4):
            await door.attempt(good=False)
        assert await door.attempt(good=True)


async def test_proofs_without_a_name_lock_the_prefix_out(door: Door) -> None:
    for _ in range(door.auth.limits.login_failures_prefix):
        await door.attempt(good=False, account=None)
    assert not await door.attempt(good=True, account=None)
    assert not await door.attempt(good=True, account="oper")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "unix"])
async def test_whoever_is_on_the_machine_is_never_locked_out(door: Door, address: str) -> None:
    peer = Peer(address, "tcp")
    for _ in range(60):
        assert not await door.attempt(good=False, peer=peer)
    assert await door.attempt(good=True, peer=peer)
    assert door.auth.throttle.list() == []


async def test_a_proof_that_is_not_counted_is_not_refused_either(door: Door) -> None:
    for _ in range(60):
        await door.attempt(good=False, account=None, counted=False)
    assert door.auth.throttle.list() == []
    for _ in range(5):
        await door.attempt(good=False)
    assert await door.attempt(good=True, counted=False)


async def test_a_lock_out_is_in_the_trail_once(door: Door) -> None:
    for _ in range(7):
        await door.attempt(good=False)
    assert door.trail.kinds() == ["login_failed"] * 4 + ["lockout"] + ["login_failed"] * 3
    _, account, data = door.trail.records[4]
    until = door.auth.clock.now + door.auth.limits.login_block
    assert (account, data) == ("admin", {"prefix": "192.0.2.1/32", "until": until})
    assert [data.get("blocked") for _, _, data in door.trail.records[5:]] == [None, True, True]


async def test_a_try_that_is_given_up_leaves_no_line_behind(door: Door) -> None:
    trying = asyncio.create_task(door.attempt(good=False))
    await asyncio.sleep(0)
    trying.cancel()
    await asyncio.wait([trying])
    assert door.door._turns._lines == {}
    assert await door.attempt(good=True)
