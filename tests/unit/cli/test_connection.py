"""The connection flags: where a client goes, and how it logs in."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from sysadmd import client as client_module
from sysadmd.cli.connection import ConnectionOptions, connection_options, default_server
from sysadmd.client import BadAddress

GIVEN: dict[str, Any] = {
    "server": None,
    "user": None,
    "password_stdin": False,
    "token": None,
    "key": None,
    "bridge_key": None,
    "pin": None,
    "cert": None,
    "ca": None,
    "insecure": False,
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What clients were made with."""
    calls: list[dict[str, Any]] = []

    def record(url: str, **options: Any) -> object:
        calls.append({"url": url, **options})
        return object()

    monkeypatch.setattr(client_module, "AsyncClient", record)
    return calls


def options(**changes: Any) -> ConnectionOptions:
    return ConnectionOptions(**{**GIVEN, **changes})


def test_the_default_is_the_socket_of_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYSADMD_STATE_DIR", str(tmp_path / "a b"))
    assert default_server() == f"unix://{tmp_path}/a%20b/sysadmd.sock"


def test_nothing_given_is_the_default_server_without_a_log_in(made: list[dict[str, Any]]) -> None:
    options().client()
    assert made[0]["url"] == default_server()
    assert (made[0]["token"], made[0]["username"], made[0]["password"]) == (None, None, None)


def test_a_token_comes_from_the_environment(made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSADMD_TOKEN", "from-env")
    options().client()
    options(token="from-flag").client()
    assert [one["token"] for one in made] == ["from-env", "from-flag"]


def test_a_user_goes_before_the_token_of_the_environment(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSADMD_TOKEN", "from-env")
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\r\nrest"))
    options(user="ines", password_stdin=True).client()
    assert (made[0]["token"], made[0]["username"], made[0]["password"]) == (None, "ines", "secret")
    assert sys.stdin.read() == "rest"


@pytest.mark.parametrize(
    "given,environ,token,key",
    [
        ({}, {"SYSADMD_KEY": "/env.key"}, None, Path("/env.key")),
        ({}, {"SYSADMD_KEY": "/env.key", "SYSADMD_TOKEN": "env"}, "env", Path("/env.key")),
        ({"key": Path("/flag.key")}, {"SYSADMD_TOKEN": "env"}, None, Path("/flag.key")),
        ({"key": Path("/flag.key")}, {"SYSADMD_KEY": "/env.key"}, None, Path("/flag.key")),
        ({"token": "flag"}, {"SYSADMD_KEY": "/env.key", "SYSADMD_TOKEN": "env"}, "flag", None),
        ({"token": "flag", "key": Path("/flag.key")}, {}, "flag", Path("/flag.key")),
        ({}, {"SYSADMD_KEY": "", "SYSADMD_TOKEN": ""}, None, None),
    ],
)
def test_what_is_said_here_goes_before_the_environment(
    made: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    environ: dict[str, str],
    token: str | None,
    key: Path | None,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    options(**given).client()
    assert (made[0]["token"], made[0]["key"], made[0]["username"]) == (token, key, None)


def test_a_user_goes_before_every_token_and_key(made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSADMD_KEY", "/env.key")
    monkeypatch.setenv("SYSADMD_TOKEN", "env")
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
    options(user="ines", password_stdin=True, token="flag", key=Path("/flag.key")).client()
    assert (made[0]["token"], made[0]["key"], made[0]["username"]) == (None, None, "ines")


def test_behind_a_bridge_a_user_needs_the_key_for_being_introduced(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSADMD_KEY", "/env.key")
    monkeypatch.setenv("SYSADMD_TOKEN", "env")
    for given in ({}, {"key": Path("/flag.key")}):
        monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
        options(server="bridge://relay/nas", user="ines", password_stdin=True, **given).client()
    assert [(one["token"], one["key"], one["username"]) for one in made] == [
        (None, Path("/env.key"), "ines"),
        (None, Path("/flag.key"), "ines"),
    ]


def test_the_key_of_the_bridge_and_the_pin_are_handed_on(made: list[dict[str, Any]]) -> None:
    options(server="bridge://relay/nas", bridge_key=Path("/b.key"), pin="ab" * 32).client()
    assert (made[0]["bridge_key"], made[0]["pin"]) == (Path("/b.key"), "ab" * 32)


def test_a_certificate_is_shown_beside_any_log_in(made: list[dict[str, Any]]) -> None:
    options(cert=Path("/own.pem"), key=Path("/own.key")).client()
    assert (made[0]["certificate"], made[0]["key"]) == (Path("/own.pem"), Path("/own.key"))


def test_a_password_needs_a_user() -> None:
    with pytest.raises(click.UsageError, match="needs --user"):
        options(password_stdin=True).client()


def test_an_empty_standard_input_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(click.UsageError, match="no password"):
        options(user="ines", password_stdin=True).client()


def test_a_user_without_a_terminal_must_say_where_the_password_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
    with pytest.raises(click.UsageError, match="--password-stdin"):
        options(user="ines").client()


def test_a_bad_address_is_refused() -> None:
    with pytest.raises(BadAddress):
        options(server="nas.example").client()


def test_the_flags_reach_the_command_as_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ConnectionOptions] = []

    @click.command()
    @connection_options
    def command(connection: ConnectionOptions) -> None:
        seen.append(connection)

    monkeypatch.setenv("SYSADMD_SERVER", "wss://from-env")
    command.main(["--user", "ines", "--ca", "/x/ca.pem", "--insecure"], standalone_mode=False)
    command.main(["--server", "wss://from-flag"], standalone_mode=False)
    monkeypatch.setenv("SYSADMD_BRIDGE_KEY", "/env.key")
    command.main(["--pin", "ab"], standalone_mode=False)
    assert (seen[2].bridge_key, seen[2].pin) == (Path("/env.key"), "ab")
    assert seen[0] == options(server="wss://from-env", user="ines", ca=Path("/x/ca.pem"), insecure=True)
    assert seen[1].server == "wss://from-flag"
