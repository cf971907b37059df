"""`sysadmd role` and `sysadmd user roles|disable|enable` on the database of a stopped server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sysadmd.cli import main


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def run(state: Path, *args: str) -> int:
    return main([*args, "--state-dir", str(state)])


def rows(state: Path, capsys: pytest.CaptureFixture[str], command: str) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert run(state, command, "list") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {one["name"]: one for one in found}


def test_a_role_is_set_replaced_and_removed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patterns = ("--pattern", "job:nightly_*:run", "--pattern", "call:rpc/dispatcher/run")
    assert run(state, "role", "set", "nightly", *patterns, "--include", "viewer") == 0
    role = rows(state, capsys, "role")["nightly"]
    assert role["patterns"] == ["call:rpc/dispatcher/run", "job:nightly_*:run"]
    assert role["includes"] == ["viewer"]
    assert "event:*" in role["grants"]
    assert run(state, "role", "set", "nightly") == 0
    assert rows(state, capsys, "role")["nightly"]["grants"] == []
    assert run(state, "role", "remove", "nightly") == 0
    assert set(rows(state, capsys, "role")) == {"admin", "operator", "standard_user", "viewer"}


def test_an_account_gets_other_roles(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "user", "add", "olga", "--generate") == 0
    assert run(state, "user", "roles", "olga", "--role", "operator", "--role", "viewer", "--role", "viewer") == 0
    assert rows(state, capsys, "user")["olga"]["roles"] == ["operator", "viewer"]
    assert run(state, "role", "remove", "operator") == 1
    assert capsys.readouterr().err.startswith("sysadmd: the account 'olga' has the role 'operator'")
    assert run(state, "user", "roles", "olga") == 0
    assert rows(state, capsys, "user")["olga"]["roles"] == []
    assert run(state, "role", "remove", "operator") == 0


def test_an_account_is_disabled_and_enabled(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "user", "add", "olga", "--generate") == 0
    assert run(state, "user", "disable", "olga") == 0
    assert rows(state, capsys, "user")["olga"]["disabled"] is True
    assert run(state, "user", "enable", "olga") == 0
    assert rows(state, capsys, "user")["olga"]["disabled"] is False


@pytest.mark.parametrize(
    "args, message",
    [
        (("role", "set", "admin", "--pattern", "call:@read"), "the role 'admin' stays as it is"),
        (("role", "remove", "admin"), "the role 'admin' stays as it is"),
        (("role", "set", "viewer", "--include", "viewer"), "role 'viewer' would include itself"),
        (("role", "set", "x", "--include", "emperor"), "unknown role 'emperor'"),
        (("role", "set", "x", "--pattern", "job://.*/x"), "permission 'job://.*/x'"),
        (("role", "remove", "emperor"), "there is no role 'emperor'"),
        (("user", "roles", "nobody"), "there is no account 'nobody'"),
        (("user", "disable", "nobody"), "there is no account 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_and_told(
    state: Path, args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state, *args) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
