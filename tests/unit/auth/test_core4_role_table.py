"""Accounts and roles as one list: what core4's clients make of them, and what they may not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sysadmd.auth import account_table, role_table
from sysadmd.auth.core4_role_table import Entry, Wanted, change, create, entries, find, remove, totals
from sysadmd.auth.granting import Grantor
from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest, Conflict, Forbidden, NotFound
from sysadmd.store import Store

SHIPPED = ["admin", "operator", "standard_user", "viewer"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "sysadmd.db")
    yield opened
    opened.close()


def made(store: Store, name: str, by: Grantor | None = None, **wanted: Any) -> Entry:
    return store.write_now(lambda c: create(c, name, Wanted(**wanted), 5.0, by))


def user(store: Store, name: str = "ada", by: Grantor | None = None, **wanted: Any) -> Entry:
    return made(store, name, by, **{"secret": "hash", "email": f"{name}@example.org", **wanted})


def changed(store: Store, one: Entry, by: Grantor | None = None, **wanted: Any) -> Entry | None:
    return store.write_now(lambda c: change(c, one.id, one.etag, Wanted(**wanted), 9.0, by=by))


def removed(store: Store, one: Entry, by: Grantor | None = None) -> None:
    store.write_now(lambda c: remove(c, one.id, one.etag, by))


def grants(store: Store, account: str) -> set[str]:
    rows = store.read_now(account_table.policy_rows)
    return {pattern for name in rows.accounts[account] for pattern in rows.roles[name]}


def clerk(*patterns: str) -> Grantor:
    return Grantor(Scope("clerk", (), patterns))


def names(store: Store) -> list[str]:
    return [one.name for one in store.read_now(entries)]


def test_a_user_has_what_is_its_own_and_what_it_inherits(store: Store) -> None:
    one = user(store, roles=("standard_user",), patterns=("job:a:read",), realname="Ada")
    assert (one.account, one.roles, one.patterns) == (True, ("standard_user",), ("job:a:read",))
    assert (one.realname, one.email, one.active) == ("Ada", "ada@example.org", True)
    assert {"job:a:read", "call:core4/core4.api.v1.server*"} <= grants(store, "ada")


def test_the_own_role_of_a_user_is_no_line_of_its_own(store: Store) -> None:
    user(store, patterns=("job:a:read",))
    assert names(store) == sorted([*SHIPPED, "ada"])


def test_a_user_without_own_permissions_gets_no_role(store: Store) -> None:
    user(store, roles=("viewer",))
    assert sorted(store.read_now(role_table.roles)) == SHIPPED


def test_without_email_and_password_it_is_a_role(store: Store) -> None:
    one = made(store, "readers", patterns=("job:a:read",), roles=("viewer",), realname="Readers")
    assert (one.account, one.realname, one.created_at) == (False, "Readers", 5.0)
    assert store.read_now(role_table.roles)["readers"].includes == ("viewer",)


def test_who_inherits_from_a_user_has_what_the_user_has(store: Store) -> None:
    user(store, patterns=("job:a:read",), roles=("viewer",))
    user(store, "bert", roles=("ada",))
    assert {"job:a:read", "call:@read"} <= grants(store, "bert")


def test_accounts_that_were_made_elsewhere_are_in_the_list(store: Store) -> None:
    store.write_now(lambda c: account_table.add_account(c, "oper", "hash", ("operator",), 1.0))
    one = store.read_now(lambda c: find(c, "oper"))
    assert (one.roles, one.patterns, one.own) == (("operator",), (), False)


def test_an_entry_is_found_by_id_and_by_name_and_not_by_a_part_of_it(store: Store) -> None:
    one = user(store)
    assert store.read_now(lambda c: find(c, one.id)) == one == store.read_now(lambda c: find(c, "ada"))
    for key in ("ad", "ADA", "a.a", ".*", "", one.id[:23]):
        with pytest.raises(NotFound):
            store.read_now(partial(find, key=key))


@pytest.mark.parametrize("name", ["ada", "viewer"])
def test_a_name_is_taken_by_users_and_roles_alike(store: Store, name: str) -> None:
    user(store)
    both: list[dict[str, Any]] = [{"secret": "hash"}, {}]
    for wanted in both:
        with pytest.raises(Conflict, match="name or email exists"):
            made(store, name, **wanted)


def test_an_email_is_one_users(store: Store) -> None:
    user(store)
    with pytest.raises(Conflict, match="name or email exists"):
        user(store, "bert", email="ada@example.org")
    assert "bert" not in names(store)
    bert = user(store, "bert")
    with pytest.raises(Conflict, match="name or email exists"):
        changed(store, bert, email="ada@example.org")


@pytest.mark.parametrize(
    "wanted,error",
    [
        ({"roles": ("emperor",)}, NotFound),
        ({"email": "nowhere"}, BadRequest),
        ({"email": "a b@example.org"}, BadRequest),
        ({"realname": "x" * 257}, BadRequest),
        ({"patterns": ("nonsense",)}, BadRequest),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_is_left_of_it(
    store: Store, wanted: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        user(store, **wanted)
    assert names(store) == SHIPPED


def test_a_name_with_a_blank_is_refused(store: Store) -> None:
    with pytest.raises(BadRequest):
        user(store, "ada lovelace")


def test_the_etag_changes_with_each_change_of_whatever_kind(store: Store) -> None:
    etags = {(one := user(store)).etag}
    for wanted in (
        {"realname": "Ada"},
        {"email": "new@example.org"},
        {"roles": ("viewer",)},
        {"patterns": ("job:a:read",)},
        {"secret": "another"},
        {"active": False},
    ):
        one = changed(store, one, **wanted) or one
        etags.add(one.etag)
    assert len(etags) == 7
    store.write_now(lambda c: account_table.set_password(c, "ada", "third", 10.0))
    assert store.read_now(lambda c: find(c, "ada")).etag not in etags


def test_a_stale_etag_changes_nothing(store: Store) -> None:
    one = user(store)
    changed(store, one, realname="Ada")
    with pytest.raises(Conflict, match="etag"):
        changed(store, one, realname="Eve")
    with pytest.raises(Conflict, match="etag"):
        removed(store, one)
    assert store.read_now(lambda c: find(c, "ada")).realname == "Ada"


def test_a_change_to_what_is_said_already_is_none(store: Store) -> None:
    one = user(store, roles=("viewer",), realname="Ada")
    assert changed(store, one, realname="Ada", roles=("viewer",), active=True) is None


def test_permissions_that_are_given_later_make_an_own_role(store: Store) -> None:
    one = user(store, roles=("viewer",))
    after = changed(store, one, patterns=("job:a:read",))
    assert after is not None
    assert (after.own, after.roles, after.patterns) == (True, ("viewer",), ("job:a:read",))
    assert {"job:a:read", "call:@read"} <= grants(store, "ada")


def test_an_inactive_user_may_not_log_in(store: Store) -> None:
    one = user(store, active=False)
    assert not one.active
    assert "ada" not in store.read_now(account_table.policy_rows).accounts
    changed(store, one, active=True)
    assert "ada" in store.read_now(account_table.policy_rows).accounts


@pytest.mark.parametrize("wanted", [{"email": "x@example.org"}, {"secret": "hash"}, {"active": False}])
def test_a_role_does_not_become_a_user(store: Store, wanted: dict[str, Any]) -> None:
    one = made(store, "readers")
    with pytest.raises(BadRequest):
        changed(store, one, **wanted)


def test_a_role_that_is_removed_is_taken_from_all_who_have_it(store: Store) -> None:
    one = made(store, "readers", patterns=("job:a:read",))
    user(store, roles=("readers", "viewer"))
    made(store, "more", roles=("readers",))
    user(store, "bert", roles=("readers",), patterns=("job:b:read",))
    removed(store, one)
    assert store.read_now(lambda c: find(c, "ada")).roles == ("viewer",)
    assert store.read_now(lambda c: find(c, "more")).roles == ()
    assert grants(store, "bert") == {"job:b:read"}


def test_a_user_that_is_removed_leaves_no_role(store: Store) -> None:
    one = user(store, patterns=("job:a:read",))
    user(store, "bert", roles=("ada", "viewer"))
    removed(store, one)
    assert names(store) == sorted([*SHIPPED, "bert"])
    assert "ada" not in store.read_now(role_table.roles)
    assert store.read_now(lambda c: find(c, "bert")).roles == ("viewer",)


def test_the_administrators_role_stays(store: Store) -> None:
    one = store.read_now(lambda c: find(c, "admin"))
    with pytest.raises(Conflict):
        removed(store, one)
    with pytest.raises(Conflict):
        changed(store, one, patterns=("event:*",))


def test_an_account_beside_a_role_of_its_name_is_two_entries_with_two_ids(store: Store) -> None:
    store.write_now(lambda c: account_table.add_account(c, "operator", "hash", ("viewer",), 1.0))
    both = [one for one in store.read_now(entries) if one.name == "operator"]
    assert [one.account for one in both] == [True, False]
    assert len({one.id for one in both}) == 2
    with pytest.raises(Conflict, match="own"):
        changed(store, both[0], patterns=("job:a:read",))


def test_all_that_is_inherited_is_in_the_totals(store: Store) -> None:
    made(store, "inner", patterns=("job:i:read",))
    made(store, "outer", roles=("inner",))
    one = user(store, roles=("outer",), patterns=("job:a:read",))
    assert store.read_now(lambda c: totals(c, one)) == (("job:a:read", "job:i:read"), ("inner", "outer"))


# Nobody grants more than they hold


@pytest.mark.parametrize(
    "wanted", [{"patterns": ("call:*",)}, {"roles": ("admin",)}, {"patterns": ("job:b:run",), "secret": "hash"}]
)
def test_nobody_gives_what_they_do_not_hold(store: Store, wanted: dict[str, Any]) -> None:
    by = clerk("job:a:*")
    with pytest.raises(Forbidden):
        made(store, "puppet", by, **wanted)
    mine = user(store, "mine", by, patterns=("job:a:read",))
    given = {key: value for key, value in wanted.items() if key != "secret"}
    with pytest.raises(Forbidden):
        changed(store, mine, by, **given)
    assert grants(store, "mine") == {"job:a:read"}


@pytest.mark.parametrize(
    "wanted", [{"secret": "chosen by the clerk"}, {"email": "e@example.org"}, {"active": False}, {"realname": "x"}]
)
def test_nobody_changes_who_may_do_more(store: Store, wanted: dict[str, Any]) -> None:
    chief = user(store, "chief", roles=("admin",))
    with pytest.raises(Forbidden):
        changed(store, chief, clerk("job:a:*"), **wanted)
    with pytest.raises(Forbidden):
        removed(store, chief, clerk("job:a:*"))


def test_a_role_is_not_taken_from_who_may_do_more(store: Store) -> None:
    one = made(store, "readers", patterns=("job:a:read",))
    user(store, "chief", roles=("admin", "readers"))
    with pytest.raises(Forbidden):
        removed(store, one, clerk("job:a:*"))
