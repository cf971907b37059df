"""Reading the schema files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sysadmd.errors import SysadmdError
from sysadmd.schema import load_methods

GOOD: dict[str, Any] = {
    "title": "T",
    "description": "D",
    "access": "read",
    "mutates": False,
    "args": {"type": "object"},
    "returns": {},
    "examples": [{"title": "E", "args": {}, "result": None}],
    "errors": [],
}


def write(root: Path, name: str, content: Any) -> Path:
    path = root / "methods" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_path_is_the_address(tmp_path: Path) -> None:
    write(tmp_path, "rpc/dispatcher/run.json", GOOD)
    write(tmp_path, "rpc/query.json", {**GOOD, "inline": True})
    methods = load_methods(tmp_path)
    assert list(methods) == ["rpc/dispatcher/run", "rpc/query"]
    run, query = methods.values()
    assert (run.namespace, run.name, run.action, run.inline) == ("rpc", "dispatcher", "run", False)
    assert (query.namespace, query.name, query.action, query.inline) == ("rpc", "query", None, True)


def test_a_method_may_have_other_addresses(tmp_path: Path) -> None:
    write(tmp_path, "rpc/dispatcher/run.json", {**GOOD, "aliases": ["sysadm/queue/start", "rpc/run"]})
    assert load_methods(tmp_path)["rpc/dispatcher/run"].aliases == ("sysadm/queue/start", "rpc/run")


@pytest.mark.parametrize("alias", ["", "rpc", "rpc//run", "a/b/c/d", "rpc/Run"])
def test_an_alias_that_is_no_address_is_refused(tmp_path: Path, alias: str) -> None:
    write(tmp_path, "rpc/dispatcher/run.json", {**GOOD, "aliases": [alias]})
    with pytest.raises(SysadmdError, match="the alias"):
        load_methods(tmp_path)


def test_the_methods_of_this_version() -> None:
    assert set(load_methods()) >= {
        "events/subscribe",
        "events/unsubscribe",
        "rpc/accounts/add",
        "rpc/accounts/list",
        "rpc/accounts/passwd",
        "rpc/accounts/remove",
        "rpc/auth",
        "rpc/auth_clear",
        "rpc/auth_token",
        "rpc/cancel",
        "rpc/discover",
        "rpc/dispatcher/kill",
        "rpc/dispatcher/list",
        "rpc/dispatcher/read_log",
        "rpc/dispatcher/run",
        "rpc/identify",
        "rpc/query",
    }


@pytest.mark.parametrize(
    "change,complaint",
    [
        ({"access": "root"}, "Invalid enum value 'root'"),
        ({"mutates": "no"}, "Expected `bool`"),
        ({"acess": "read"}, "unknown field `acess`"),
        ({"examples": [{"title": "E", "args": {}}]}, "the example 'E' needs either result or error"),
        ({"examples": [{"title": "E", "args": {}, "result": 1, "error": {"code": 400}}]}, "either result or error"),
        ({"examples": [{"title": "E", "args": {}, "error": {"code": "400"}}]}, "Expected `int`"),
        ({"errors": [{"code": 400}]}, "missing required field `when`"),
        ({"args": True}, "Expected `object`"),
    ],
)
def test_a_file_that_breaks_a_rule(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    path = write(tmp_path, "rpc/query.json", {**GOOD, **change})
    with pytest.raises(SysadmdError) as caught:
        load_methods(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize("key", ["title", "description", "access", "mutates", "args", "returns", "examples", "errors"])
def test_a_file_without_a_key(tmp_path: Path, key: str) -> None:
    write(tmp_path, "rpc/query.json", {name: value for name, value in GOOD.items() if name != key})
    with pytest.raises(SysadmdError, match=f"missing required field `{key}`"):
        load_methods(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"title": "\\ud800"}'])
def test_a_file_that_is_not_json(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, "rpc/query.json", content)
    with pytest.raises(SysadmdError, match=str(path)):
        load_methods(tmp_path)


@pytest.mark.parametrize("name", ["query.json", "rpc/Query.json", "rpc/a/b/c.json", "rpc/2x.json", "rpc/a-b.json"])
def test_a_file_in_a_place_that_is_no_address(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, GOOD)
    with pytest.raises(SysadmdError, match="<namespace>/<name>"):
        load_methods(tmp_path)


def test_a_name_is_a_method_or_has_actions(tmp_path: Path) -> None:
    write(tmp_path, "rpc/dispatcher.json", GOOD)
    write(tmp_path, "rpc/dispatcher/run.json", GOOD)
    with pytest.raises(SysadmdError, match="rpc/dispatcher is a method and also a directory"):
        load_methods(tmp_path)


def test_no_schemas_at_all(tmp_path: Path) -> None:
    with pytest.raises(SysadmdError, match="no method schemas"):
        load_methods(tmp_path)


def test_reading_is_quick() -> None:
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        load_methods()
        best = min(best, time.perf_counter() - began)
    assert best < 0.05  # 2 ms on the machine it was written on
