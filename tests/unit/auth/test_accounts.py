"""Accounts of a running server."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sysadmd.auth.password import Cost
from sysadmd.auth.policy import PolicyChange
from sysadmd.errors import BadRequest, Conflict, NotFound, TooManyRequests, Unauthorized, Unavailable
from sysadmd.limits import Limits
from tests.unit.auth.doubles import CHEAP, Auth

MakeAuth = Callable[..., Auth]


async def test_the_right_password_gives_the_scope_of_the_roles(auth: Auth) -> None:
    await auth.accounts.add("alice", "secret", ["viewer"])
    scope = await auth.accounts.authenticate("alice", "secret")
    assert (scope.account, scope.roles) == ("alice", ("viewer",))
    assert scope.may_call("rpc/query", "read")
    assert not scope.may_call("rpc/dispatcher/run", "admin")


@pytest.mark.parametrize(
    "name, password",
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("alice", "secre"),
        ("alice", "secret "),
        ("alice", "secret\0"),
        ("alice", "x" * 100_000),
        ("alice", "\ud800"),
        ("bob", "secret"),
        ("", "secret"),
        ("", ""),
        ("alic", "secret"),
        ("alice ", "secret"),
        ("ALICE", "secret"),
        ("alice'--", "secret"),
        ("a\0", "secret"),
    ],
)
async def test_every_failure_is_the_same_refusal(auth: Auth, name: str, password: str) -> None:
    await auth.accounts.add("alice", "secret", ["admin"])
    with pytest.raises(Unauthorized, match=r"^wrong name or password$"):
        await auth.accounts.authenticate(name, password)


async def test_an_unknown_name_costs_the_same_time(make_auth: MakeAuth) -> None:
    auth = make_auth(cost=Cost(passes=1, memory=16 * 1024, lanes=1))
    await auth.accounts.add("alice", "secret", [])
    taken: dict[str, list[float]] = {"alice": [], "nobody": []}
    for _ in range(7):
        for name, times in taken.items():
            began = time.perf_counter()
            with pytest.raises(Unauthorized):
                await auth.accounts.authenticate(name, "wrong")
            times.append(time.perf_counter() - began)
    known, unknown = (statistics.median(times) for times in taken.values())
    assert 0.4 < known / unknown < 2.5


async def test_hashing_leaves_the_loop_free(make_auth: MakeAuth) -> None:
    auth = make_auth(cost=Cost(passes=3, memory=32 * 1024, lanes=1))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    counting = asyncio.create_task(count())
    await auth.accounts.add("alice", "secret", [])
    await auth.accounts.authenticate("alice", "secret")
    counting.cancel()
    assert turns >= 5


class Gate:
    """Password checks that wait until told, counting those that run at once."""

    def __init__(self, auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.running, self.most = threading.Event(), 0, 0
        self._real = auth.passwords.verify
        monkeypatch.setattr(auth.passwords, "verify", self.verify)

    def verify(self, stored: str | None, password: str) -> bool:
        self.running += 1
        self.most = max(self.most, self.running)
        self.open.wait(10)
        self.running -= 1
        return self._real(stored, password)


async def test_one_log_in_more_than_the_lane_holds_is_refused(
    make_auth: MakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = make_auth(Limits(password_checks_queued=3))
    await auth.accounts.add("alice", "secret", [])
    gate = Gate(auth, monkeypatch)
    waiting = [asyncio.create_task(auth.accounts.authenticate("alice", "secret")) for _ in range(4)]
    await asyncio.sleep(0.05)
    with pytest.raises(TooManyRequests, match="3 password checks wait already"):
        await auth.accounts.authenticate("alice", "secret")
    gate.open.set()
    assert [scope.account for scope in await asyncio.gather(*waiting)] == ["alice"] * 4
    assert gate.most == 1
    await auth.accounts.authenticate("alice", "secret")


async def test_a_log_in_that_is_given_up_frees_its_place(make_auth: MakeAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = make_auth(Limits(password_checks_queued=1))
    await auth.accounts.add("alice", "secret", [])
    gate = Gate(auth, monkeypatch)
    first, second = (asyncio.create_task(auth.accounts.authenticate("alice", "secret")) for _ in range(2))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.sleep(0)
    third = asyncio.create_task(auth.accounts.authenticate("alice", "secret"))
    await asyncio.sleep(0.05)
    gate.open.set()
    await asyncio.gather(first, third)
    assert second.cancelled()


async def test_a_password_that_changes_during_its_check_does_not_log_in(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    await auth.accounts.add("alice", "secret", [])
    gate = Gate(auth, monkeypatch)
    trying = asyncio.create_task(auth.accounts.authenticate("alice", "secret"))
    await asyncio.sleep(0.05)
    hashed = auth.passwords.hash("other")
    monkeypatch.setattr(auth.accounts, "hashed", lambda _: asyncio.sleep(0, hashed))
    await auth.accounts.passwd("alice", "other")
    gate.open.set()
    with pytest.raises(Unauthorized):
        await trying


async def test_a_hash_of_an_older_cost_is_renewed_at_log_in(make_auth: MakeAuth) -> None:
    old = make_auth()
    await old.accounts.add("alice", "secret", [])
    new = make_auth(cost=Cost(passes=2, memory=8, lanes=1))
    await new.accounts.authenticate("alice", "secret")
    (row,) = new.rows("account")
    assert "t=2" in row["password_hash"]
    await new.accounts.authenticate("alice", "secret")
    assert new.rows("account") == [row]


async def test_a_log_in_does_not_fail_because_the_hash_cannot_be_renewed(make_auth: MakeAuth) -> None:
    old = make_auth()
    await old.accounts.add("alice", "secret", [])
    new = make_auth(cost=Cost(passes=2, memory=8, lanes=1))
    new.log.full = True
    assert (await new.accounts.authenticate("alice", "secret")).account == "alice"


async def test_the_list_has_no_secrets(auth: Auth) -> None:
    await auth.accounts.add("alice", "secret", ["admin"])
    (row,) = await auth.accounts.list()
    assert row["name"] == "alice"
    assert row["roles"] == ["admin"]
    assert "argon2" not in str(row)


@pytest.mark.parametrize(
    "name, password, roles, error",
    [
        ("al ice", "secret", [], BadRequest),
        ("bob", "", [], BadRequest),
        ("bob", "x" * 1025, [], BadRequest),
        ("bob", "secret", ["nonsense"], BadRequest),
        ("alice", "secret", [], Conflict),
    ],
)
async def test_a_bad_account_is_not_added(
    auth: Auth, name: str, password: str, roles: list[str], error: type[Exception]
) -> None:
    await auth.accounts.add("alice", "secret", [])
    version = auth.policy.version
    with pytest.raises(error):
        await auth.accounts.add(name, password, roles)
    assert [row["name"] for row in await auth.accounts.list()] == ["alice"]
    assert auth.policy.version == version


async def test_what_does_not_exist_is_not_found(auth: Auth) -> None:
    with pytest.raises(NotFound):
        await auth.accounts.remove("nobody")
    with pytest.raises(NotFound):
        await auth.accounts.passwd("nobody", "secret")


async def test_a_new_password_replaces_the_old_one(auth: Auth) -> None:
    await auth.accounts.add("alice", "secret", [])
    await auth.accounts.passwd("alice", "other")
    with pytest.raises(Unauthorized):
        await auth.accounts.authenticate("alice", "secret")
    await auth.accounts.authenticate("alice", "other")


async def test_changes_tell_the_listeners_of_the_policy(auth: Auth) -> None:
    heard: list[PolicyChange] = []
    auth.policy.on_change(heard.append)
    await auth.accounts.add("alice", "secret", ["viewer"])
    await auth.accounts.passwd("alice", "other")
    await auth.accounts.remove("alice")
    assert [(c.account, c.revoked, c.scope is None) for c in heard] == [
        ("alice", False, False),
        ("alice", True, False),
        ("alice", True, True),
    ]
    assert [c.version for c in heard] == [2, 3, 4]


async def test_a_removed_account_cannot_log_in(auth: Auth) -> None:
    await auth.accounts.add("alice", "secret", [])
    await auth.accounts.remove("alice")
    with pytest.raises(Unauthorized):
        await auth.accounts.authenticate("alice", "secret")


async def test_a_change_that_its_caller_gave_up_still_reaches_the_policy(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    await auth.accounts.add("alice", "secret", [])
    pending: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    writes: list[Any] = []

    def submit(write: Any) -> asyncio.Future[Any]:
        writes.append(write)
        return pending

    monkeypatch.setattr(auth.log, "submit", submit)
    removing = asyncio.create_task(auth.accounts.remove("alice"))
    await asyncio.sleep(0)
    removing.cancel()
    await asyncio.wait([removing])
    pending.set_result(auth.store.write_now(writes[0])[0])
    await asyncio.sleep(0)
    assert removing.cancelled()
    assert auth.policy.scope("alice") is None


async def test_a_change_that_cannot_be_written_changes_nothing(auth: Auth) -> None:
    await auth.accounts.add("alice", "secret", [])
    auth.log.full = True
    with pytest.raises(Unavailable):
        await auth.accounts.remove("alice")
    assert auth.policy.scope("alice") is not None


async def test_accounts_survive_a_restart(auth: Auth) -> None:
    await auth.accounts.add("alice", "secret", ["operator"])
    auth.restart()
    assert (await auth.accounts.authenticate("alice", "secret")).roles == ("operator",)


def test_cheap_hashes_are_for_tests_alone() -> None:
    assert Cost() != CHEAP
