from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysadmd.jobs.output_reading import opened, read_bytes, read_text, size_of


def test_a_part_is_read_from_its_offset(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"hello world")
    assert read_bytes(tmp_path, "a.log", 6, 3) == b"wor"
    assert read_text(tmp_path, "a.log", 6, 100, ended=True) == ("world", 11)
    assert size_of(tmp_path, "a.log") == 11


def test_a_character_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes("aé".encode()[:2])
    assert read_text(tmp_path, "a.log", 0, 10, ended=False) == ("a", 1)
    assert read_text(tmp_path, "a.log", 0, 10, ended=True) == ("a�", 2)
    (tmp_path / "a.log").write_bytes("€€".encode())
    assert read_text(tmp_path, "a.log", 0, 1, ended=False) == ("€", 3)


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, None, 0, 10) == b""
    assert read_text(tmp_path, "a.log", 3, 10, ended=True) == ("", 3)
    assert (size_of(tmp_path, "a.log"), size_of(tmp_path, None)) == (0, 0)


def test_only_a_plain_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link.log").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe.log")
    assert read_bytes(tmp_path, "link.log", 0, 10) == b""
    assert read_bytes(tmp_path, "pipe.log", 0, 10) == b""
    with pytest.raises(OSError), opened(tmp_path, "pipe.log"):
        pass
