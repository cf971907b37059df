"""Registered keys in the database: one account for each, a bounded number, and revoking takes what they opened."""

from __future__ import annotations

from functools import cache

import pytest

from sysadmd.auth import key_table
from sysadmd.auth.key_table import Registered
from sysadmd.errors import Conflict, NotFound, TooManyRequests
from sysadmd.keys.signing import PrivateKey, PublicKey, parse
from tests.unit.auth.doubles import Auth
from tests.unit.keys.vectors import CHECKSUM, REGISTERED_KEY


@cache
def key(number: int) -> PublicKey:
    return PrivateKey.generate("ed25519").public


@pytest.fixture
async def auth(auth: Auth) -> Auth:
    for name in ("alice", "bob"):
        await auth.accounts.add(name, "secret", ["viewer"])
    return auth


def register(
    auth: Auth, name: str, one: PublicKey, nickname: str = "", *, now: float = 1000.0, limit: int = 10
) -> None:
    auth.store.write_now(lambda c: key_table.register(c, name, one, nickname, "a@example.org", now=now, limit=limit))


def revoke(auth: Auth, name: str, one: PublicKey) -> None:
    auth.store.write_now(lambda c: key_table.revoke(c, name, one.fingerprint))


def ring(auth: Auth) -> dict[str, Registered]:
    return dict(auth.store.read_now(key_table.keyring))


async def test_a_key_is_kept_as_the_originals_write_it(auth: Auth) -> None:
    register(auth, "alice", parse(REGISTERED_KEY), "laptop")
    (found,) = ring(auth).values()
    assert (found.account, found.nickname, found.email) == ("alice", "laptop", "a@example.org")
    assert (found.registered, found.checksum) == (REGISTERED_KEY, CHECKSUM)
    assert (found.registered_at, found.certificate) == (1000.0, None)


async def test_registering_again_changes_what_is_said_of_it(auth: Auth) -> None:
    register(auth, "alice", key(1), "laptop")
    register(auth, "alice", key(1), "desk", now=2000.0)
    (found,) = ring(auth).values()
    assert (found.nickname, found.registered_at) == ("desk", 1000.0)


async def test_a_key_is_one_accounts(auth: Auth) -> None:
    register(auth, "alice", key(1))
    with pytest.raises(Conflict):
        register(auth, "bob", key(1))
    assert ring(auth)[key(1).fingerprint].account == "alice"


async def test_no_account_no_key(auth: Auth) -> None:
    with pytest.raises(NotFound, match="'carol'"):
        register(auth, "carol", key(1))


async def test_an_account_has_so_many_keys(auth: Auth) -> None:
    for number in range(3):
        register(auth, "alice", key(number), limit=3)
    with pytest.raises(TooManyRequests, match="3 keys already"):
        register(auth, "alice", key(3), limit=3)
    register(auth, "alice", key(2), "again", limit=3)
    register(auth, "bob", key(3), limit=3)
    assert len(ring(auth)) == 4


async def test_keys_are_in_the_order_of_their_registration(auth: Auth) -> None:
    register(auth, "alice", key(1), now=3.0)
    register(auth, "bob", key(2), now=1.0)
    register(auth, "alice", key(3), now=2.0)
    assert list(ring(auth)) == [key(number).fingerprint for number in (2, 3, 1)]


async def test_a_revoked_key_is_gone_and_so_are_its_tokens(auth: Auth) -> None:
    scope = auth.policy.scope("alice")
    assert scope is not None
    register(auth, "alice", key(1))
    register(auth, "alice", key(2))
    for opened in (key(1).fingerprint, key(2).fingerprint, None):
        auth.tokens.issue(scope, key=opened)
    revoke(auth, "alice", key(1))
    assert list(ring(auth)) == [key(2).fingerprint]
    assert sorted(row["key"] or "" for row in auth.rows("token")) == ["", key(2).fingerprint]


async def test_what_is_not_ones_own_is_not_there(auth: Auth) -> None:
    register(auth, "alice", key(1))
    for name, one in (("bob", key(1)), ("alice", key(2)), ("carol", key(1))):
        with pytest.raises(NotFound):
            revoke(auth, name, one)
    assert list(ring(auth)) == [key(1).fingerprint]


async def test_a_removed_account_takes_its_keys_along(auth: Auth) -> None:
    register(auth, "alice", key(1))
    register(auth, "bob", key(2))
    await auth.accounts.remove("alice")
    assert list(ring(auth)) == [key(2).fingerprint]
