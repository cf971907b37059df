"""`sysadmd key` on the database of a stopped server."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sysadmd.auth import key_table
from sysadmd.auth.key_table import Registered
from sysadmd.cli import main
from sysadmd.keys.certificate import ensure_certificate
from sysadmd.keys.signing import parse
from sysadmd.store import DATABASE_FILE, Store
from tests.unit.keys.openssl import make_certificate, make_key, openssl, public_key
from tests.unit.keys.vectors import CHECKSUM, REGISTERED_KEY

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    """A state directory with the accounts olga and paul."""
    directory = tmp_path / "state"
    for name in ("olga", "paul"):
        monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse\n"))
        assert main(["user", "add", name, "--password-stdin", "--state-dir", str(directory)]) == 0
    capsys.readouterr()
    return directory


def key(state: Path, *args: str | Path) -> int:
    return main(["key", *map(str, args), "--state-dir", str(state)])


def stored(state: Path) -> list[Registered]:
    store = Store.open(state / DATABASE_FILE)
    try:
        return list(store.read_now(key_table.keyring).values())
    finally:
        store.close()


def listed(state: Path, capsys: Capture) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert key(state, "list") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return make_key(tmp_path, "ed25519", "laptop")


@pytest.fixture
def public(private: Path) -> Path:
    file = private.with_suffix(".pub")
    file.write_text(public_key(private))
    return file


def test_a_key_is_imported_and_listed(state: Path, public: Path, capsys: Capture) -> None:
    assert key(state, "import", "olga", public, "--nick", "laptop", "--email", "o@example.org") == 0
    fingerprint = parse(public.read_text()).fingerprint
    assert fingerprint in capsys.readouterr().err
    (row,) = listed(state, capsys)
    registered = row.pop("registered")
    assert row == {
        "account": "olga",
        "nickname": "laptop",
        "email": "o@example.org",
        "kind": "ed25519",
        "fingerprint": fingerprint,
    }
    assert len(registered) == len("2026-11-22T00:32:05")


def test_the_key_of_an_original_client_is_taken_as_it_is(state: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "sysadm-client-to-server.key"
    file.write_text(parse(REGISTERED_KEY).pem)
    assert key(state, "import", "olga", file) == 0
    assert [one.checksum for one in stored(state)] == [CHECKSUM]
    (row,) = listed(state, capsys)
    assert (row["kind"], row["nickname"]) == ("rsa", "")


def test_a_private_key_never_leaves_its_file(state: Path, private: Path, capsys: Capture) -> None:
    assert key(state, "import", "olga", private) == 2
    said = capsys.readouterr().err
    assert "holds a private key" in said
    assert private.read_text().splitlines()[1] not in said
    assert stored(state) == []


def test_what_is_no_key_is_named(state: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "letter"
    file.write_text("dear olga")
    assert key(state, "import", "olga", file) == 1
    assert "letter: the key cannot be used" in capsys.readouterr().err
    assert key(state, "import", "olga", tmp_path / "nowhere") == 1
    assert "nowhere: No such file" in capsys.readouterr().err
    file.write_text("x" * 70000)
    assert key(state, "import", "olga", file) == 2
    assert "larger than a key" in capsys.readouterr().err


def test_a_key_needs_an_account_and_is_one_accounts(state: Path, public: Path, capsys: Capture) -> None:
    assert key(state, "import", "nobody", public) == 1
    assert "there is no account 'nobody'" in capsys.readouterr().err
    assert key(state, "import", "olga", public) == 0
    assert key(state, "import", "paul", public) == 1
    assert "registered already" in capsys.readouterr().err


def test_a_certificate_is_a_key_and_with_tls_a_certificate_too(state: Path, private: Path, public: Path) -> None:
    certificate = make_certificate(private)
    assert key(state, "import", "olga", certificate) == 0
    assert [one.certificate for one in stored(state)] == [None]
    assert key(state, "import", "olga", certificate, "--tls") == 0
    assert [one.certificate for one in stored(state)] == [certificate.read_text()]
    assert key(state, "import", "olga", public, "--tls") == 2


@pytest.mark.parametrize("by", ["file", "fingerprint", "capitals"])
def test_a_key_is_revoked_by_its_file_or_its_fingerprint(state: Path, public: Path, by: str) -> None:
    fingerprint = parse(public.read_text()).fingerprint
    named = {"file": str(public), "fingerprint": fingerprint, "capitals": fingerprint.upper()}[by]
    assert key(state, "import", "olga", public) == 0
    assert key(state, "revoke", "olga", named) == 0
    assert stored(state) == []


@pytest.mark.parametrize("by", ["file", "fingerprint"])
def test_a_key_that_is_not_the_accounts_is_not_revoked(state: Path, public: Path, by: str, capsys: Capture) -> None:
    named = str(public) if by == "file" else parse(public.read_text()).fingerprint
    assert key(state, "import", "olga", public) == 0
    assert key(state, "revoke", "paul", named) == 1
    assert "account 'paul' has no such key" in capsys.readouterr().err
    assert len(stored(state)) == 1


def test_every_change_is_in_the_audit_trail(state: Path, public: Path) -> None:
    from sysadmd.auth.audit_table import read_rows

    assert key(state, "import", "olga", public) == 0
    assert key(state, "revoke", "olga", public) == 0
    store = Store.open(state / DATABASE_FILE)
    try:
        records = [json.loads(row.record) for row in store.read_now(lambda connection: list(read_rows(connection)))]
    finally:
        store.close()
    methods = [record.get("method") for record in records]
    assert methods.index("rpc/settings/register_ssl_cert") < methods.index("rpc/settings/revoke_ssl_cert")


# What others know this server by


def test_the_key_of_the_certificate_is_exported_for_pinning(state: Path, capsys: Capture) -> None:
    files = ensure_certificate(state)
    assert key(state, "export") == 0
    shown = capsys.readouterr()
    assert shown.out == openssl("pkey", "-in", files.key, "-pubout").decode()
    assert files.fingerprint in shown.err
    assert parse(shown.out).fingerprint in shown.err


def test_the_certificate_of_the_configuration_is_the_one_that_is_exported(
    state: Path, tmp_path: Path, capsys: Capture
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    files, config = ensure_certificate(own), tmp_path / "sysadmd.toml"
    config.write_text(f'[listen]\ncertificate = "{files.cert}"\nkey = "{files.key}"\n')
    assert key(state, "export", "--config", config) == 0
    assert capsys.readouterr().out == openssl("pkey", "-in", files.key, "-pubout").decode()


def test_without_a_certificate_there_is_nothing_to_export(state: Path, capsys: Capture) -> None:
    assert key(state, "export") == 1
    assert "the first start of the server makes it" in capsys.readouterr().err


def test_the_key_towards_bridges_is_made_once_and_never_printed(state: Path, capsys: Capture) -> None:
    assert key(state, "export", "--bridge") == 0
    first = capsys.readouterr()
    assert key(state, "export", "--bridge") == 0
    assert capsys.readouterr() == first
    assert parse(first.out).checksum in first.err
    assert "PRIVATE" not in first.out + first.err


# Pins, and registering at a server


@pytest.fixture
def config_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def pins(capsys: Capture, *options: str) -> list[dict[str, str]]:
    capsys.readouterr()
    assert main(["key", "pins", *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_server_is_pinned_and_listed(config_home: Path, capsys: Capture) -> None:
    assert pins(capsys) == []
    assert main(["key", "pin", "my nas", "A" * 64]) == 0
    assert pins(capsys, "--json") == [{"name": "my nas", "fingerprint": "a" * 64}]
    assert (config_home / "sysadmd" / "known_servers").read_text() == f"my%20nas {'a' * 64}\n"


def test_a_pin_is_replaced_only_when_that_is_said(config_home: Path, capsys: Capture) -> None:
    assert main(["key", "pin", "nas", "a" * 64]) == 0
    assert main(["key", "pin", "nas", "b" * 64]) == 1
    assert "replace the pin" in capsys.readouterr().err
    assert main(["key", "pin", "nas", "b" * 64, "--replace"]) == 0
    assert pins(capsys) == [{"name": "nas", "fingerprint": "b" * 64}]


def test_a_bad_line_is_told_by_its_number(config_home: Path, capsys: Capture) -> None:
    (config_home / "sysadmd").mkdir(parents=True)
    (config_home / "sysadmd" / "known_servers").write_text("# mine\nnas\n")
    assert main(["key", "pins"]) == 1
    assert "known_servers, line 2: expected a name and a fingerprint" in capsys.readouterr().err


def test_a_key_that_is_not_there_is_made_only_when_that_is_said(
    config_home: Path, tmp_path: Path, capsys: Capture
) -> None:
    file, nowhere = tmp_path / "mine.key", f"unix://{tmp_path}/nowhere.sock"
    assert main(["key", "register", "--server", nowhere, "--key-file", str(file)]) == 2
    assert "--generate makes it" in capsys.readouterr().err
    assert not file.exists()
    assert main(["key", "register", "--server", nowhere, "--key-file", str(file), "--generate"]) == 3
    made = file.read_bytes()
    assert b"PRIVATE KEY" in made
    assert main(["key", "register", "--server", nowhere, "--key-file", str(file), "--generate"]) == 3
    assert file.read_bytes() == made


@pytest.mark.parametrize("options", [["--insecure"], ["--rsa"], []])
def test_what_makes_no_sense_for_registering_is_wrong_usage(
    config_home: Path, private: Path, options: list[str], capsys: Capture
) -> None:
    file = ["--key-file", str(private)] if options else []
    assert main(["key", "register", "--server", "wss://127.0.0.1:1", *file, *options]) == 2
