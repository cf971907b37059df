"""Accounts in the database, as a command on a stopped server changes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from sysadmd.auth import account_table
from sysadmd.errors import BadRequest, Conflict, NotFound
from sysadmd.store import Store, tables


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "sysadmd.db")
    yield opened
    opened.close()


def add(store: Store, name: str, *roles: str) -> None:
    store.write_now(lambda c: account_table.add_account(c, name, "hash", roles, 5.0))


def token_of(store: Store, name: str) -> None:
    row = {
        "hash": "00",
        "id": "0",
        "account": name,
        "kind": "login",
        "created_at": 0.0,
        "used_at": 0.0,
        "expires_at": 9e9,
    }
    store.write_now(lambda c: c.execute(insert(tables.token).values(row)))


def tokens(store: Store) -> int:
    return len(store.read_now(lambda c: c.execute(select(tables.token)).all()))


def test_accounts_are_listed_by_name_with_their_roles_and_without_secrets(store: Store) -> None:
    add(store, "bob", "viewer", "operator", "viewer")
    add(store, "alice")
    common = {"source": "local", "disabled": False, "created_at": 5.0, "changed_at": 5.0}
    assert store.read_now(account_table.list_accounts) == [
        {"name": "alice", "roles": [], **common},
        {"name": "bob", "roles": ["operator", "viewer"], **common},
    ]


def test_a_name_that_is_taken_is_a_conflict(store: Store) -> None:
    add(store, "alice")
    with pytest.raises(Conflict, match="account 'alice' already"):
        add(store, "alice", "admin")
    assert store.read_now(account_table.policy_rows).accounts == {"alice": ()}


def test_names_differ_by_case(store: Store) -> None:
    add(store, "alice")
    add(store, "Alice")
    assert len(store.read_now(account_table.list_accounts)) == 2


def test_an_unknown_role_is_refused_with_those_there_are(store: Store) -> None:
    with pytest.raises(BadRequest, match="unknown role 'root'; there are admin, operator, standard_user, viewer"):
        add(store, "alice", "viewer", "root")
    assert store.read_now(account_table.list_accounts) == []


def test_a_bad_name_is_refused(store: Store) -> None:
    with pytest.raises(BadRequest, match="account name"):
        add(store, "al ice")


def test_a_removed_account_is_gone_with_roles_and_tokens(store: Store) -> None:
    add(store, "alice", "admin")
    token_of(store, "alice")
    store.write_now(lambda c: account_table.remove_account(c, "alice"))
    assert store.read_now(account_table.list_accounts) == []
    assert tokens(store) == 0
    add(store, "alice")
    assert store.read_now(account_table.policy_rows).accounts == {"alice": ()}


def test_a_new_password_ends_the_tokens(store: Store) -> None:
    add(store, "alice")
    token_of(store, "alice")
    store.write_now(lambda c: account_table.set_password(c, "alice", "new", 7.0))
    assert store.read_now(lambda c: account_table.password_hash(c, "alice")) == "new"
    assert store.read_now(account_table.list_accounts)[0]["changed_at"] == 7.0
    assert tokens(store) == 0


def test_what_does_not_exist_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no account 'nobody'"):
        store.write_now(lambda c: account_table.remove_account(c, "nobody"))
    with pytest.raises(NotFound, match="no account 'nobody'"):
        store.write_now(lambda c: account_table.set_password(c, "nobody", "x", 0.0))
    assert store.read_now(lambda c: account_table.password_hash(c, "nobody")) is None


def test_a_disabled_account_has_no_password_and_no_roles(store: Store) -> None:
    add(store, "alice", "admin")
    store.write_now(lambda c: c.execute(update(tables.account).values(disabled=True)))
    assert store.read_now(lambda c: account_table.password_hash(c, "alice")) is None
    assert store.read_now(account_table.policy_rows).accounts == {}


def test_a_rehash_does_not_undo_a_new_password(store: Store) -> None:
    add(store, "alice")
    store.write_now(lambda c: account_table.set_password(c, "alice", "new", 7.0))
    store.write_now(lambda c: account_table.replace_hash(c, "alice", "hash", "rehashed"))
    assert store.read_now(lambda c: account_table.password_hash(c, "alice")) == "new"


def test_the_shipped_roles_are_in_the_policy(store: Store) -> None:
    roles = store.read_now(account_table.policy_rows).roles
    assert set(roles) == {"admin", "operator", "standard_user", "viewer"}
    assert "call:*" in roles["admin"]


@pytest.mark.parametrize("name", ["' or '1'='1", "alice'; drop table account; --", "%", "_"])
def test_a_name_is_never_part_of_a_statement(store: Store, name: str) -> None:
    add(store, "alice")
    assert store.read_now(lambda c: account_table.password_hash(c, name)) is None
    with pytest.raises(NotFound):
        store.write_now(lambda c: account_table.remove_account(c, name))
