"""Log-ins of the machine's accounts, with a machine that says what a test says."""

from __future__ import annotations

import asyncio
import os
import pwd
import threading
from typing import Any

import anyio
import pytest

from sysadmd.auth import account_table, system_accounts
from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.identity import Peer
from sysadmd.auth.policy import PolicyChange
from sysadmd.auth.system_accounts import SystemAccounts, Verdict
from sysadmd.auth.trail import NoTrail
from sysadmd.config import Pam
from sysadmd.errors import Conflict, TooManyRequests, Unauthorized, Unavailable
from tests.unit.auth.doubles import Auth

PEER = Peer("127.0.0.1", "tcp")
STRANGER = Peer("192.0.2.1", "tcp")
ZOE = Verdict(4001, frozenset({"zoe", "wheel"}))
ROOT = Verdict(0, frozenset({"root", "wheel"}))


class Machine:
    """`users`: name -> (password, verdict). `asked` is everything that PAM got to see."""

    def __init__(self) -> None:
        self.users: dict[str, tuple[str, Verdict]] = {"zoe": ("sesame", ZOE), "root": ("toor", ROOT)}
        self.hangs = threading.Event()
        self.hangs.set()
        self.asked: list[tuple[str, str]] = []
        self.checks_passwords = True
        self.error: Exception | None = None

    def look_up(self, name: str) -> Verdict | None:
        assert self.hangs.wait(10)
        return self.users.get(name, ("", None))[1]

    async def check_password(self, name: str, password: str) -> Verdict | None:
        self.asked.append((name, password))
        if self.error is not None:
            raise self.error
        known, verdict = self.users.get(name, ("", None))
        return verdict if known == password else None


class Trail(NoTrail):
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def record(self, kind: str, **fields: Any) -> None:
        self.records.append({"kind": kind, **fields})


class Door:
    """The password door of a server on `auth` and a machine."""

    def __init__(self, auth: Auth, **config: Any) -> None:
        self.auth, self.machine, self.trail = auth, Machine(), Trail()
        self.system = SystemAccounts(
            auth.accounts, auth.log, self.machine, Pam(**config), clock=auth.clock, look_up=self.machine.look_up
        )
        self.authenticator = Authenticator(
            auth.accounts, auth.tokens, auth.throttle, trail=self.trail, system=self.system
        )

    async def enter(self, name: str = "zoe", password: str = "sesame") -> tuple[str, ...]:
        return (await self.authenticator.password(name, password, PEER)).roles

    async def refused(self, name: str = "zoe", password: str = "sesame") -> str:
        with pytest.raises(Unauthorized) as caught:
            await self.enter(name, password)
        return caught.value.message

    def accounts(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.auth.store.read_now(account_table.list_accounts)}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_accounts, "REFUSAL_TIME", 0.0)


@pytest.mark.parametrize("group, role", [("wheel", "admin"), ("sudo", "admin"), ("operator", "operator")])
async def test_the_shipped_groups_give_their_roles(auth: Auth, group: str, role: str) -> None:
    door = Door(auth)
    door.machine.users["zoe"] = ("sesame", Verdict(4001, frozenset({"zoe", "audio", group})))
    assert await door.enter() == (role,)
    assert door.accounts()["zoe"] == {
        "name": "zoe",
        "source": "system",
        "disabled": False,
        "roles": [role],
        "created_at": auth.clock.now,
        "changed_at": auth.clock.now,
    }
    assert door.trail.records == [
        {"kind": "login", "account": "zoe", "peer": PEER, "session": None, "method": "system"}
    ]


async def test_several_groups_give_all_their_roles_and_others_none(auth: Auth) -> None:
    door = Door(auth, groups={"staff": "viewer", "wheel": "operator", "guests": "admin"})
    door.machine.users["zoe"] = ("sesame", Verdict(4001, frozenset({"wheel", "staff", "sudo"})))
    assert await door.enter() == ("operator", "viewer")


async def test_every_refusal_reads_the_same_and_leaves_no_account(auth: Auth) -> None:
    door = Door(auth)
    door.machine.users["guest"] = ("guest", Verdict(4002, frozenset({"guest", "users"})))
    attempts = [("zoe", "wrong"), ("nobody-here", "x"), ("guest", "guest"), ("root", "toor"), ("Zoë", "sesame")]
    attempts += [("-zoe", "sesame"), ("zoe", ""), ("zoe", "a\0b"), ("zoe", "\ud800"), ("zoe", "x" * 5000)]
    assert {await door.refused(*attempt) for attempt in attempts} == {"wrong name or password"}
    assert door.accounts() == {}
    assert {record["kind"] for record in door.trail.records} == {"login_failed"}


