from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sysadmd.lifepreserver.tail import CHUNK, LINE_LIMIT, LogRefused, Position, Tail, open_configured, open_named


class Reader:
    """A tail that keeps its position, as its user does after storing it."""

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, Position()
        self.tail = Tail(path, partial(open_configured, path))

    def lines(self) -> list[str]:
        found: list[str] = []
        while True:
            read = self.tail.read(self.position)
            self.position = read.position
            found += read.lines
            if not read.more:
                return found

    def restart(self) -> None:
        self.tail.close()
        self.tail = Tail(self.path, partial(open_configured, self.path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.log"


@pytest.fixture
def reader(path: Path) -> Iterator[Reader]:
    path.touch()
    reader = Reader(path)
    yield reader
    reader.tail.close()


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def test_new_lines_are_read_once(reader: Reader, path: Path) -> None:
    append(path, "a\nb\n")
    assert reader.lines() == ["a", "b"]
    append(path, "c\n")
    assert reader.lines() == ["c"]
    assert reader.lines() == []


def test_half_a_line_waits_for_its_end(reader: Reader, path: Path) -> None:
    append(path, "a\nhal")
    assert reader.lines() == ["a"]
    append(path, "f\n")
    assert reader.lines() == ["half"]


def test_a_character_cut_in_two_is_read_whole(reader: Reader, path: Path) -> None:
    append(path, "ä".encode()[:1])
    assert reader.lines() == []
    append(path, "ä\n".encode()[1:])
    assert reader.lines() == ["ä"]


def test_what_is_not_utf8_is_replaced(reader: Reader, path: Path) -> None:
    append(path, b"a\xffb\n")
    assert reader.lines() == ["a\ufffdb"]


def test_a_missing_file_is_an_error_of_the_system(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Reader(path).lines()


def test_a_restart_goes_on_where_it_was(reader: Reader, path: Path) -> None:
    append(path, "a\nb\n")
    reader.lines()
    append(path, "c\n")
    reader.restart()
    assert reader.lines() == ["c"]


def test_reading_again_from_the_same_position_gives_the_same_lines(reader: Reader, path: Path) -> None:
    append(path, "a\nb\n")
    assert reader.tail.read(reader.position).lines == reader.tail.read(reader.position).lines == ("a", "b")


def test_a_rotated_file_is_read_to_its_end_before_the_new_one(reader: Reader, path: Path) -> None:
    append(path, "a\n")
    assert reader.lines() == ["a"]
    append(path, "b\n")
    path.rename(path.with_suffix(".0"))
    append(path, "c\n")
    assert reader.lines() == ["b", "c"]


def test_half_a_line_at_the_end_of_a_rotated_file_is_a_line(reader: Reader, path: Path) -> None:
    append(path, "a\nhalf")
    reader.lines()
    path.rename(path.with_suffix(".0"))
    append(path, "c\n")
    assert reader.lines() == ["half", "c"]


def test_between_renaming_and_making_the_old_file_is_still_read(reader: Reader, path: Path) -> None:
    append(path, "a\n")
    reader.lines()
    old = path.rename(path.with_suffix(".0"))
    append(old, "b\n")
    assert reader.lines() == ["b"]
    append(path, "c\n")
    assert reader.lines() == ["c"]


def test_a_rotation_can_be_read_again_after_a_failed_commit(reader: Reader, path: Path) -> None:
    append(path, "a\n")
    reader.lines()
    append(path, "b\n")
    path.rename(path.with_suffix(".0"))
    append(path, "c\n")
    first, again = reader.tail.read(reader.position), reader.tail.read(reader.position)
    assert first.lines == again.lines == ("b",)
    assert first.more


def test_a_file_rotated_while_nobody_read_begins_at_its_start(reader: Reader, path: Path) -> None:
    append(path, "a\nb\n")
    reader.lines()
    reader.tail.close()
    path.rename(path.with_suffix(".0"))
    append(path, "c\nd\ne\n")
    reader.restart()
    read = reader.tail.read(reader.position)
    assert read.lines == ("c", "d", "e")
    assert read.restarted


def test_a_truncated_file_begins_at_its_start(reader: Reader, path: Path) -> None:
    append(path, "a\nb\n")
    reader.lines()
    os.truncate(path, 0)
    assert reader.lines() == []
    append(path, "c\n")
    assert reader.lines() == ["c"]


def test_a_file_truncated_and_grown_past_the_place_is_not_mistaken_for_the_old_one(reader: Reader, path: Path) -> None:
    append(path, "a\nb\n")
    reader.lines()
    path.write_text("first\nsecond\nthird\n")
    assert reader.lines() == ["first", "second", "third"]


def test_a_new_file_with_the_inode_of_the_old_one_is_not_mistaken_for_it(reader: Reader, path: Path) -> None:
    append(path, "old line one\nold line two\n")
    reader.lines()
    reader.tail.close()
    # The same inode, as file systems give it that use the lowest free one.
    path.write_text("new line 1\nnew line 2\nnew line 3\n")
    reader.restart()
    assert reader.lines() == ["new line 1", "new line 2", "new line 3"]


def test_a_line_that_is_too_long_is_passed_over(reader: Reader, path: Path) -> None:
    append(path, b"a\n" + b"x" * (LINE_LIMIT + 1) + b"\nb\n")
    assert reader.lines() == ["a", "b"]


def test_a_line_at_the_limit_is_read(reader: Reader, path: Path) -> None:
    append(path, b"x" * LINE_LIMIT + b"\n")
    assert reader.lines() == ["x" * LINE_LIMIT]


@pytest.mark.parametrize("length", [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_line_longer_than_a_chunk_is_passed_over(reader: Reader, path: Path, length: int) -> None:
    append(path, b"x" * length)
    assert reader.lines() == []
    append(path, b"x\nb\n")
    assert reader.lines() == ["b"]


def test_a_long_backlog_comes_in_chunks(reader: Reader, path: Path) -> None:
    append(path, "".join(f"line {number}\n" for number in range(20000)))
    first = reader.tail.read(reader.position)
    assert first.more
    assert sum(len(line) + 1 for line in first.lines) <= CHUNK
    assert reader.lines() == [f"line {number}" for number in range(20000)]


def test_the_end_of_a_small_file_is_its_start(reader: Reader, path: Path) -> None:
    append(path, "a\nb\n")
    reader.position = reader.tail.end()
    assert reader.lines() == ["a", "b"]


def test_the_end_of_a_large_file_is_one_chunk_of_whole_lines(reader: Reader, path: Path) -> None:
    append(path, "".join(f"line {number}\n" for number in range(20000)))
    reader.position = reader.tail.end()
    lines = reader.lines()
    assert 1000 < len(lines) < 10000
    assert all(line.startswith("line ") for line in lines)
    assert lines[-1] == "line 19999"


ACTIONS = st.lists(
    st.sampled_from(["write", "half", "rotate", "truncate", "copytruncate", "read", "restart"]), max_size=30
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_no_line_is_lost_or_read_twice(tmp_path_factory: pytest.TempPathFactory, actions: list[str]) -> None:
    """Whatever happens to the file, as long as everything is read before it is emptied or rotated unseen."""
    path = tmp_path_factory.mktemp("log") / "a.log"
    path.touch()
    reader, written, found, rotations = Reader(path), list[str](), list[str](), 0
    for number, action in enumerate([*actions, "read"]):
        if action == "write":
            append(path, f"line {number}\n")
            written.append(f"line {number}")
        elif action == "half":
            append(path, f"line {number} ")
            append(path, "end\n")
            written.append(f"line {number} end")
        elif action == "rotate":
            found += reader.lines()
            rotations += 1
            path.rename(path.with_suffix(f".{rotations}"))
            path.touch()
        elif action in {"truncate", "copytruncate"}:
            found += reader.lines()
            if action == "copytruncate":
                shutil.copy(path, path.with_suffix(".copy"))
            os.truncate(path, 0)
        elif action == "read":
            found += reader.lines()
        else:
            found += reader.lines()
            reader.restart()
    reader.tail.close()
    assert found == written


def test_a_configured_log_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to("real")
    os.close(open_configured(tmp_path / "link"))


def test_a_configured_log_must_be_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LogRefused, match="must be a regular file"):
        open_configured(tmp_path / "fifo")


def test_a_named_log_in_the_directory_is_opened(tmp_path: Path) -> None:
    (tmp_path / "send.log").touch()
    os.close(open_named(tmp_path / "send.log", tmp_path))


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.log", "sub/a.log", "", ".", "..", "sub/../../a.log"])
def test_a_named_log_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "lp" / "sub").mkdir(parents=True)
    for path in ("a.log", "lp/sub/a.log"):
        (tmp_path / path).touch()
    with pytest.raises(LogRefused, match="must lie in"):
        open_named(tmp_path / "lp" / name, tmp_path / "lp")


def test_a_named_log_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(LogRefused, match="must be no symbolic link"):
        open_named(tmp_path / "link", tmp_path)


def test_a_named_log_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LogRefused, match="regular file"):
        open_named(tmp_path / "fifo", tmp_path)


def test_a_named_log_that_anybody_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "send.log").touch()
    (tmp_path / "send.log").chmod(0o666)
    with pytest.raises(LogRefused, match="must belong to root"):
        open_named(tmp_path / "send.log", tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_named_log_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "send.log").touch()
    os.chown(tmp_path / "send.log", 4711, -1)
    with pytest.raises(LogRefused, match="must belong to root"):
        open_named(tmp_path / "send.log", tmp_path)


def test_refusals_leave_no_descriptor_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for opener in (partial(open_named, directory=tmp_path), open_configured):
        with pytest.raises(LogRefused):
            opener(tmp_path / "fifo")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
