"""Methods on the state directory of a stopped server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sysadmd.cli.directory import open_directory
from sysadmd.errors import BadRequest, NotFound, Unavailable


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def records(state: Path) -> list[dict[str, Any]]:
    with open_directory(state) as server:
        found: list[dict[str, Any]] = server.call("rpc/audit/list")["records"]
        return found


def test_a_change_is_there_for_the_next_command(state: Path) -> None:
    with open_directory(state) as server:
        server.call("rpc/accounts/add", {"name": "ines", "password": "secret", "roles": ["viewer"]})
        assert [row["name"] for row in server.call("rpc/accounts/list")["accounts"]] == ["ines"]
    with open_directory(state) as server:
        assert [row["name"] for row in server.call("rpc/accounts/list")["accounts"]] == ["ines"]


def test_a_change_is_in_the_audit_trail_without_its_secrets(state: Path) -> None:
    with open_directory(state) as server:
        server.call("rpc/accounts/add", {"name": "ines", "password": "secret"})
        (record,) = server.call("rpc/audit/list", {"kind": "call"})["records"]
        assert (record["method"], record["args"]) == ("rpc/accounts/add", {"name": "ines", "password": "[secret]"})
        assert (record["via"], record["address"][:8]) == ("offline", "offline:")
        assert server.call("rpc/audit/verify")["ok"]


def test_a_refused_change_is_in_the_audit_trail(state: Path) -> None:
    with open_directory(state) as server, pytest.raises(NotFound):
        server.call("rpc/accounts/remove", {"name": "nobody"})
    assert [record["kind"] for record in records(state)] == ["call", "failed"]


def test_arguments_are_checked_as_by_a_server(state: Path) -> None:
    with open_directory(state) as server, pytest.raises(BadRequest, match=r"args\.limit"):
        server.call("rpc/audit/list", {"limit": 0})


def test_what_needs_a_running_server_says_so(state: Path) -> None:
    with open_directory(state) as server, pytest.raises(Unavailable, match="no server runs on this state directory"):
        server.call("rpc/dispatcher/list")