async def test_what_cannot_be_a_name_or_a_password_is_not_asked_at_all(auth: Auth) -> None:
    door = Door(auth)
    for name, password in [("../etc", "x"), ("a b", "x"), ("", "x"), ("zoe", ""), ("zoe", "a\0b"), ("x" * 33, "x")]:
        await door.refused(name, password)
    assert door.machine.asked == []


async def test_a_local_account_is_never_asked_of_the_machine(auth: Auth) -> None:
    door = Door(auth)
    await auth.accounts.add("zoe", "local", ["viewer"])
    assert await door.enter("zoe", "local") == ("viewer",)
    await door.refused("zoe", "sesame")
    assert door.machine.asked == []
    assert [record["method"] for record in door.trail.records] == ["password", "password"]


async def test_an_account_that_is_local_without_a_password_is_not_the_machine_s_either(auth: Auth) -> None:
    auth.store.write_now(lambda connection: account_table.add_account(connection, "zoe", None, ["viewer"], 1.0))
    auth.restart()
    door = Door(auth)
    await door.refused()
    assert door.machine.asked == []


async def test_an_account_of_the_machine_that_was_disabled_here_stays_out(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    await auth.accounts.set_disabled("zoe", disabled=True)
    await door.refused()
    await auth.accounts.set_disabled("zoe", disabled=False)
    assert await door.enter() == ("admin",)


async def test_root_logs_in_only_where_that_is_said(auth: Auth) -> None:
    await Door(auth).refused("root", "toor")
    assert await Door(auth, allow_root=True).enter("root", "toor") == ("admin",)


async def test_a_second_name_of_uid_0_is_root_too(auth: Auth) -> None:
    door = Door(auth)
    door.machine.users["toor"] = ("sesame", ROOT)
    await door.refused("toor")


async def test_roles_follow_the_groups_at_each_log_in_on_open_connections_too(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    token = auth.tokens.issue(scope) if (scope := auth.policy.scope("zoe")) else ""
    changes: list[PolicyChange] = []
    auth.policy.on_change(changes.append)
    door.machine.users["zoe"] = ("sesame", Verdict(4001, frozenset({"operator"})))
    assert await door.enter() == ("operator",)
    held = auth.tokens.resolve(token)
    assert held is not None
    assert held.roles == ("operator",)
    assert [(change.account, change.revoked) for change in changes] == [("zoe", False)]


async def test_whoever_left_the_last_group_loses_roles_and_tokens(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    scope = auth.policy.scope("zoe")
    assert scope is not None
    token = auth.tokens.issue(scope)
    door.machine.users["zoe"] = ("sesame", Verdict(4001, frozenset({"zoe"})))
    await door.refused()
    assert door.accounts()["zoe"]["roles"] == []
    assert auth.tokens.resolve(token) is None
    auth.restart()
    assert auth.tokens.resolve(token) is None


async def test_a_wrong_password_takes_nothing_from_the_account(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    await door.refused("zoe", "wrong")
    assert door.accounts()["zoe"]["roles"] == ["admin"]


async def test_a_log_in_that_changes_nothing_tells_nobody(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    version = auth.policy.version
    await door.enter()
    assert auth.policy.version == version


async def test_a_role_that_does_not_exist_is_no_role(auth: Auth) -> None:
    door = Door(auth, groups={"wheel": "emperor"})
    await door.refused()
    assert door.accounts() == {}


async def test_a_name_that_becomes_local_while_the_machine_is_asked_stays_local(auth: Auth) -> None:
    door = Door(auth)

    async def slow(name: str, password: str) -> Verdict | None:
        await auth.accounts.add("zoe", "local", ["viewer"])
        return ZOE

    door.machine.check_password = slow  # type: ignore[method-assign]
    await door.refused()
    assert (door.accounts()["zoe"]["source"], door.accounts()["zoe"]["roles"]) == ("local", ["viewer"])


async def test_the_password_of_an_account_of_the_machine_is_not_set_here(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    with pytest.raises(Conflict, match="account of the machine"):
        await auth.accounts.passwd("zoe", "another")


@pytest.mark.parametrize("enabled, available, asks", [("auto", True, 1), ("auto", False, 0), (False, True, 0)])
async def test_whether_the_machine_is_asked(auth: Auth, enabled: Any, available: bool, asks: int) -> None:
    door = Door(auth, enabled=enabled)
    door.machine.checks_passwords = available
    await door.refused("zoe", "wrong")
    assert len(door.machine.asked) == asks


async def test_a_machine_that_cannot_be_asked_refuses_like_a_wrong_password(auth: Auth) -> None:
    door = Door(auth, enabled=True)
    door.machine.checks_passwords = False
    door.machine.error = Unavailable("no executor")
    assert await door.refused() == "wrong name or password"


async def test_too_many_at_once_are_told_so(auth: Auth) -> None:
    door = Door(auth)
    door.machine.error = TooManyRequests("busy")
    with pytest.raises(TooManyRequests):
        await door.enter()


async def test_a_changed_configuration_counts_from_the_next_log_in(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    door.system.reconfigure(Pam(groups={"wheel": "viewer"}))
    assert await door.enter() == ("viewer",)


async def test_the_clock_does_not_tell_which_names_are_local(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_accounts, "REFUSAL_TIME", 0.3)
    door = Door(auth)
    await auth.accounts.add("local", "secret")
    for name in ("local", "zoe", "nobody-here"):
        begun = anyio.current_time()
        await door.refused(name, "wrong")
        assert anyio.current_time() - begun >= 0.3
    async with asyncio.timeout(0.3):
        await door.enter()


async def test_who_guesses_is_locked_out_and_the_machine_is_spared(auth: Auth) -> None:
    door = Door(auth)
    failures = auth.limits.login_failures
    for _ in range(failures + 2):
        with pytest.raises(Unauthorized):
            await door.authenticator.password("zoe", "wrong", STRANGER)
    with pytest.raises(Unauthorized):
        await door.authenticator.password("zoe", "sesame", STRANGER)
    assert len(door.machine.asked) == failures
    assert await door.enter() == ("admin",)


# By key


async def roles_by_key(door: Door, name: str = "zoe") -> tuple[str, ...] | None:
    scope = await door.system.renewed(name)
    return None if scope is None else scope.roles


async def test_a_key_gives_the_groups_of_its_moment(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    assert await roles_by_key(door) == ("admin",)
    door.machine.users["zoe"] = ("sesame", Verdict(4001, frozenset({"operator"})))
    assert await roles_by_key(door) == ("operator",)
    assert door.machine.asked == [("zoe", "sesame")]


async def test_who_left_the_groups_loses_what_the_key_would_open(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    scope = auth.policy.scope("zoe")
    assert scope is not None
    token = auth.tokens.issue(scope)
    door.machine.users["zoe"] = ("sesame", Verdict(4001, frozenset({"users"})))
    assert await roles_by_key(door) is None
    assert auth.tokens.resolve(token) is None


async def test_who_is_gone_or_shut_out_is_not_let_in_by_a_key(auth: Auth) -> None:
    door = Door(auth)
    await door.enter()
    auth.alter("zoe", "update account set disabled = 1 where name = ?", revoked=True)
    assert await roles_by_key(door) is None
    auth.alter("zoe", "update account set disabled = 0 where name = ?")
    del door.machine.users["zoe"]
    assert await roles_by_key(door) is None
    assert door.accounts()["zoe"]["roles"] == ["admin"]


async def test_a_machine_whose_accounts_may_not_log_in_lets_no_key_of_theirs_in(auth: Auth) -> None:
    await Door(auth).enter()
    assert await roles_by_key(Door(auth, enabled=False)) is None


async def test_a_local_account_is_not_looked_up(auth: Auth) -> None:
    await auth.accounts.add("ann", "secret", ["viewer"])
    door = Door(auth)
    door.machine.hangs.clear()
    assert await roles_by_key(door, "ann") == ("viewer",)


async def test_a_machine_that_hangs_lets_nobody_in(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(auth)
    await door.enter()
    monkeypatch.setattr(system_accounts, "LOOK_UP_TIME", 0.05)
    door.machine.hangs.clear()
    try:
        assert await roles_by_key(door) is None
    finally:
        door.machine.hangs.set()


def test_the_machine_says_who_we_are() -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    found = system_accounts.user_of(name)
    assert found is not None
    assert found.uid == os.getuid()
    assert found.groups
    assert system_accounts.user_of("nobody-of-that-name") is None
    assert system_accounts.user_of("a\0b") is None
