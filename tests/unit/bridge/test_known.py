"""Keys of bridges that were trusted when they were first seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysadmd.bridge.known import KnownBridges
from sysadmd.errors import StateError


def test_a_key_is_remembered_for_its_link(tmp_path: Path) -> None:
    KnownBridges(tmp_path).add("home", "ab" * 32)
    KnownBridges(tmp_path).add("office", "cd" * 32)
    known = KnownBridges(tmp_path)
    assert (known.get("home"), known.get("office"), known.get("other")) == ("ab" * 32, "cd" * 32, None)
    assert known.path.read_text() == f"home {'ab' * 32}\noffice {'cd' * 32}\n"


def test_a_line_that_was_removed_is_forgotten(tmp_path: Path) -> None:
    known = KnownBridges(tmp_path)
    known.add("home", "ab" * 32)
    known.path.write_text("# trust the next one\n")
    assert known.get("home") is None


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "known_bridges").mkdir()
    with pytest.raises(StateError, match="known_bridges"):
        KnownBridges(tmp_path).get("home")
