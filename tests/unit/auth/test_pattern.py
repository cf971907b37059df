"""The grammar of permissions."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.auth import pattern
from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest


def scope(*patterns: str) -> Scope:
    return Scope("alice", ["test"], patterns)


@pytest.mark.parametrize(
    "text",
    [
        "call:*",
        "call:@public",
        "call:@read",
        "call:@run",
        "call:@admin",
        "call:rpc/dispatcher",
        "call:rpc/dispatcher/run",
        "call:*/*",
        "call:sysadm/*/list*",
        "event:*",
        "event:life_preserver",
        "event:life-preserver",
        "job:*:read",
        "job:dispatcher.pkg_queue:run",
        "job:*:*",
    ],
)
def test_good_pattern(text: str) -> None:
    assert pattern.check(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "call",
        "call:",
        "call:rpc",
        "call:rpc/",
        "call:/x",
        "call:a/b/c/d",
        "call:@all",
        "call:@",
        "call:@read/x",
        "CALL:*",
        " call:*",
        "call:*\n",
        "call:a b/c",
        "call:a/(b|c)",
        "call:a/b:c",
        "event:",
        "event:a/b",
        "event:a:b",
        "job:x",
        "job:x:",
        "job:x:write",
        "job::read",
        "job:a/b:read",
        "job:x:read:run",
        "file:*",
        "call:é/x",
    ],
)
def test_bad_pattern(text: str) -> None:
    with pytest.raises(BadRequest, match=r"permission '.*': expected "):
        pattern.check(text)


def test_one_character_too_long_is_refused() -> None:
    longest = "event:" + "x" * (pattern.MAX_PATTERN - 6)
    assert pattern.check(longest) == longest
    with pytest.raises(BadRequest, match="longer than 256 characters"):
        pattern.check(longest + "x")


def test_a_scope_of_a_bad_pattern_is_refused() -> None:
    with pytest.raises(BadRequest):
        scope("call:*", "nonsense")


@pytest.mark.parametrize(
    "text, granted, refused",
    [
        ("call:*", ["a/b", "a/b/c"], []),
        (
            "call:rpc/dispatcher",
            ["rpc/dispatcher", "rpc/dispatcher/run"],
            ["rpc/dispatcher2", "xrpc/dispatcher", "rpc"],
        ),
        ("call:rpc/dispatcher/run", ["rpc/dispatcher/run"], ["rpc/dispatcher", "rpc/dispatcher/runx"]),
        ("call:sysadm/*", ["sysadm/zfs", "sysadm/zfs/list"], ["rpc/zfs", "sysadmx/zfs"]),
        ("call:sysadm/*/list*", ["sysadm/zfs/list", "sysadm/pkg/list_all"], ["sysadm/zfs", "sysadm/zfs/destroy"]),
        ("call:*/query", ["rpc/query", "rpc/query/x"], ["rpc/a/query", "rpc/x"]),
        ("call:*/*/*", ["a/b/c"], ["a/b"]),
        ("call:a.c/d", ["a.c/d"], ["abc/d"]),
        ("call:s*m/z*s", ["sysadm/zfs", "sm/zs"], ["sysadm/zfsx", "sys/adm/zfs"]),
    ],
)
def test_calls(text: str, granted: list[str], refused: list[str]) -> None:
    one = scope(text)
    assert [key for key in granted if not one.may_call(key, "admin")] == []
    assert [key for key in refused if one.may_call(key, "admin")] == []


def test_an_access_class_covers_its_methods_and_no_other() -> None:
    one = scope("call:@read")
    assert one.may_call("any/thing", "read")
    assert not one.may_call("any/thing", "run")
    assert not one.may_call("any/thing", "admin")


def test_both_spellings_of_a_topic_mean_the_same() -> None:
    for text in ("event:life-preserver", "event:life_preserver", "event:life*"):
        assert scope(text).may_see("life_preserver")
        assert scope(text).may_see("life-preserver")
        assert not scope(text).may_see("system_state")


@pytest.mark.parametrize(
    "text, granted, refused",
    [
        ("job:*:read", [("dispatcher.no_queue", "read"), ("x", "read")], [("x", "run")]),
        ("job:*:*", [("x", "read"), ("x", "run")], []),
        ("job:dispatcher.*:run", [("dispatcher.pkg_queue", "run")], [("dispatcher", "run"), ("a.dispatcher.x", "run")]),
        ("job:x:run", [("x", "run")], [("x", "read"), ("x:run", "run"), ("X", "run")]),
    ],
)
def test_jobs(text: str, granted: list[tuple[str, str]], refused: list[tuple[str, str]]) -> None:
    one = scope(text)
    assert [job for job in granted if not one.may_job(*job)] == []
    assert [job for job in refused if one.may_job(*job)] == []


def test_what_no_pattern_grants_is_refused() -> None:
    nobody = scope()
    assert not nobody.may_call("rpc/query", "read")
    assert not nobody.may_see("dispatcher")
    assert not nobody.may_job("x", "read")


def test_patterns_of_one_kind_grant_nothing_of_another() -> None:
    assert not scope("call:*").may_see("dispatcher")
    assert not scope("event:*").may_call("rpc/query", "read")
    assert not scope("event:*", "call:*").may_job("x")


def test_a_name_that_does_not_match_many_stars_is_refused_at_once() -> None:
    one = scope("job:" + "*a" * 100 + "b:read")
    began = time.process_time()
    assert not one.may_job("a" * 5000)
    assert time.process_time() - began < 0.5


SEGMENT = st.text("ab.-_*", min_size=1, max_size=8)
NAME = st.text("ab.-_", min_size=1, max_size=8)


def glob(text: str, name: str) -> bool:
    """The plain meaning of a star, by recursion."""
    if not text:
        return not name
    if text[0] == "*":
        return glob(text[1:], name) or (bool(name) and glob(text, name[1:]))
    return bool(name) and name[0] == text[0] and glob(text[1:], name[1:])


@given(SEGMENT, NAME)
def test_a_star_means_any_run_of_characters(text: str, name: str) -> None:
    assert scope(f"job:{text}:read").may_job(name) is glob(text, name)


@given(SEGMENT, SEGMENT, NAME, NAME)
def test_a_star_never_leaves_its_segment(namespace: str, name: str, left: str, right: str) -> None:
    expected = glob(namespace, left) and glob(name, right)
    assert scope(f"call:{namespace}/{name}").may_call(f"{left}/{right}", "admin") is expected


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    try:
        scope(text)
    except BadRequest as error:
        assert error.rule in {"pattern", "maxLength"}  # noqa: PT017  # refusing is one of the two good ends
