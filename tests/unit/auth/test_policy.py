"""The policy in memory."""

from __future__ import annotations

from sysadmd.auth.account_table import PolicyRows
from sysadmd.auth.policy import Policy, PolicyChange

ROLES = {"viewer": ("call:@read",), "watcher": ("event:*",)}


def policy(**accounts: tuple[str, ...]) -> Policy:
    return Policy(PolicyRows(ROLES, accounts))


def test_a_scope_has_the_patterns_of_all_roles_of_the_account() -> None:
    scope = policy(alice=("viewer", "watcher")).scope("alice")
    assert scope is not None
    assert (scope.account, scope.roles) == ("alice", ("viewer", "watcher"))
    assert scope.patterns == {"call:@read", "event:*"}


def test_an_account_without_roles_may_log_in_and_do_nothing() -> None:
    scope = policy(alice=()).scope("alice")
    assert scope is not None
    assert scope.patterns == frozenset()


def test_nobody_else_has_a_scope() -> None:
    one = policy(alice=("viewer",))
    for name in ("bob", "", "alic", "alice ", "Alice"):
        assert one.scope(name) is None


def test_the_scope_is_the_same_object_until_the_account_changes() -> None:
    one = policy(alice=("viewer",), bob=("viewer",))
    alice, bob = one.scope("alice"), one.scope("bob")
    one.replace(PolicyRows(ROLES, {"alice": ("watcher",), "bob": ("viewer",)}), "alice")
    assert one.scope("alice") is not alice
    assert one.scope("bob") is bob


def test_a_change_of_the_roles_renews_every_scope() -> None:
    one = policy(alice=("viewer",))
    before = one.scope("alice")
    one.replace(PolicyRows({"viewer": ("call:*",)}, {"alice": ("viewer",)}), None)
    after = one.scope("alice")
    assert after is not None
    assert after is not before
    assert after.patterns == {"call:*"}
    assert after.version == one.version


def test_listeners_hear_of_each_change_with_the_new_scope() -> None:
    one = policy(alice=("viewer",))
    heard: list[PolicyChange] = []
    one.on_change(heard.append)
    one.replace(PolicyRows(ROLES, {"alice": ("watcher",)}), "alice")
    one.replace(PolicyRows(ROLES, {}), "alice", revoked=True)
    assert [(c.version, c.account, c.revoked) for c in heard] == [(2, "alice", False), (3, "alice", True)]
    assert heard[0].scope is not None
    assert heard[0].scope.roles == ("watcher",)
    assert heard[1].scope is None


def test_a_role_that_is_gone_grants_nothing() -> None:
    scope = policy(alice=("retired", "viewer")).scope("alice")
    assert scope is not None
    assert scope.patterns == {"call:@read"}
