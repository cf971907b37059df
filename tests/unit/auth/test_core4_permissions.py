"""core4's permission strings in our grammar: exactly, or not at all."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.auth.core4_permissions import ACTIONS, spelled, translate, translated, understood
from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest


def scope(*permissions: str) -> Scope:
    return Scope("alice", (), translated(permissions))


@pytest.mark.parametrize(
    "permission, patterns",
    [
        ("cop", {"call:*", "event:*", "job:*:read", "job:*:run"}),
        ("job://a.B/x", {"job:a.B:read", "job:a.B:run"}),
        ("job://a.B/r", {"job:a.B:read"}),
        ("job://a.*/r", {"job:a*:read"}),
        (r"job://a\.b\..*/r", {"job:a.b.*:read"}),
        ("job://.*/x", {"job:*:read", "job:*:run"}),
        ("api://core4.api.v1.server.*", {"call:core4/core4.api.v1.server*"}),
        ("api://core4.api.v1.request.store.*/u", {"call:core4/core4.api.v1.request.store*/update"}),
        ("api://a.B/rcr", {"call:core4/a.B/read", "call:core4/a.B/create"}),
        (
            "api://x/crud",
            {"call:core4/x/create", "call:core4/x/read", "call:core4/x/update", "call:core4/x/delete"},
        ),
    ],
)
def test_what_can_be_said_exactly(permission: str, patterns: set[str]) -> None:
    assert set(translate(permission)) == patterns


@pytest.mark.parametrize("name", ["aXByz", "aXB", "a.Bz", "xa.B", "a.B.c", "A.B", "a.b", "ab.B", "a.B\n"])
def test_a_job_is_matched_from_its_start_to_its_end_and_a_dot_is_a_dot(name: str) -> None:
    one = scope("job://a.B/x")
    assert one.may_job("a.B", "run")
    assert one.may_job("a.B", "read")
    assert not one.may_job(name, "run")
    assert not one.may_job(name, "read")


def test_seeing_a_job_is_not_running_it() -> None:
    assert scope("job://a.B/r").may_job("a.B", "read")
    assert not scope("job://a.B/r").may_job("a.B", "run")


def test_an_escaped_dot_keeps_a_package_apart_from_its_neighbours() -> None:
    package = scope(r"job://billing\..*/x")
    assert package.may_job("billing.invoice", "run")
    assert not package.may_job("billing_admin.purge", "run")
    assert scope("job://billing.*/x").may_job("billing_admin.purge", "run")  # as the expression says


def test_a_letter_is_one_kind_of_call() -> None:
    one = scope("api://a.B/r")
    assert one.may_call("core4/a.B/read", "read")
    assert not any(one.may_call(f"core4/a.B/{action}", "read") for action in ACTIONS.values() if action != "read")
    assert not one.may_call("core4/aXB/read", "read")
    assert not one.may_call("rpc/dispatcher/run", "admin")


@pytest.mark.parametrize(
    "permission",
    [
        "",
        "COP",
        "cop ",
        "cop\n",
        "api://",
        "api:///r",
        "api://a.B/",
        "api://a.B/x",
        "api://a.B/rr/r",
        "api://a/b/r",
        "job://",
        "job://a.B",
        "job:///x",
        "job://a.B/",
        "job://a.B/rx",
        "job://a.B/d",
        "job://a.B/x\n",
        "job://a.*B/x",
        "job://.*.*/x",
        "job://a*/x",
        "job://a+/x",
        "job://a?/x",
        "job://a|b/x",
        "job://(a|b)/x",
        "job://[ab]/x",
        "job://a{2}/x",
        "job://^a/x",
        "job://a$/x",
        r"job://\w/x",
        r"job://a\/x",
        r"job://a\.*/x",
        r"job://a\\.b/x",
        "job://a b/x",
        "job://a:b/x",
        "job://é/x",
        "job://(a+)+$/x",
        "app://key",
        "mongodb://db",
        "call:*",
        "job:*:run",
    ],
)
def test_what_cannot_be_said_exactly_is_refused(permission: str) -> None:
    with pytest.raises(BadRequest, match="expected cop, api://"):
        translate(permission)
    with pytest.raises(BadRequest):
        translated(["cop", permission])


def test_what_is_too_long_is_refused_quickly() -> None:
    began = time.perf_counter()
    for name in ("a" * 100_000, "a." * 50_000, "." * 100_000, "\\." * 50_000 + "("):
        with pytest.raises(BadRequest):
            translate(f"job://{name}/x")
    assert time.perf_counter() - began < 1


NAMES = st.text("ab.\\*+|(x", max_size=6)
JOBS = st.text("abx.", min_size=1, max_size=6)


@given(NAMES, JOBS)
def test_nothing_is_granted_that_the_expression_did_not_grant(name: str, job: str) -> None:
    try:
        one = scope(f"job://{name}/x")
    except BadRequest:
        return
    granted = re.match(name, job) is not None
    assert granted or not one.may_job(job, "run")


@given(st.text(max_size=30))
def test_any_text_is_translated_or_refused(text: str) -> None:
    for permission in (text, f"job://{text}/x", f"api://{text}"):
        try:
            assert translate(permission)
        except BadRequest:
            continue


@pytest.mark.parametrize(
    "permissions",
    [
        ["cop"],
        ["api://core4.api.v1.request.queue.history.*"],
        ["api://a.B", "api://a.C/cr"],
        ["api://.*/r"],
        ["job://.*/x"],
        ["job://a.B/r", "job://a.C.*/x"],
        [],
    ],
)
def test_what_was_said_is_shown_in_the_same_words(permissions: list[str]) -> None:
    assert spelled(translated(permissions)) == permissions


@pytest.mark.parametrize("pattern", ["call:@read", "event:*", "job:a*b:read", "job:a.B:run", "call:core4/a*b/read"])
def test_what_core4_has_no_words_for_is_shown_as_it_is_and_read_again(pattern: str) -> None:
    assert spelled([pattern]) == [pattern]
    assert understood([pattern]) == (pattern,)


@given(
    st.sets(
        st.sampled_from(
            ["cop", "api://a.B/r", "api://a.B", "job://x.*/r", "job://x.*/x", "event:queue", "job:y:run", "call:@run"]
        )
    )
)
def test_what_is_shown_grants_what_is_stored(permissions: set[str]) -> None:
    stored = understood(permissions)
    shown = understood(spelled(stored))
    assert Scope("a", (), stored).covers(shown) is None
    assert Scope("a", (), shown).covers(stored) is None


@pytest.mark.parametrize("permission", ["", "nonsense", "app://x", "mongodb://db", "cop:*", "job:a.B", "job://a/b/x"])
def test_a_string_of_neither_grammar_is_refused(permission: str) -> None:
    with pytest.raises(BadRequest):
        understood([permission])
