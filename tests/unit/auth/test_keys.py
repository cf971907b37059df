"""Registered keys of a running server: who may register what, which proof opens what, and what revoking ends."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import pytest

from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.challenge import Challenge
from sysadmd.auth.granting import Grantor
from sysadmd.auth.identity import Peer
from sysadmd.auth.key_table import Registered
from sysadmd.auth.keys import Keys, described
from sysadmd.auth.scope import Scope
from sysadmd.auth.trail import NoTrail
from sysadmd.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyRequests, Unauthorized
from sysadmd.keys.signing import PrivateKey
from sysadmd.limits import Limits
from tests.unit.auth.doubles import Auth

PEER = Peer("192.0.2.7", "tcp")
ADMIN = Scope("root", (), ("call:*", "event:*", "job:*:*"))


@cache
def private(name: str, kind: Literal["rsa", "ed25519"] = "ed25519") -> PrivateKey:
    return PrivateKey.generate(kind)


class Rig:
    """Keys over a database with the accounts alice (viewer) and bob (operator)."""

    def __init__(self, auth: Auth, trail: Any = None) -> None:
        self.auth = auth
        self.keys = Keys(auth.store, auth.log, auth.policy, limits=auth.limits, clock=auth.clock)
        self.door = Authenticator(auth.accounts, auth.tokens, auth.throttle, trail=trail or NoTrail())
        self.revoked: list[Registered] = []
        self.keys.on_change(self.revoked.extend)

    def scope(self, name: str) -> Scope:
        scope = self.auth.policy.scope(name)
        assert scope is not None
        return scope

    async def register(self, account: str, key: PrivateKey, by: Scope = ADMIN, **more: Any) -> None:
        await self.keys.register(Grantor(by), account, key.public.registered, **more)

    async def log_in(self, answer: dict[str, Any], challenge: Challenge | None, binding: str = "") -> tuple[Scope, str]:
        return await self.keys.log_in(self.door, challenge, answer, PEER, "s1", binding=binding)


@pytest.fixture
async def rig(auth: Auth) -> Rig:
    await auth.accounts.add("alice", "secret", ["viewer"])
    await auth.accounts.add("bob", "secret", ["operator"])
    return Rig(auth)


def encoded(signature: bytes) -> str:
    return base64.b64encode(signature).decode()


def modern(key: PrivateKey, challenge: Challenge, binding: str = "") -> dict[str, Any]:
    algorithm, signature = key.sign(challenge.text, binding)
    return {"key": key.public.fingerprint, "algorithm": algorithm, "signature": encoded(signature)}


def classic(key: PrivateKey, challenge: Challenge) -> dict[str, Any]:
    return {"encrypted_string": encoded(key.sign_classic(challenge.text))}


def fresh() -> Challenge:
    return Challenge.new(0.0)


# Logging in


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
async def test_a_modern_proof_gives_the_scope_of_the_keys_account(rig: Rig, kind: Literal["rsa", "ed25519"]) -> None:
    key, challenge = private("alice", kind), fresh()
    await rig.register("alice", key)
    assert await rig.log_in(modern(key, challenge), challenge) == (rig.scope("alice"), key.public.fingerprint)


async def test_a_classic_proof_finds_its_key_among_all(rig: Rig) -> None:
    key, challenge = private("alice", "rsa"), fresh()
    await rig.register("bob", private("bob", "rsa"))
    await rig.register("bob", private("bob"))
    await rig.register("alice", key)
    scope, fingerprint = await rig.log_in(classic(key, challenge), challenge)
    assert (scope.account, fingerprint) == ("alice", key.public.fingerprint)


async def test_a_fingerprint_may_be_written_in_capitals(rig: Rig) -> None:
    key, challenge = private("alice"), fresh()
    await rig.register("alice", key)
    answer = modern(key, challenge)
    assert await rig.log_in({**answer, "key": answer["key"].upper()}, challenge)


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
async def test_a_proof_in_a_bound_session_is_good_there_and_nowhere_else(
    rig: Rig, kind: Literal["rsa", "ed25519"]
) -> None:
    key, challenge = private("alice", kind), fresh()
    await rig.register("alice", key)
    here, elsewhere = "a" * 64, "b" * 64
    proof = modern(key, challenge, here)
    assert await rig.log_in(proof, challenge, here)
    for other in (elsewhere, ""):
        with pytest.raises(Unauthorized):
            await rig.log_in(proof, challenge, other)


async def test_a_proof_without_a_binding_opens_no_bound_session(rig: Rig) -> None:
    key, challenge = private("alice"), fresh()
    await rig.register("alice", key)
    with pytest.raises(Unauthorized):
        await rig.log_in(modern(key, challenge), challenge, "a" * 64)


async def test_a_classic_proof_opens_no_bound_session(rig: Rig) -> None:
    key, challenge = private("alice", "rsa"), fresh()
    await rig.register("alice", key)
    with pytest.raises(Unauthorized):
        await rig.log_in(classic(key, challenge), challenge, "a" * 64)
    with pytest.raises(Unauthorized):
        await rig.log_in(classic(key, Challenge("a" * 64, 0.0)), challenge, "a" * 64)
    assert await rig.log_in(classic(key, challenge), challenge)


def _proofs() -> dict[str, Callable[[Challenge], dict[str, Any]]]:
    """Everything that is no proof, while other keys are registered."""
    mine, other, rsa = private("alice"), private("other"), private("alice", "rsa")
    swap = {"key": mine.public.fingerprint}
    return {
        "nothing": lambda c: {"encrypted_string": ""},
        "no text": lambda c: {"encrypted_string": None},
        "no base64": lambda c: {"encrypted_string": "no base64!"},
        "too long": lambda c: {"encrypted_string": "A" * 4096},
        "the challenge in clear": lambda c: {"encrypted_string": encoded(c.text.encode())},
        "an unregistered RSA key": lambda c: classic(private("other", "rsa"), c),
        "an unregistered key": lambda c: modern(other, c),
        "another key under a registered name": lambda c: {**modern(other, c), **swap},
        "another challenge, modern": lambda c: modern(mine, fresh()),
        "another challenge, classic": lambda c: classic(rsa, fresh()),
        "a part of the challenge": lambda c: classic(rsa, Challenge(c.text[:-1], 0.0)),
        "an algorithm that is not the key's": lambda c: {**modern(mine, c), "algorithm": "rsa-pss-sha256"},
        "a name that is none": lambda c: {**modern(mine, c), "key": ""},
        "a part of a name": lambda c: {**modern(mine, c), "key": mine.public.fingerprint[:-1]},
    }


@pytest.mark.parametrize("name", list(_proofs()))
async def test_what_is_no_proof_opens_nothing(rig: Rig, name: str) -> None:
    await rig.register("alice", private("alice"))
    await rig.register("alice", private("alice", "rsa"))
    challenge = fresh()
    with pytest.raises(Unauthorized, match="wrong name or password"):
        await rig.log_in(_proofs()[name](challenge), challenge)


async def test_without_a_challenge_nothing_is_proven(rig: Rig) -> None:
    key, challenge = private("alice"), fresh()
    await rig.register("alice", key)
    with pytest.raises(Unauthorized):
        await rig.log_in(modern(key, challenge), None)


async def test_an_empty_challenge_is_not_met_by_a_key_of_nobody(rig: Rig) -> None:
    with pytest.raises(Unauthorized):
        await rig.log_in({"encrypted_string": ""}, Challenge("", 0.0))


async def test_the_key_of_an_account_that_is_gone_or_disabled_opens_nothing(rig: Rig) -> None:
    key, challenge = private("alice"), fresh()
    await rig.register("alice", key)
    rig.auth.store.write_now(lambda c: c.exec_driver_sql("update account set disabled = 1 where name = 'alice'"))
    rig.auth.restart()
    again = Rig(rig.auth)
    assert again.keys.account(key.public.fingerprint) == "alice"
    with pytest.raises(Unauthorized):
        await again.log_in(modern(key, challenge), challenge)


async def test_a_key_that_is_revoked_while_its_log_in_is_written_down_opens_nothing(auth: Auth) -> None:
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    recorded = asyncio.Event()

    class Slow:
        def record(self, kind: str, **data: Any) -> asyncio.Future[None]:
            recorded.set()
            return written

    await auth.accounts.add("alice", "secret", ["viewer"])
    await auth.accounts.add("bob", "secret", ["viewer"])
    rig, key, challenge = Rig(auth, Slow()), private("alice"), fresh()
    await rig.register("alice", key)
    attempt = asyncio.create_task(rig.log_in(modern(key, challenge), challenge))
    await recorded.wait()
    await rig.keys.revoke("alice", key.public.pem)
    await rig.register("bob", key)
    written.set_result(None)
    with pytest.raises(Unauthorized):
        await attempt


async def test_a_proof_asks_anew_what_its_account_may(rig: Rig) -> None:
    """An account of the machine may have left its groups since."""
    asked: list[str] = []

    async def renew(name: str) -> Scope | None:
        asked.append(name)
        return None if len(asked) == 2 else rig.scope(name)

    rig.keys._renew = renew
    key, challenge = private("alice"), fresh()
    await rig.register("alice", key)
    assert await rig.log_in(modern(key, challenge), challenge)
    with pytest.raises(Unauthorized):
        await rig.log_in(modern(key, challenge), challenge)
    assert asked == ["alice", "alice"]


async def test_so_many_proofs_wait_and_no_more(rig: Rig) -> None:
    key, challenge = private("alice"), fresh()
    await rig.register("alice", key)
    await rig.keys.decoy("ed25519")
    rig.keys.reconfigure(Limits(password_checks_queued=1))
    answer, peers = modern(key, challenge), [Peer(f"192.0.2.{number}", "tcp") for number in range(10)]
    attempts = [rig.keys.log_in(rig.door, challenge, answer, peer, "s1") for peer in peers]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {tuple, TooManyRequests}


# Registering


async def test_a_key_survives_a_restart(rig: Rig) -> None:
    await rig.register("alice", private("alice"), nickname="laptop")
    rig.auth.restart()
    (found,) = Rig(rig.auth).keys.of("alice")
    assert (found.fingerprint, found.nickname) == (private("alice").public.fingerprint, "laptop")


async def test_everybody_registers_for_themselves_only(rig: Rig) -> None:
    alice = rig.scope("alice")
    await rig.register("alice", private("alice"), by=alice)
    with pytest.raises(Forbidden, match="only an administrator"):
        await rig.register("bob", private("other"), by=alice)
    with pytest.raises(Forbidden, match="only an administrator"):
        await rig.register("nobody", private("other"), by=alice)
    assert [key.account for key in rig.keys.of()] == ["alice"]


async def test_nobody_registers_a_key_for_one_who_may_more(rig: Rig) -> None:
    """The key would be a way to what its maker does not hold."""
    clerk = Scope("clerk", (), ("call:@admin",))
    with pytest.raises(Forbidden, match=r"account 'bob' has .*, which clerk does not hold"):
        await rig.register("bob", private("other"), by=clerk)
    assert rig.keys.of() == []


async def test_nor_for_one_who_would_once_it_is_no_longer_disabled(rig: Rig) -> None:
    clerk = Scope("clerk", (), ("call:@admin",))
    rig.auth.alter("bob", "update account set disabled = 1 where name = ?")
    with pytest.raises(Forbidden, match="which clerk does not hold"):
        await rig.register("bob", private("other"), by=clerk)
    assert rig.keys.of() == []


async def test_nobody_revokes_a_key_of_another_who_may_more(rig: Rig) -> None:
    clerk = Grantor(Scope("clerk", (), ("call:@admin",)))
    await rig.register("bob", private("bob"))
    with pytest.raises(Forbidden, match="which clerk does not hold"):
        await rig.keys.revoke("bob", private("bob").public.pem, by=clerk)
    await rig.keys.revoke("bob", private("bob").public.pem, by=Grantor(rig.scope("bob").bounded(["call:rpc/*"])))
    assert rig.keys.of() == []


async def test_a_locked_out_address_proves_nothing(auth: Auth) -> None:
    await auth.accounts.add("alice", "secret", ["viewer"])
    rig, key = Rig(auth), private("alice")
    await rig.register("alice", key)
    auth.throttle.limits = Limits(login_failures_prefix=3)
    for _ in range(3):
        challenge = fresh()
        with pytest.raises(Unauthorized):
            await rig.log_in(modern(private("other"), challenge), challenge)
    challenge = fresh()
    with pytest.raises(Unauthorized, match="wrong name or password"):
        await rig.log_in(modern(key, challenge), challenge)
    elsewhere = Peer("198.51.100.1", "tcp")
    assert await rig.keys.log_in(rig.door, challenge, modern(key, challenge), elsewhere, "s2")


async def test_a_confined_token_does_not_make_a_key_that_is_not(rig: Rig) -> None:
    confined = rig.scope("alice").bounded(["call:rpc/settings/*"])
    with pytest.raises(Forbidden, match="which alice does not hold"):
        await rig.register("alice", private("alice"), by=confined)


async def test_a_certificate_is_for_administrators_to_register(rig: Rig) -> None:
    with pytest.raises(Forbidden, match="certificate"):
        await rig.register("alice", private("alice"), by=rig.scope("alice"), certificate="-----BEGIN CERTIFICATE-----")


async def test_the_account_has_to_exist_and_the_key_to_be_free(rig: Rig) -> None:
    await rig.register("alice", private("alice"))
    with pytest.raises(NotFound):
        await rig.register("carol", private("other"))
    with pytest.raises(Conflict):
        await rig.register("bob", private("alice"))
    with pytest.raises(BadRequest, match="cannot be used"):
        await rig.keys.register(Grantor(ADMIN), "bob", "c3NoLXJzYQ==")


async def test_the_limit_is_of_today(rig: Rig) -> None:
    rig.keys.reconfigure(Limits(keys_per_account=1))
    await rig.register("alice", private("alice"))
    with pytest.raises(TooManyRequests):
        await rig.register("alice", private("other"))


async def test_a_caller_that_leaves_does_not_undo_the_change(rig: Rig) -> None:
    task = asyncio.create_task(rig.register("alice", private("alice")))
    while not rig.auth.rows("public_key"):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert [key.account for key in rig.keys.of()] == ["alice"]


async def test_a_change_that_fails_changes_nothing(rig: Rig) -> None:
    await rig.register("alice", private("alice"))
    rig.auth.log.error = OSError("disk full")
    with pytest.raises(OSError, match="disk full"):
        await rig.keys.revoke("alice", private("alice").public.pem)
    assert [key.account for key in rig.keys.of()] == ["alice"]
    assert rig.revoked == []


# Revoking


async def test_a_revoked_key_opens_nothing_and_is_announced(rig: Rig) -> None:
    key, challenge = private("alice"), fresh()
    await rig.register("alice", key)
    await rig.register("alice", private("other"))
    assert rig.revoked == []
    await rig.keys.revoke("alice", key.public.pem)
    assert [one.fingerprint for one in rig.revoked] == [key.public.fingerprint]
    assert rig.keys.scope(key.public.fingerprint) is None
    with pytest.raises(Unauthorized):
        await rig.log_in(modern(key, challenge), challenge)


async def test_a_key_of_another_account_is_not_there_to_be_revoked(rig: Rig) -> None:
    await rig.register("alice", private("alice"))
    with pytest.raises(NotFound):
        await rig.keys.revoke("bob", private("alice").public.pem)
    assert len(rig.keys.of()) == 1


async def test_an_account_of_the_same_name_does_not_get_the_keys_of_the_one_before(rig: Rig) -> None:
    key, challenge = private("alice"), fresh()
    await rig.register("alice", key)
    await rig.auth.accounts.remove("alice")
    assert [one.account for one in rig.revoked] == ["alice"]
    await rig.auth.accounts.add("alice", "secret", ["admin"])
    assert rig.keys.of() == []
    with pytest.raises(Unauthorized):
        await rig.log_in(modern(key, challenge), challenge)


async def test_a_key_that_went_to_another_account_was_revoked(rig: Rig) -> None:
    """Removed with one account and registered for another before anybody looked."""
    key = private("alice")
    await rig.register("alice", key)
    rig.auth.store.write_now(lambda c: c.exec_driver_sql("update public_key set account = 'bob'"))
    await rig.register("bob", private("other"))
    assert [one.account for one in rig.revoked] == ["alice"]
    assert rig.keys.account(key.public.fingerprint) == "bob"


async def test_a_key_is_described_in_the_originals_words(rig: Rig) -> None:
    rig.auth.clock.now = 1_795_307_525.0
    await rig.register("alice", private("alice"), nickname="n", email="e")
    (key,) = rig.keys.of()
    assert described(key) == "Nickname: n\nEmail: e\nDate Registered: 2026-11-22T00:32:05"
