"""`sysadmd bridge key` on a directory that no bridge uses, and what the other commands say there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sysadmd.bridge.keyring import Keyring
from sysadmd.cli import main
from sysadmd.config import Config
from sysadmd.keys.signing import parse
from tests.unit.keys.openssl import make_certificate, make_key, public_key
from tests.unit.keys.vectors import CHECKSUM, REGISTERED_KEY

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bridge"
    monkeypatch.setenv("SYSADMD_BRIDGE_STATE_DIR", str(directory))
    return directory


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return make_key(tmp_path, "ed25519", "web1")


@pytest.fixture
def public(private: Path) -> Path:
    file = private.with_suffix(".pub")
    file.write_text(public_key(private))
    return file


def key(*args: str | Path) -> int:
    return main(["bridge", "key", *map(str, args)])


def listed(capsys: Capture) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert key("list") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_key_is_imported_listed_and_removed(state: Path, public: Path, capsys: Capture) -> None:
    assert key("import", "web1", public) == 0
    found = parse(public.read_text())
    assert capsys.readouterr().err == f"web1 may log in at the bridge with the key {found.fingerprint}\n"
    (row,) = listed(capsys)
    assert len(row.pop("imported")) == len("2026-11-22T00:32:05Z")
    assert row == {
        "nick": "web1",
        "kind": "ed25519",
        "fingerprint": found.fingerprint,
        "checksum": found.checksum,
    }
    assert key("remove", "web1") == 0
    assert listed(capsys) == []
    assert key("remove", "web1") == 1
    assert "knows no key 'web1'" in capsys.readouterr().err


def test_the_directory_can_be_named(state: Path, tmp_path: Path, public: Path, capsys: Capture) -> None:
    other = tmp_path / "other"
    assert key("import", "web1", public, "--state-dir", other) == 0
    assert listed(capsys) == []
    assert [one.nick for one in Keyring(other / "keys").current().values()] == ["web1"]


def test_the_key_of_an_original_client_is_taken_as_it_is(state: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "sysadm-client-to-bridge.key"
    file.write_text(parse(REGISTERED_KEY).pem)
    assert key("import", "olga", file) == 0
    assert [(row["kind"], row["checksum"]) for row in listed(capsys)] == [("rsa", CHECKSUM)]


def test_a_key_in_base64_and_a_certificate_are_taken(state: Path, tmp_path: Path, private: Path) -> None:
    file = tmp_path / "key.b64"
    file.write_text(REGISTERED_KEY)
    assert key("import", "olga", file) == 0
    assert key("import", "web1", make_certificate(private)) == 0
    stored = {one.nick: one.public for one in Keyring(state / "keys").current().values()}
    assert stored == {"olga": parse(REGISTERED_KEY), "web1": parse(public_key(private))}


def test_a_private_key_is_refused(state: Path, private: Path, capsys: Capture) -> None:
    assert key("import", "web1", private) == 2
    said = capsys.readouterr().err
    assert "holds a private key" in said
    assert private.read_text().splitlines()[1] not in said
    assert not state.exists()


def test_what_is_no_key_or_no_nickname_is_named(state: Path, tmp_path: Path, public: Path, capsys: Capture) -> None:
    letter = tmp_path / "letter"
    letter.write_text("dear olga")
    assert key("import", "olga", letter) == 1
    assert "letter: the key cannot be used" in capsys.readouterr().err
    assert key("import", "o\nlga", public) == 1
    assert "a nickname has 1 to 64 printable characters" in capsys.readouterr().err
    assert not state.exists()


def test_a_key_that_another_has_is_refused(state: Path, public: Path, capsys: Capture) -> None:
    assert key("import", "web1", public) == 0
    assert key("import", "web2", public) == 1
    assert "the key is known as 'web1' already" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["import", "list", "remove"])
def test_root_gives_up_its_rights_before_it_touches_the_directory(
    state: Path, public: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(Exception):
        pass

    def become_owner(directory: Path) -> None:
        assert directory == state
        raise Gone

    monkeypatch.setattr("sysadmd.cli.owner.become_owner", become_owner)
    arguments = {"import": ["web1", str(public)], "list": [], "remove": ["web1"]}
    assert key(command, *arguments[command]) == 1
    assert not state.exists()


# Peers

PEER = {
    "id": "::{0}",
    "nick": "web1",
    "key": "ab" * 32,
    "role": "server",
    "hostname": "web1\x1b[2J",
    "address": "192.0.2.1",
    "classic": False,
    "connected": 0.0,
    "paired": ["::{1}", "::{2}"],
    "messages_in": 3,
    "messages_out": 4,
    "bytes_in": 5,
    "bytes_out": 6,
    "queued": 7,
}


def test_peers_are_asked_of_the_bridges_socket(state: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    asked: list[Path] = []

    def ask(path: Path) -> dict[str, Any]:
        asked.append(path)
        return {"peers": [PEER]}

    monkeypatch.setattr("sysadmd.bridge.status.ask", ask)
    assert main(["bridge", "peers"]) == 0
    assert asked == [state / "bridge.sock"]
    assert json.loads(capsys.readouterr().out) == PEER


def test_people_see_moments_and_numbers_and_nothing_that_moves_the_cursor(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sysadmd.bridge.status.ask", lambda path: {"peers": [PEER]})
    monkeypatch.setattr("sysadmd.cli.render.for_people", lambda stream=None: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["bridge", "peers"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["Nickname", "Role", "Host", "name", "Address", "Since", "Pairs", "In/out", "Queued"]
    expected = ["web1", "server", "web1\\x1b[2J", "192.0.2.1", "1970-01-01T00:00:00Z", "2", "3/4", "7"]
    assert row.split() == expected


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file or directory"), TimeoutError("timed out")])
def test_without_a_bridge_there_are_no_peers(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: OSError
) -> None:
    def ask(path: Path) -> dict[str, Any]:
        raise error

    monkeypatch.setattr("sysadmd.bridge.status.ask", ask)
    assert main(["bridge", "peers"]) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"sysadmd: no bridge answers at {state / 'bridge.sock'}: ")
    assert said.count("\n") == 1


# Serve


def test_the_flags_of_serve_are_keys_of_the_configuration(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Config] = []

    def run(config: Config, reload: Callable[[], Config]) -> int:
        assert reload() == config
        served.append(config)
        return 0

    monkeypatch.setattr("sysadmd.server.bridge.run", run)
    monkeypatch.setattr("gc.disable", lambda: None)  # it would outlive the test
    file = tmp_path / "bridge.toml"
    file.write_text("[relay]\nport = 7\n")
    assert main(["bridge", "serve"]) == 0
    assert main(["bridge", "serve", "--config", str(file), "--state-dir", str(tmp_path / "x")]) == 0
    assert main(["bridge", "serve", "--listen", "[::1]:9", "--no-tls"]) == 0
    told = [(one.state_dir, one.relay.host, one.relay.port, one.relay.tls) for one in served]
    assert told == [(state, "*", 12149, True), (tmp_path / "x", "*", 7, True), (state, "::1", 9, False)]


def test_no_tls_is_for_loopback_alone(state: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.disable", lambda: None)
    assert main(["bridge", "serve", "--no-tls"]) == 2
    assert "relay.tls = False: needs a loopback address" in capsys.readouterr().err
    assert not state.exists()
