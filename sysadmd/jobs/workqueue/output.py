"""What an attempt wrote, as much of it as an answer takes.

Output files have no bound that an answer could hold, so the middle of a long one is left out, with a line in its place
that says how much. Many in one answer share a budget; those after its end have that line only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from sysadmd.jobs.views import AttemptView
from sysadmd.limits import Limits


class MissingOutput(Exception):
    """There is no output file; the text names it as the attempt does."""


def read_log(root: Path, path: str, budget: int) -> str:
    """The text of the file at `path` below `root`, in `budget` bytes of output (the line in the middle not counted).

    Bytes that are no UTF-8 become U+FFFD. Blocking. Raises MissingOutput, also where something else has the name.
    """
    try:
        descriptor = os.open(root / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise MissingOutput(path) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise MissingOutput(path)
        return _excerpt(descriptor, found.st_size, budget)
    except OSError as error:
        raise MissingOutput(path) from error
    finally:
        os.close(descriptor)


class Logs:
    """Reads the outputs for one answer, below `root`."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root, self._each, self._left = root, limits.transfer_log, limits.transfer_logs

    def read(self, attempts: Iterable[AttemptView]) -> list[str | None]:
        """The text of each attempt; None where its file is missing. Blocking."""
        return [self._read(attempt) for attempt in attempts]

    def _read(self, attempt: AttemptView) -> str | None:
        if attempt.output_path is None:
            return None
        try:
            log = read_log(self._root, attempt.output_path, max(min(self._each, self._left), 0))
        except MissingOutput:
            # One that ended before its process was there has written nothing.
            return _reason(attempt) if attempt.started_at is None and attempt.outcome is not None else None
        self._left -= len(log)
        return log


def _reason(attempt: AttemptView) -> str:
    error = attempt.error or {}
    return f"[sysadmd: {attempt.outcome}: {error.get('message', 'it never began')}]\n"


def _excerpt(descriptor: int, size: int, budget: int) -> str:
    if size <= budget:
        return os.pread(descriptor, size, 0).decode("utf-8", "replace")
    half = budget // 2
    head = os.pread(descriptor, half, 0)
    tail = os.pread(descriptor, budget - half, size - (budget - half))
    # A character that the cut goes through is left out as well.
    head = head[: len(head) - _unfinished(head)]
    tail = tail[_continued(tail) :]
    left_out = size - len(head) - len(tail)
    middle = f"\n[sysadmd: {left_out} bytes are left out here]\n"
    return head.decode("utf-8", "replace") + middle + tail.decode("utf-8", "replace")


def _unfinished(data: bytes) -> int:
    """Bytes at the end that begin a character whose rest is missing (at most 3)."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return back if length > back else 0
    return 0


def _continued(data: bytes) -> int:
    """Bytes at the start that belong to a character which began before them (at most 3)."""
    count = 0
    while count < min(3, len(data)) and data[count] & 0xC0 == 0x80:
        count += 1
    return count
