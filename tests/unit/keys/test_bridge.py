"""The key by which bridges know this server."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sysadmd.errors import StateError
from sysadmd.keys.bridge import BRIDGE_KEY_FILE, bridge_key
from tests.unit.keys.openssl import openssl


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = bridge_key(tmp_path).public
    file = tmp_path / BRIDGE_KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert bridge_key(tmp_path).public == first
    assert list(tmp_path.iterdir()) == [file]


def test_it_is_one_that_original_bridges_take(tmp_path: Path) -> None:
    public = bridge_key(tmp_path).public
    assert (public.kind, public.size) == ("rsa", 256)
    assert openssl("pkey", "-in", tmp_path / BRIDGE_KEY_FILE, "-pubout").decode() == public.pem


def test_of_those_who_make_it_at_once_everybody_gets_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: bridge_key(tmp_path).public.fingerprint, range(4)))
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [BRIDGE_KEY_FILE]


def test_what_is_no_key_is_named_and_stays(tmp_path: Path) -> None:
    file = tmp_path / BRIDGE_KEY_FILE
    file.write_text("damaged")
    with pytest.raises(StateError, match=r"ws_bridge\.key: not a private key"):
        bridge_key(tmp_path)
    assert file.read_text() == "damaged"


def test_it_may_be_made_before_the_first_start(tmp_path: Path) -> None:
    key = bridge_key(tmp_path / "new" / "state")
    assert bridge_key(tmp_path / "new" / "state").public == key.public
    assert (tmp_path / "new" / "state").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="Not a directory"):
        bridge_key(tmp_path / "file" / "state")
