"""`sysadmd backup` and `sysadmd restore` on a stopped server's state directory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from sysadmd.auth.audit import Audit, verify_store
from sysadmd.auth.audit_key import KEY_FILE
from sysadmd.cli import main
from sysadmd.errors import StateError
from sysadmd.keys.bridge import bridge_key
from sysadmd.keys.certificate import ensure_certificate
from sysadmd.keys.seal import sealing_context
from sysadmd.store import DATABASE_FILE, Store
from sysadmd.store.lock import StateLock
from sysadmd.store.tables import account
from tests.unit.auth.doubles import DirectLog


def new_state(directory: Path, *accounts: str) -> str:
    """A state directory with these accounts; returns its epoch."""
    directory.mkdir(mode=0o700)
    store = Store.open(directory / DATABASE_FILE)
    always = {"password_hash": None, "disabled": False, "created_at": 1.0, "changed_at": 1.0}
    with store.transaction() as connection:
        for name in accounts:
            connection.execute(insert(account), {"name": name, **always})
    store.close()
    return store.epoch


def accounts_of(directory: Path) -> list[str]:
    store = Store.open(directory / DATABASE_FILE)
    try:
        return sorted(store.read_now(lambda connection: connection.scalars(select(account.c.name)).all()))
    finally:
        store.close()


def epoch_of(directory: Path) -> str:
    store = Store.open(directory / DATABASE_FILE)
    store.close()
    return store.epoch


def backup(state: Path, file: Path, *options: str) -> int:
    return main(["backup", str(file), "--state-dir", str(state), *options])


def restore(state: Path, file: Path, *options: str) -> int:
    return main(["restore", str(file), "--state-dir", str(state), *options])


def test_what_was_backed_up_comes_back(tmp_path: Path) -> None:
    new_state(tmp_path / "a", "ines", "paul")
    files = ensure_certificate(tmp_path / "a")
    assert backup(tmp_path / "a", tmp_path / "b.tar.gz") == 0
    assert restore(tmp_path / "new", tmp_path / "b.tar.gz") == 0
    assert accounts_of(tmp_path / "new") == ["ines", "paul"]
    assert ensure_certificate(tmp_path / "new").fingerprint == files.fingerprint
    assert (tmp_path / "new" / "server.key").stat().st_mode & 0o777 == 0o600


def test_the_key_towards_bridges_comes_back_so_that_bridges_and_pins_know_it(tmp_path: Path) -> None:
    new_state(tmp_path / "a")
    known = sealing_context(tmp_path / "a")
    assert backup(tmp_path / "a", tmp_path / "b") == 0
    assert restore(tmp_path / "new", tmp_path / "b") == 0
    assert bridge_key(tmp_path / "new").public.fingerprint == sealing_context(tmp_path / "new").fingerprint
    assert sealing_context(tmp_path / "new").fingerprint == known.fingerprint


def test_a_restored_database_begins_a_new_epoch(tmp_path: Path) -> None:
    before = new_state(tmp_path / "a")
    backup(tmp_path / "a", tmp_path / "b")
    restore(tmp_path / "new", tmp_path / "b")
    assert epoch_of(tmp_path / "new") not in ("", before)


def test_a_backup_is_made_while_another_writes(tmp_path: Path) -> None:
    new_state(tmp_path / "a", "ines")
    store = Store.open(tmp_path / "a" / DATABASE_FILE)
    with StateLock(tmp_path / "a"):
        assert backup(tmp_path / "a", tmp_path / "b") == 0
    store.close()
    restore(tmp_path / "new", tmp_path / "b")
    assert accounts_of(tmp_path / "new") == ["ines"]


def test_an_existing_backup_is_replaced_only_by_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_state(tmp_path / "a")
    (tmp_path / "b").write_text("precious")
    assert backup(tmp_path / "a", tmp_path / "b") == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert (tmp_path / "b").read_text() == "precious"
    assert backup(tmp_path / "a", tmp_path / "b", "--force") == 0


def test_a_backup_of_nothing_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert backup(tmp_path / "none", tmp_path / "b") == 1
    assert "there is no database to back up" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "none").exists()


def test_a_backup_leaves_no_scratch_files(tmp_path: Path) -> None:
    new_state(tmp_path / "a")
    backup(tmp_path / "a", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_state_is_not_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_state(tmp_path / "a", "ines")
    new_state(tmp_path / "other", "paul")
    backup(tmp_path / "a", tmp_path / "b")
    assert restore(tmp_path / "other", tmp_path / "b") == 1
    assert "--force moves it aside" in capsys.readouterr().err
    assert accounts_of(tmp_path / "other") == ["paul"]


def test_a_forced_restore_keeps_what_was_there(tmp_path: Path) -> None:
    new_state(tmp_path / "a", "ines")
    new_state(tmp_path / "other", "paul")
    ensure_certificate(tmp_path / "other")
    backup(tmp_path / "a", tmp_path / "b")
    assert restore(tmp_path / "other", tmp_path / "b", "--force") == 0
    assert accounts_of(tmp_path / "other") == ["ines"]
    (aside,) = (tmp_path / "other").glob("before-restore-*")
    assert accounts_of(aside) == ["paul"]
    # The backup had no certificate, so the one that is there stays in use.
    assert (tmp_path / "other" / "server.crt").exists()


def test_a_write_ahead_log_is_not_left_beside_another_database(tmp_path: Path) -> None:
    new_state(tmp_path / "a", "ines")
    backup(tmp_path / "a", tmp_path / "b")
    new_state(tmp_path / "other", "paul")
    (tmp_path / "other" / f"{DATABASE_FILE}-wal").write_bytes(b"stale")
    assert restore(tmp_path / "other", tmp_path / "b", "--force") == 0
    assert not (tmp_path / "other" / f"{DATABASE_FILE}-wal").exists()


def test_a_running_server_is_not_restored_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_state(tmp_path / "a")
    backup(tmp_path / "a", tmp_path / "b")
    with StateLock(tmp_path / "a"):
        assert restore(tmp_path / "a", tmp_path / "b", "--force") == 1
    assert "is in use by process" in capsys.readouterr().err


def test_a_damaged_backup_touches_nothing(tmp_path: Path) -> None:
    new_state(tmp_path / "a", "ines")
    backup(tmp_path / "a", tmp_path / "b")
    raw = (tmp_path / "b").read_bytes()
    (tmp_path / "b").write_bytes(raw[: len(raw) // 2])
    before = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert restore(tmp_path / "a", tmp_path / "b", "--force") == 1
    assert sorted(path.name for path in (tmp_path / "a").iterdir() if path.name != "lock") == before
    assert accounts_of(tmp_path / "a") == ["ines"]


def test_the_configuration_goes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_state(tmp_path / "a")
    config = tmp_path / "sysadmd.toml"
    config.write_text('node = "vault"\n')
    assert backup(tmp_path / "a", tmp_path / "b", "--config", str(config)) == 0
    assert restore(tmp_path / "new", tmp_path / "b") == 0
    assert "config.toml was left out" in capsys.readouterr().err
    assert restore(tmp_path / "newer", tmp_path / "b", "--config", str(tmp_path / "back.toml")) == 0
    assert (tmp_path / "back.toml").read_text() == 'node = "vault"\n'


def test_a_configuration_is_not_overwritten_without_force(tmp_path: Path) -> None:
    new_state(tmp_path / "a")
    config = tmp_path / "sysadmd.toml"
    config.write_text("")
    backup(tmp_path / "a", tmp_path / "b", "--config", str(config))
    assert restore(tmp_path / "new", tmp_path / "b", "--config", str(config)) == 1
    assert not (tmp_path / "new").exists()


def test_a_bad_configuration_stops_a_backup(tmp_path: Path) -> None:
    new_state(tmp_path / "a")
    config = tmp_path / "sysadmd.toml"
    config.write_text("nod = 1\n")
    assert backup(tmp_path / "a", tmp_path / "b", "--config", str(config)) == 2


def test_a_state_error_is_what_the_library_raises(tmp_path: Path) -> None:
    from sysadmd.cli.restore import restore_backup

    new_state(tmp_path / "a")
    with pytest.raises(StateError):
        restore_backup(tmp_path / "none", tmp_path / "a", None, lambda *step: None, force=True)


def test_the_audit_trail_and_its_key_come_back_and_are_good(tmp_path: Path) -> None:
    new_state(tmp_path / "a")
    store = Store.open(tmp_path / "a" / DATABASE_FILE)

    async def sign(store: Store, directory: Path) -> None:
        audit = Audit(store, DirectLog(store), node="n", key_dir=directory)
        audit.record("call")
        await audit.checkpoint()

    asyncio.run(sign(store, tmp_path / "a"))
    store.close()
    assert backup(tmp_path / "a", tmp_path / "b") == 0
    assert restore(tmp_path / "new", tmp_path / "b") == 0
    assert (tmp_path / "new" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    restored = Store.open(tmp_path / "new" / DATABASE_FILE)
    asyncio.run(sign(restored, tmp_path / "new"))
    verdict = verify_store(restored, tmp_path / "new")
    restored.close()
    assert (verdict.ok, verdict.records, verdict.checkpoints) == (True, 2, 2)
