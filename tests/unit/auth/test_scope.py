"""The scope of a session."""

from __future__ import annotations

import timeit

from sysadmd.auth import scope as scopes
from sysadmd.auth.scope import Scope
from sysadmd.store.rows import ROLES

METHODS = {
    "rpc/identify": "public",
    "rpc/query": "read",
    "rpc/dispatcher/list": "read",
    "sysadm/services/start": "run",
    "rpc/dispatcher/run": "admin",
    "rpc/accounts/add": "admin",
}


def shipped(role: str) -> Scope:
    return Scope("alice", [role], ROLES[role])


def callable_by(scope: Scope) -> set[str]:
    return {key for key, access in METHODS.items() if scope.may_call(key, access)}


def test_admin_may_everything() -> None:
    admin = shipped("admin")
    assert callable_by(admin) == set(METHODS)
    assert admin.may_see("dispatcher")
    assert admin.may_job("dispatcher.no_queue", "run")


def test_operator_reads_and_runs_what_its_schema_classes_so_and_no_arbitrary_command() -> None:
    operator = shipped("operator")
    assert callable_by(operator) == {"rpc/query", "rpc/dispatcher/list", "sysadm/services/start"}
    assert operator.may_see("dispatcher")
    assert operator.may_job("dispatcher.pkg_queue", "run")


def test_viewer_reads() -> None:
    viewer = shipped("viewer")
    assert callable_by(viewer) == {"rpc/query", "rpc/dispatcher/list"}
    assert viewer.may_see("system_state")
    assert viewer.may_job("dispatcher.no_queue", "read")
    assert not viewer.may_job("dispatcher.no_queue", "run")


def test_the_second_answer_is_the_first() -> None:
    viewer = shipped("viewer")
    for _ in range(2):
        assert viewer.may_call("rpc/query", "read")
        assert not viewer.may_call("rpc/query", "admin")


def test_scopes_that_permit_the_same_are_equal_whoever_holds_them() -> None:
    one, two = Scope("alice", ["a"], ROLES["viewer"]), Scope("bob", ["b"], reversed(ROLES["viewer"]))
    assert one == two
    assert len({one, two}) == 1
    assert one != shipped("operator")
    assert one != "alice"


def test_answers_kept_are_bounded() -> None:
    scope = shipped("viewer")
    for number in range(scopes.MAX_MEMO + 10):
        assert scope.may_job(f"job{number}")
    assert len(scope._jobs) == scopes.MAX_MEMO
    assert scope.may_job("one.more")


def test_roles_are_sorted_names() -> None:
    assert Scope("alice", ["b", "a", "b"], []).roles == ("a", "b")
    assert repr(Scope("alice", ["a"], [], 3)) == "<Scope alice a v3>"


def test_a_warm_decision_takes_less_than_a_microsecond() -> None:
    scope = Scope("alice", ["many"], [f"call:ns/name{n}*/x" for n in range(50)])
    scope.may_call("ns/name7/x", "run")
    best = min(timeit.repeat(lambda: scope.may_call("ns/name7/x", "run"), number=20_000, repeat=5)) / 20_000
    assert best < 1e-6
