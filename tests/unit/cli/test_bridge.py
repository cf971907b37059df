"""`sysadmd bridge key` on a directory that no bridge uses, and what the other commands say there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sysadmd.bridge.keyring import Keyring
from sysadmd.cli import main
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
