"""Roles in the database: what they include, what keeps them, and who may change them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from sysadmd.auth import account_table, role_table
from sysadmd.auth.granting import Grantor
from sysadmd.auth.role_table import Role
from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest, Conflict, Forbidden, NotFound
from sysadmd.store import Store, tables


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "sysadmd.db")
    yield opened
    opened.close()


def put(store: Store, name: str, *patterns: str, includes: tuple[str, ...] = (), by: Grantor | None = None) -> None:
    store.write_now(lambda c: role_table.set_role(c, name, patterns, includes, by))


def remove(store: Store, name: str, by: Grantor | None = None) -> None:
    store.write_now(lambda c: role_table.remove_role(c, name, by))


def account(store: Store, name: str, *roles: str, by: Grantor | None = None) -> None:
    store.write_now(lambda c: account_table.add_account(c, name, "hash", roles, 5.0, by=by))


def grants(store: Store, name: str) -> set[str]:
    return set(store.read_now(account_table.policy_rows).roles.get(name, ()))


def holder(*patterns: str) -> Grantor:
    return Grantor(Scope("alice", ("some",), patterns), {"rpc/dispatcher/run": "run", "rpc/roles/set": "admin"})


def test_a_role_grants_what_the_roles_it_includes_grant_however_deep(store: Store) -> None:
    put(store, "one", "event:dispatcher")
    put(store, "two", "job:a:read", includes=("one",))
    put(store, "three", includes=("two", "viewer"))
    assert grants(store, "three") == {"event:dispatcher", "job:a:read", "call:@read", "event:*", "job:*:read"}
    put(store, "one", "event:system_state")
    assert "event:system_state" in grants(store, "three")
    assert "event:dispatcher" not in grants(store, "three")


def test_a_role_without_anything_grants_nothing(store: Store) -> None:
    put(store, "nothing")
    assert grants(store, "nothing") == set()


@pytest.mark.parametrize("name", ["viewer", "one"])
def test_no_role_includes_itself_not_even_through_others(store: Store, name: str) -> None:
    put(store, "one", includes=("viewer",))
    put(store, "two", includes=("one",))
    for includes in ((name,), ("two",)):
        with pytest.raises(BadRequest, match="would include itself"):
            put(store, name, includes=includes)
    assert grants(store, "two") == grants(store, "viewer")


def test_cycles_in_a_database_from_elsewhere_are_read_all_the_same(store: Store) -> None:
    put(store, "one", "event:dispatcher")
    put(store, "two", "job:a:read", includes=("one",))
    circular = update(tables.role).where(tables.role.c.name == "one").values(includes=["two", "gone"])
    store.write_now(lambda c: c.execute(circular))
    assert grants(store, "one") == grants(store, "two") == {"event:dispatcher", "job:a:read"}


NAMES = st.sampled_from("abcdefg")
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=4).map(tuple), max_size=7)


@given(GRAPHS, st.lists(NAMES, max_size=3))
def test_what_is_granted_is_what_can_be_reached_and_exists(graph: dict[str, tuple[str, ...]], asked: list[str]) -> None:
    known = {name: Role((f"job:{name}:read",), includes) for name, includes in graph.items()}
    reached = {name for name in asked if name in graph}
    for _ in graph:  # the closure, by as many steps as there are roles
        reached |= {other for name in reached for other in graph[name] if other in graph}
    assert set(role_table.granted(known, asked)) == {f"job:{name}:read" for name in reached}


@pytest.mark.parametrize(
    "name, patterns, includes, message",
    [
        ("", (), (), "role name"),
        ("two words", (), (), "role name"),
        ("x" * 33, (), (), "role name"),
        ("good", ("api://.*",), (), "permission"),
        ("good", ("call:a/(b|c)",), (), "permission"),
        ("good", (), ("emperor",), "unknown role 'emperor'"),
    ],
)
def test_what_is_no_role_is_refused(
    store: Store, name: str, patterns: tuple[str, ...], includes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        put(store, name, *patterns, includes=includes)
    assert set(store.read_now(role_table.roles)) == {"admin", "operator", "standard_user", "viewer"}


def test_the_administrators_role_is_neither_changed_nor_removed(store: Store) -> None:
    before = grants(store, "admin")
    with pytest.raises(Conflict, match="stays as it is"):
        put(store, "admin", "call:@read")
    with pytest.raises(Conflict, match="stays as it is"):
        remove(store, "admin")
    assert grants(store, "admin") == before


def test_a_role_in_use_is_not_removed(store: Store) -> None:
    put(store, "one", "event:dispatcher")
    put(store, "two", includes=("one",))
    account(store, "bob", "two")
    with pytest.raises(Conflict, match="account 'bob' has the role 'two'"):
        remove(store, "two")
    with pytest.raises(Conflict, match="role 'two' includes the role 'one'"):
        remove(store, "one")
    store.write_now(lambda c: account_table.set_roles(c, "bob", ()))
    remove(store, "two")
    remove(store, "one")
    assert set(store.read_now(role_table.roles)) == {"admin", "operator", "standard_user", "viewer"}
    with pytest.raises(NotFound):
        remove(store, "one")


def test_nobody_makes_a_role_of_what_they_do_not_hold(store: Store) -> None:
    by = holder("call:@run", "event:dispatcher", "job:pkg.*:*")
    put(store, "good", "call:rpc/dispatcher/run", "event:dispatcher", "job:pkg.x:run", "job:pkg.a*:*", by=by)
    for pattern in ("call:rpc/roles/set", "call:*", "call:@admin", "event:*", "job:*:read", "job:pkgx:read"):
        with pytest.raises(Forbidden, match=f"role 'bad' has {pattern.replace('*', '[*]')}, which alice does not hold"):
            put(store, "bad", pattern, by=by)
    with pytest.raises(Forbidden, match="which alice does not hold"):
        put(store, "bad", includes=("viewer",), by=by)
    assert "bad" not in store.read_now(role_table.roles)


def test_nobody_takes_from_a_role_what_they_do_not_hold(store: Store) -> None:
    by = holder("call:@admin", "event:dispatcher")
    put(store, "greater", "event:*")
    put(store, "outer", "event:dispatcher", includes=("greater",))
    for name in ("greater", "outer", "operator"):
        with pytest.raises(Forbidden):
            put(store, name, "event:dispatcher", by=by)
        with pytest.raises(Forbidden):
            remove(store, name, by)
    put(store, "lesser", "event:dispatcher")
    put(store, "lesser", by=by)
    remove(store, "lesser", by)


def test_a_confined_caller_grants_no_more_than_it_is_confined_to(store: Store) -> None:
    whole = Scope("root", ("admin",), ("call:*", "event:*"))
    by = Grantor(whole.bounded(("call:@admin", "event:dispatcher")))
    put(store, "good", "event:dispatcher", by=by)
    with pytest.raises(Forbidden, match="event:system_state"):
        put(store, "bad", "event:system_state", by=by)


def test_who_holds_both_rights_one_by_one_may_grant_both_at_once(store: Store) -> None:
    put(store, "both", "job:a:*", by=holder("job:*:read", "job:*:run"))
    with pytest.raises(Forbidden, match="job:b:run"):
        put(store, "other", "job:b:*", by=holder("job:*:read"))


Change = Callable[..., None]
CHANGES: tuple[Change, ...] = (
    lambda c, name, by: account_table.set_password(c, name, "other", 6.0, by),
    lambda c, name, by: account_table.set_roles(c, name, ("viewer",), by),
    lambda c, name, by: account_table.set_disabled(c, name, True, by),
    account_table.remove_account,
)


def test_nobody_touches_an_account_that_may_do_more(store: Store) -> None:
    account(store, "root", "admin")
    account(store, "bob", "viewer")
    by = holder("call:@read", "call:@admin", "event:*", "job:*:read")
    before = store.read_now(account_table.list_accounts)
    for change in CHANGES:
        with pytest.raises(Forbidden, match=r"account 'root' has call:\*, which alice does not hold"):
            store.write_now(partial(change, name="root", by=by))
    assert store.read_now(account_table.list_accounts) == before
    for change in CHANGES:
        store.write_now(partial(change, name="bob", by=by))


def test_nobody_gives_an_account_what_they_do_not_hold(store: Store) -> None:
    by = holder("call:@read", "event:*", "job:*:read")
    account(store, "bob", "viewer", by=by)
    with pytest.raises(Forbidden, match="role 'operator' has call:@run"):
        store.write_now(lambda c: account_table.set_roles(c, "bob", ("operator",), by))
    with pytest.raises(Forbidden, match="role 'admin' has"):
        account(store, "eve", "viewer", "admin", by=by)
    assert [one["name"] for one in store.read_now(account_table.list_accounts)] == ["bob"]


def test_the_roles_of_an_account_of_the_machine_are_its_groups_alone(store: Store) -> None:
    """Set here, they would come back with the next log-in, unseen by whoever took them away."""
    account(store, "olga", "viewer")
    of_the_machine = update(tables.account).where(tables.account.c.name == "olga").values(source="system")
    store.write_now(lambda c: c.execute(of_the_machine))
    with pytest.raises(Conflict, match="its groups give its roles"):
        store.write_now(lambda c: account_table.set_roles(c, "olga", ()))
    assert store.read_now(account_table.policy_rows).accounts == {"olga": ("viewer",)}
    with pytest.raises(NotFound):
        store.write_now(lambda c: account_table.set_roles(c, "nobody", ()))


def test_a_disabled_account_is_hidden_from_the_policy_but_keeps_its_roles(store: Store) -> None:
    account(store, "bob", "viewer")
    store.write_now(lambda c: account_table.set_disabled(c, "bob", True))
    assert store.read_now(account_table.policy_rows).accounts == {}
    assert store.read_now(lambda c: account_table.password_hash(c, "bob")) is None
    store.write_now(lambda c: account_table.set_disabled(c, "bob", False))
    assert store.read_now(account_table.policy_rows).accounts == {"bob": ("viewer",)}
    with pytest.raises(NotFound):
        store.write_now(lambda c: account_table.set_disabled(c, "nobody", True))
