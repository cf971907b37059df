from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysadmd.jobs.output_file import OutputRefused, open_output

NAME = "69257"
PATH = f"{NAME}/{NAME}abc0123456789abcdef.0.1.log"


def test_the_file_and_its_directory_are_ours_alone(tmp_path: Path) -> None:
    output = open_output(tmp_path, PATH)
    output.close()
    assert (tmp_path / PATH).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o700


def test_what_is_written_is_appended_also_by_another_try(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        output = open_output(tmp_path, PATH)
        os.write(output.descriptor, text)
        assert output.size == len((tmp_path / PATH).read_bytes())
        output.close()
    assert (tmp_path / PATH).read_bytes() == b"one\ntwo\n"


def test_a_note_has_a_line_of_its_own(tmp_path: Path) -> None:
    output = open_output(tmp_path, PATH)
    output.note("first")
    os.write(output.descriptor, b"no end of line")
    output.note("second")
    output.close()
    assert (tmp_path / PATH).read_text() == "sysadmd: first\nno end of line\nsysadmd: second\n"


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", f"{NAME}/../x", PATH + "\n", PATH.replace(".log", ".txt"), f"{NAME}/{NAME}.0.1.log"],
)
def test_a_name_of_another_form_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(OutputRefused, match="not the name"):
        open_output(tmp_path, path)


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(mode=0o700)
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / PATH).symlink_to(tmp_path / "victim")
    with pytest.raises(OutputRefused):
        open_output(tmp_path, PATH)
    assert (tmp_path / "victim").read_text() == "untouched"


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputRefused):
        open_output(tmp_path, PATH)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(mode=0o700)
    os.mkfifo(tmp_path / PATH, 0o600)
    with pytest.raises(OutputRefused, match="not ours alone"):
        open_output(tmp_path, PATH)


def test_a_directory_where_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME).chmod(0o777)
    with pytest.raises(OutputRefused, match="not ours alone"):
        open_output(tmp_path, PATH)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")
def test_what_is_another_ones_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, -1)
    with pytest.raises(OutputRefused, match="uid 1234"):
        open_output(tmp_path, PATH)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputRefused, match="No such file"):
        open_output(tmp_path / "gone", PATH)


def test_the_disk_says_how_full_it_is(tmp_path: Path) -> None:
    output = open_output(tmp_path, PATH)
    assert 0 <= output.disk_use <= 1
    output.close()
