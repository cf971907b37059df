"""`sysadmd user` on the database of a stopped server."""

from __future__ import annotations

import io
import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from sysadmd.auth.account_table import password_hash
from sysadmd.auth.password import Passwords
from sysadmd.cli import directory as directory_module
from sysadmd.cli import main
from sysadmd.store import DATABASE_FILE, Store
from sysadmd.store.lock import StateLock


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def user(state: Path, *args: str) -> int:
    return main(["user", *args, "--state-dir", str(state)])


def listed(state: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert user(state, "list") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def accepts(state: Path, name: str, password: str) -> bool:
    store = Store.open(state / DATABASE_FILE)
    try:
        return Passwords().verify(store.read_now(lambda connection: password_hash(connection, name)), password)
    finally:
        store.close()


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_an_account_is_added_with_the_password_of_standard_input(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(monkeypatch, "correct horse\nnot this\n")
    assert user(state, "add", "ines", "--role", "operator", "--role", "admin", "--password-stdin") == 0
    assert accepts(state, "ines", "correct horse")
    (row,) = listed(state, capsys)
    assert (row["name"], row["roles"]) == ("ines", ["admin", "operator"])


def test_an_account_without_a_role_is_a_viewer(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user(state, "add", "paul", "--generate")
    assert listed(state, capsys)[0]["roles"] == ["viewer"]


def test_a_generated_password_is_alone_on_standard_output(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert user(state, "add", "admin", "--role", "admin", "--generate") == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"(?:[a-z2-9]{4}-){4}[a-z2-9]{4}\n", captured.out)
    assert captured.err == "The password of admin, shown only now:\n"
    assert accepts(state, "admin", captured.out.strip())


def test_no_two_generated_passwords_are_alike(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        user(state, "add", name, "--generate")
    first, second = capsys.readouterr().out.split()
    assert first != second


def test_if_none_adds_the_first_account_only(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert user(state, "add", "admin", "--role", "admin", "--generate", "--if-none") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert user(state, "add", "other", "--generate", "--if-none") == 0
    assert [row["name"] for row in listed(state, capsys)] == ["admin"]


def test_a_name_that_is_taken_is_refused(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user(state, "add", "ines", "--generate")
    capsys.readouterr()
    assert user(state, "add", "ines", "--generate") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sysadmd: there is an account 'ines' already")


@pytest.mark.parametrize("name", ["", "a b", "-x" * 40, "ü", "../x"])
def test_a_bad_name_is_refused(state: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["user", "add", "--generate", "--state-dir", str(state), "--", name]) == 1
    assert capsys.readouterr().err.startswith("sysadmd: args.name: ")


def test_an_unknown_role_is_refused_with_the_known_ones(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert user(state, "add", "quentin", "--role", "emperor", "--generate") == 1
    assert "admin, operator, standard_user, viewer" in capsys.readouterr().err


def test_a_password_is_changed(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user(state, "add", "ines", "--generate")
    type_in(monkeypatch, "another one\n")
    assert user(state, "passwd", "ines", "--password-stdin") == 0
    assert accepts(state, "ines", "another one")


def test_an_account_is_removed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user(state, "add", "ines", "--generate")
    assert user(state, "remove", "ines") == 0
    assert listed(state, capsys) == []


@pytest.mark.parametrize("command", [["remove", "nobody"], ["passwd", "nobody", "--generate"]])
def test_an_account_that_is_not_there_is_told(
    state: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert user(state, *command) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "sysadmd: there is no account 'nobody'\n")


def test_a_password_is_not_taken_from_thin_air(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(monkeypatch, "")
    assert user(state, "add", "ines") == 2
    assert user(state, "add", "ines", "--password-stdin") == 2
    assert user(state, "add", "ines", "--password-stdin", "--generate") == 2
    assert listed(state, capsys) == []


def test_a_directory_in_use_without_a_server_that_answers_is_told(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(directory_module, "LOCK_WAIT", 0.0)
    with StateLock(state):
        assert user(state, "list") == 1
    assert re.search(r"is in use by process \d+, and no server answers at .*sysadmd\.sock", capsys.readouterr().err)


def test_a_socket_left_by_a_killed_server_is_no_server(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(state / "sysadmd.sock"))
    assert user(state, "add", "ines", "--generate") == 0
    assert [row["name"] for row in listed(state, capsys)] == ["ines"]
