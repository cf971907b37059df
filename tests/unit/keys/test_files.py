"""Writing what must be whole."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sysadmd.keys.files import create_file, write_file


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_mode_whatever_was_there(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_file(path, b"new", mode)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", mode)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_is_in_nobody_s_way(tmp_path: Path) -> None:
    (tmp_path / "key.part").write_bytes(b"half")
    write_file(tmp_path / "key", b"whole", 0o600)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("key", b"whole")]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"theirs")
    (tmp_path / "key.part").symlink_to(other)
    (tmp_path / "key").symlink_to(other)
    write_file(tmp_path / "key", b"ours", 0o600)
    assert other.read_bytes() == b"theirs"
    assert not (tmp_path / "key").is_symlink()


def test_a_file_is_made_with_its_mode_and_its_owner(tmp_path: Path) -> None:
    path, previous = tmp_path / "key", os.umask(0)
    try:
        assert create_file(path, b"new", 0o600, owner=tmp_path.stat())
    finally:
        os.umask(previous)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    assert path.stat().st_uid == tmp_path.stat().st_uid
    assert list(tmp_path.iterdir()) == [path]


def test_of_those_who_make_a_file_at_once_the_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: create_file(path, b"%d" % number, 0o600), range(8)))
    assert made.count(True) == 1
    assert path.read_bytes() == b"%d" % made.index(True)
    assert list(tmp_path.iterdir()) == [path]
