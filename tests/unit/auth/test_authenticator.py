"""The one door: whatever the proof, the answers are the same and both outcomes are recorded first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sysadmd.auth.accounts import REFUSED
from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.identity import Peer
from sysadmd.auth.scope import Scope
from sysadmd.errors import TooManyRequests, Unauthorized, Unavailable
from tests.unit.auth.doubles import Auth

PEER = Peer("192.0.2.7", "tcp")
ANN = Scope("ann", (), ("call:*",))


class Trail:
    """Remembers what was recorded; `durable` is what a record's durability waits for."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.durable: asyncio.Future[None] | None = None

    def record(self, kind: str, **data: Any) -> asyncio.Future[None] | None:
        self.records.append({"kind": kind, **{key: value for key, value in data.items() if value is not None}})
        return self.durable


@pytest.fixture
def trail() -> Trail:
    return Trail()


@pytest.fixture
def door(auth: Auth, trail: Trail) -> Authenticator:
    return Authenticator(auth.accounts, auth.tokens, auth.throttle, trail=trail)


def gives(scope: Scope) -> Callable[[], Awaitable[Scope]]:
    async def proof() -> Scope:
        return scope

    return proof


def fails(error: Exception) -> Callable[[], Awaitable[Scope]]:
    async def proof() -> Scope:
        raise error

    return proof


async def test_a_password_and_a_token_give_the_scope_of_their_account(auth: Auth, door: Authenticator) -> None:
    await auth.accounts.add("ann", "secret", ["viewer"])
    scope = await door.password("ann", "secret", PEER)
    assert scope is auth.policy.scope("ann")
    assert await door.token(auth.tokens.issue(scope), PEER) is scope


async def test_every_failure_is_answered_alike(auth: Auth, door: Authenticator) -> None:
    await auth.accounts.add("ann", "secret", ["viewer"])
    attempts = (
        door.password("ann", "guess", PEER),
        door.password("nobody", "guess", PEER),
        door.token("x" * 32, PEER),
        door.token("", PEER),
        door.attempt("key", None, PEER, fails(Unauthorized("this key is not registered"))),
    )
    for attempt in attempts:
        with pytest.raises(Unauthorized) as caught:
            await attempt
        assert caught.value.message == REFUSED


async def test_a_success_is_recorded_with_how_and_from_where(door: Authenticator, trail: Trail) -> None:
    await door.attempt("key", None, PEER, gives(ANN), session="s1")
    assert trail.records == [{"kind": "login", "account": "ann", "peer": PEER, "session": "s1", "method": "key"}]


async def test_a_failure_is_recorded_with_the_name_that_was_claimed(door: Authenticator, trail: Trail) -> None:
    with pytest.raises(Unauthorized):
        await door.password("ann", "guess", PEER, session="s1")
    assert trail.records == [
        {"kind": "login_failed", "account": "ann", "peer": PEER, "session": "s1", "method": "password"}
    ]


async def test_nothing_of_the_proof_is_recorded(auth: Auth, door: Authenticator, trail: Trail) -> None:
    await auth.accounts.add("ann", "correct horse", ["viewer"])
    token = auth.tokens.issue(await door.password("ann", "correct horse", PEER))
    await door.token(token, PEER)
    with pytest.raises(Unauthorized):
        await door.password("ann", "battery staple", PEER)
    text = str(trail.records)
    assert not any(secret in text for secret in ("correct horse", "battery staple", token))


async def test_nobody_is_in_before_the_record_is_durable(door: Authenticator, trail: Trail) -> None:
    trail.durable = asyncio.get_running_loop().create_future()
    attempt = asyncio.create_task(door.attempt("key", None, PEER, gives(ANN)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert trail.records
    assert not attempt.done()
    trail.durable.set_result(None)
    assert await attempt is ANN


async def test_without_a_record_nobody_is_in(door: Authenticator, trail: Trail) -> None:
    trail.durable = asyncio.get_running_loop().create_future()
    trail.durable.set_exception(OSError("disk full"))
    with pytest.raises(Unavailable, match="audit trail") as caught:
        await door.attempt("key", None, PEER, gives(ANN))
    assert "disk full" not in caught.value.message


async def test_too_many_is_no_wrong_password(door: Authenticator, trail: Trail) -> None:
    with pytest.raises(TooManyRequests):
        await door.attempt("key", None, PEER, fails(TooManyRequests("later")))
    assert trail.records == []
