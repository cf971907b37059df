"""The log that can never stop the executor. Its stderr is a child's, so that the test's own is left alone."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sysadmd.executor import log as log_module


def run(code: str, *, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    """Run `code` with `log` as a Log of stderr."""
    setup = (
        "from pathlib import Path; from sysadmd.executor import log as module; from sysadmd.executor.log import Log\n"
    )
    argv = [sys.executable, "-c", setup + code]
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=stderr, timeout=30, check=True)


def test_a_line_has_time_process_and_text() -> None:
    line = run("Log()('something happened')").stderr.decode()
    assert line.endswith("] something happened\n")
    assert " executor[" in line


def test_an_event_stays_one_line_of_printable_text() -> None:
    assert run(r"Log()('a\nb\x1b[2J\udcff')").stderr.endswith(rb"] a\nb\x1b[2J\udcff" + b"\n")


def test_a_long_line_is_cut() -> None:
    assert len(run("Log()('x' * 100000)").stderr) == log_module.LINE_LIMIT + 1


def test_a_reader_that_sleeps_costs_lines_and_no_time() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096) if sys.platform.startswith("linux") else None  # F_SETPIPE_SZ
    done = run(
        "log = Log()\nfor number in range(5000): log('x' * 1000)\n"
        "import os; os.read(int(os.environ.get('R', '0')), 0) if 0 else None; print(log._dropped > 4000)",
        stderr=writer,
    )
    os.close(writer)
    os.close(reader)
    assert done.stdout == b"True\n"


def test_a_reader_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert run("log = Log(); log('a'); log('b'); print(log._dropped)", stderr=writer).stdout == b"2\n"
    os.close(writer)


def test_what_was_dropped_is_counted_in_the_next_line() -> None:
    done = run("log = Log(); log._dropped = 7; log('back'); log('again')")
    first, second = done.stderr.splitlines()
    assert first.endswith(b"] back (7 lines before this one were dropped)")
    assert second.endswith(b"] again")


def test_a_file_is_appended_to_and_private(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in ("one", "two"):
        run(f"Log(Path({str(path)!r}))({text!r})")
    assert [line.rsplit(" ", 1)[1] for line in path.read_text().splitlines()] == ["one", "two"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_above_its_limit_becomes_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    run(f"module.FILE_LIMIT = 10000\nlog = Log(Path({str(path)!r}))\nfor number in range(1000): log('x' * 100)")
    assert path.stat().st_size <= 10_000
    assert 10_000 < (tmp_path / "log.1").stat().st_size <= 11_000


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        log_module.Log(tmp_path / "missing" / "log")
