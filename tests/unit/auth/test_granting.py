"""Whatever is tried, in whatever order: nobody gives or takes away what they do not hold."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.auth import account_table, role_table
from sysadmd.auth.granting import Grantor
from sysadmd.auth.scope import Scope
from sysadmd.errors import RpcError
from sysadmd.store import Store

ACCESS = {"rpc/query": "read", "rpc/dispatcher/run": "run", "rpc/roles/set": "admin", "rpc/roles/remove": "admin"}
TOPICS = ("dispatcher", "system_state")
JOBS = ("a", "a.b", "b")
PATTERN = st.sampled_from(
    [
        *(
            "call:*",
            "call:@read",
            "call:@run",
            "call:@admin",
            "call:rpc/roles",
            "call:rpc/*/r*",
            "call:rpc/dispatcher/run",
        ),
        *("event:*", "event:dispatcher", "event:system-state", "event:d*"),
        *("job:*:*", "job:a*:read", "job:a.b:run", "job:*b:*", "job:*:run"),
    ]
)
PATTERNS = st.lists(PATTERN, max_size=3, unique=True)
ROLE = st.sampled_from(["admin", "operator", "viewer", "one", "two"])
ROLES = st.lists(ROLE, max_size=2, unique=True)
ACCOUNT = st.sampled_from(["root", "vera", "olga", "new"])

Change = Callable[..., None]
CHANGE: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda n, p, i: lambda c, by: role_table.set_role(c, n, p, i, by), ROLE, PATTERNS, ROLES),
    st.builds(lambda n: lambda c, by: role_table.remove_role(c, n, by), ROLE),
    st.builds(lambda n, r: lambda c, by: account_table.set_roles(c, n, r, by), ACCOUNT, ROLES),
    st.builds(lambda n, r: lambda c, by: account_table.add_account(c, n, "hash", r, 5.0, by=by), ACCOUNT, ROLES),
    st.builds(lambda n: lambda c, by: account_table.remove_account(c, n, by), ACCOUNT),
    st.builds(lambda n, off: lambda c, by: account_table.set_disabled(c, n, off, by), ACCOUNT, st.booleans()),
)


def decisions(scope: Scope) -> set[tuple[str, ...]]:
    """All that a scope may do of what there is here."""
    calls = {("call", key) for key, access in ACCESS.items() if scope.may_call(key, access)}
    topics = {("event", topic) for topic in TOPICS if scope.may_see(topic)}
    return (
        calls | topics | {("job", job, right) for job in JOBS for right in ("read", "run") if scope.may_job(job, right)}
    )


def state(store: Store) -> dict[str, set[tuple[str, ...]]]:
    """What each account may do, and each role grants."""
    rows = store.read_now(account_table.policy_rows)
    found = {f"role {name}": decisions(Scope("", (), patterns)) for name, patterns in rows.roles.items()}
    for name, roles in rows.accounts.items():
        found[f"account {name}"] = set().union(*(found[f"role {one}"] for one in roles))
    return found


@settings(max_examples=50)
@given(PATTERNS, st.none() | PATTERNS, PATTERNS, st.lists(CHANGE, max_size=10))
def test_no_sequence_of_changes_moves_what_its_maker_does_not_hold(
    held: list[str], bound: list[str] | None, other: list[str], changes: list[Change]
) -> None:
    scope = Scope("clerk", (), held, bound=bound)
    by = Grantor(scope, ACCESS)
    with tempfile.TemporaryDirectory() as directory:
        store = Store.open(Path(directory) / "sysadmd.db")
        try:
            store.write_now(lambda c: role_table.set_role(c, "one", other, ["viewer"]))
            for name, role in (("root", "admin"), ("vera", "viewer"), ("olga", "one")):
                store.write_now(
                    partial(account_table.add_account, name=name, password_hash=None, roles=[role], now=5.0)
                )
            before = state(store)
            for change in changes:
                with contextlib.suppress(RpcError):
                    store.write_now(partial(change, by=by))
            after = state(store)
        finally:
            store.close()
    moved = {one for name in before.keys() | after.keys() for one in before.get(name, set()) ^ after.get(name, set())}
    assert moved <= decisions(scope)
    assert after["role admin"] == before["role admin"]


def test_whoever_holds_everything_may_do_all_of_it() -> None:
    """The property is not kept by refusing everything."""
    by = Grantor(Scope("root", ("admin",), ("call:*", "event:*", "job:*:read", "job:*:run")), ACCESS)
    with tempfile.TemporaryDirectory() as directory:
        store = Store.open(Path(directory) / "sysadmd.db")
        try:
            store.write_now(lambda c: role_table.set_role(c, "one", ["job:*:*", "call:@admin"], ["viewer"], by))
            store.write_now(lambda c: account_table.add_account(c, "olga", "hash", ["one", "admin"], 5.0, by=by))
            store.write_now(lambda c: account_table.set_roles(c, "olga", ["one"], by))
            assert ("job", "a.b", "run") in state(store)["account olga"]
            store.write_now(lambda c: account_table.remove_account(c, "olga", by))
            store.write_now(lambda c: role_table.remove_role(c, "one", by))
        finally:
            store.close()
