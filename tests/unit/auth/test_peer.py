"""Callers on the Unix socket."""

from __future__ import annotations

import pwd

from sysadmd.auth import peer
from sysadmd.auth.account_table import PolicyRows
from sysadmd.auth.policy import Policy
from sysadmd.store.rows import ROLES

POLICY = PolicyRows({name: tuple(patterns) for name, patterns in ROLES.items()}, {"daemon": ("viewer",)})


def policy() -> Policy:
    return Policy(POLICY)


def test_root_is_admin() -> None:
    scope = peer.scope_of_uid(policy(), 0, own_uid=1000)
    assert scope is not None
    assert (scope.account, scope.roles) == (pwd.getpwuid(0).pw_name, ("admin",))
    assert scope.may_call("rpc/dispatcher/run", "admin")


def test_the_uid_of_the_server_is_admin_even_without_a_name() -> None:
    scope = peer.scope_of_uid(policy(), 54321, own_uid=54321)
    assert scope is not None
    assert (scope.account, scope.roles) == ("uid-54321", ("admin",))


def test_an_account_of_the_same_name_has_its_own_roles() -> None:
    scope = peer.scope_of_uid(policy(), pwd.getpwnam("daemon").pw_uid, own_uid=54321)
    assert scope is not None
    assert (scope.account, scope.roles) == ("daemon", ("viewer",))


def test_others_must_log_in() -> None:
    assert peer.scope_of_uid(policy(), 54321, own_uid=1000) is None
    assert peer.scope_of_uid(policy(), pwd.getpwnam("nobody").pw_uid, own_uid=1000) is None


def test_the_uid_of_no_unix_socket_is_nobody() -> None:
    assert peer.scope_of_uid(policy(), 2**32 - 1, own_uid=1000) is None
