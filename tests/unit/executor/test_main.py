"""What a start of the executor refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysadmd.errors import ExecutorError, StateError
from sysadmd.executor.main import main


@pytest.mark.parametrize("part", [".", "executor"])
def test_a_state_directory_where_others_may_write_is_refused(tmp_path: Path, part: str) -> None:
    (tmp_path / "executor").mkdir(mode=0o700)
    (tmp_path / part).chmod(0o777)
    with pytest.raises(StateError, match=r"has mode 0777; it must belong to uid \d+, and others must not write there"):
        main(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory away, which needs root")
def test_a_state_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(StateError, match="belongs to uid 12345"):
        main(tmp_path)


@pytest.mark.parametrize("name", ["lock", "journal.new"])
def test_no_link_in_the_state_directory_is_followed(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "executor").mkdir(mode=0o700)
    (tmp_path / "executor" / name).symlink_to(precious)
    with pytest.raises(ExecutorError, match="cannot start the executor"):
        main(tmp_path)
    assert precious.read_text() == "mine"
