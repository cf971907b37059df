"""Writing what must be whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysadmd.keys.files import write_file


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
