"""`sysadmd token` and `sysadmd session` on the state directory of a stopped server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sysadmd.cli import main
from sysadmd.cli.directory import open_directory


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with open_directory(tmp_path / "state") as server:
        server.call("rpc/accounts/add", {"name": "ines", "password": "secret", "roles": ["viewer"]})
    return tmp_path / "state"


def token(state: Path, *args: str) -> int:
    return main(["token", *args, "--state-dir", str(state)])


def listed(state: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert token(state, "list") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_new_token_is_alone_on_standard_output(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert token(state, "create", "monitor", "--user", "ines") == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"[A-Za-z0-9]{32}\n", captured.out)
    assert re.fullmatch(r"The token monitor \([0-9a-f]{12}\), shown only now:\n", captured.err)


def test_it_is_listed_with_what_it_was_made_with(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scopes = ("--scope", "event:zfs", "--scope", "call:rpc/dispatcher/list")
    assert token(state, "create", "monitor", "--user", "ines", *scopes, "--expires", "90d") == 0
    secret = capsys.readouterr().out.strip()
    (row,) = listed(state, capsys)
    assert (row["account"], row["name"]) == ("ines", "monitor")
    assert row["scopes"] == ["call:rpc/dispatcher/list", "event:zfs"]
    assert row["expires_at"] - row["created_at"] == 90 * 86_400
    assert secret not in str(row)


def test_a_revoked_one_is_gone(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token(state, "create", "monitor", "--user", "ines")
    (row,) = listed(state, capsys)
    assert token(state, "revoke", row["id"]) == 0
    assert listed(state, capsys) == []
    assert token(state, "revoke", row["id"]) == 1
    assert "there is no such token" in capsys.readouterr().err


def test_an_account_that_is_not_there_is_named(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert token(state, "create", "monitor", "--user", "paul") == 1
    captured = capsys.readouterr()
    assert (captured.out, "no account 'paul'" in captured.err) == ("", True)


def test_what_is_no_permission_is_refused(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert token(state, "create", "monitor", "--user", "ines", "--scope", "everything") == 1
    assert "everything" in capsys.readouterr().err
    assert listed(state, capsys) == []


@pytest.mark.parametrize("args", [("list",), ("kill", "0000000000000000")])
def test_sessions_need_a_running_server(state: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...]) -> None:
    assert main(["session", *args, "--state-dir", str(state)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no server runs on this state directory" in captured.err
