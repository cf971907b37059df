"""Confined scopes, and who may grant what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.auth.pattern import compiled, includes
from sysadmd.auth.scope import Scope

ADMIN = ("call:*", "event:*", "job:*:read", "job:*:run")


def scope(*patterns: str) -> Scope:
    return Scope("ann", ("r",), patterns)


@pytest.mark.parametrize(
    "held,wanted",
    [
        ("call:*", "call:*"),
        ("call:*", "call:@admin"),
        ("call:*", "call:rpc/accounts/add"),
        ("call:@read", "call:@read"),
        ("call:rpc/accounts", "call:rpc/accounts/add"),
        ("call:rpc/*", "call:rpc/dispatcher"),
        ("call:rpc/d*", "call:rpc/disp*"),
        ("call:*/x*", "call:*/x"),
        ("event:*", "event:life-preserver"),
        ("event:life_preserver", "event:life-preserver"),
        ("job:*:*", "job:dispatcher.*:run"),
        ("job:dispatcher.*:read", "job:dispatcher.pkg_queue:read"),
    ],
)
def test_a_pattern_includes_what_is_within_it(held: str, wanted: str) -> None:
    assert includes(held, wanted)


@pytest.mark.parametrize(
    "held,wanted",
    [
        ("call:@read", "call:*"),
        ("call:@read", "call:@admin"),
        ("call:@read", "call:rpc/query"),
        ("call:rpc/accounts/add", "call:rpc/accounts"),
        ("call:rpc/accounts/*", "call:rpc/accounts"),
        ("call:rpc/accounts", "call:rpc/*"),
        ("call:rpc/disp*", "call:rpc/d*"),
        ("call:*/*", "call:*"),
        ("call:*/*", "call:@read"),
        ("event:dispatcher", "event:*"),
        ("event:*", "call:*"),
        ("job:*:read", "job:x:run"),
        ("job:*:read", "job:x:*"),
        ("job:a.b:run", "job:aXb:run"),
    ],
)
def test_a_pattern_does_not_include_what_goes_beyond_it(held: str, wanted: str) -> None:
    assert not includes(held, wanted)


SEGMENT = st.text("ab*", min_size=1, max_size=4)
CALLS = st.builds("call:{}".format, st.lists(SEGMENT, min_size=2, max_size=3).map("/".join))
NAMES = st.lists(st.text("ab", min_size=1, max_size=4), min_size=2, max_size=3).map("/".join)


@given(CALLS, CALLS, NAMES)
def test_what_is_included_is_never_granted_without_its_includer(held: str, wanted: str, key: str) -> None:
    if includes(held, wanted) and compiled([wanted]).call(key, "none"):
        assert compiled([held]).call(key, "none")


def test_a_class_covers_the_methods_that_are_in_it() -> None:
    access = {"rpc/query": "read", "rpc/accounts/add": "admin"}
    assert scope("call:@read").covers(["call:rpc/query"], access) is None
    assert scope("call:@read").covers(["call:rpc/accounts/add"], access) == "call:rpc/accounts/add"


def test_the_first_pattern_that_is_not_held_is_named() -> None:
    assert scope("call:@read", "event:*").covers(["event:dispatcher", "call:@run"]) == "call:@run"
    assert scope(*ADMIN).covers(["call:*", "event:*", "job:*:read"]) is None


def test_a_confined_scope_needs_both_grants() -> None:
    confined = scope("call:@read", "event:dispatcher", "job:*:read").bounded(["call:rpc/query", "event:*", "job:a:*"])
    assert confined.may_call("rpc/query", "read")
    assert not confined.may_call("rpc/discover", "read")
    assert confined.may_see("dispatcher")
    assert not confined.may_see("bridge")
    assert confined.may_job("a")
    assert not confined.may_job("a", "run")
    assert not confined.may_job("b")


def test_a_bound_grants_nothing_by_itself() -> None:
    assert not scope("call:@read").bounded(["call:*"]).may_call("rpc/accounts/add", "admin")


def test_a_confined_scope_is_no_equal_of_an_open_one() -> None:
    assert scope("call:*") != scope("call:*").bounded(["call:@read"])
    assert scope("call:*").bounded(["call:@read"]) == scope("call:*").bounded(["call:@read"])
    assert scope("call:*").bounded([]) != scope("call:*")


def test_a_confined_scope_covers_what_both_hold() -> None:
    confined = scope(*ADMIN).bounded(["call:@read"])
    assert confined.covers(["call:@read"]) is None
    assert confined.covers(["call:@run"]) == "call:@run"


@pytest.mark.parametrize(
    "one,administers",
    [
        (scope("call:*"), True),
        (scope("call:@admin"), True),
        (scope("call:rpc/accounts/*"), False),
        (scope("call:@read", "call:@run"), False),
        (scope("call:*").bounded(["call:@read"]), False),
        (scope("call:*").bounded(["call:*"]), True),
        (scope("call:@read").bounded(["call:*"]), False),
    ],
)
def test_who_administers(one: Scope, administers: bool) -> None:
    assert one.administers is administers
