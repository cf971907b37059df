"""The executor's log: one line an event, to stderr or to a file of its own. It can never stop the executor.

A line is dropped, and counted, when it cannot be written at once: stderr may be a pipe whose reader is gone or asleep,
and the process that reaps every child must not wait for it. No line ever holds an argument or an environment value
beyond argv[0], since either may be a secret.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

FILE_LIMIT = 8 * 1024 * 1024
"""Bytes of a log file; above it the file becomes `<name>.1`, in place of the one before."""
LINE_LIMIT = 4000
"""Bytes of a line: below PIPE_BUF, so that a pipe which is ready takes it whole and without waiting."""


class Log:
    """Writes lines `time executor[pid] text`."""

    def __init__(self, path: Path | None = None) -> None:
        """Log to `path`, or to stderr. Raises OSError when the file cannot be opened."""
        self._path = path
        self._dropped = 0
        self._size = 0
        self._open()

    def _open(self) -> None:
        if self._path is None:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(descriptor).st_size
        os.dup2(descriptor, 2)  # a traceback of ours belongs here too
        os.close(descriptor)

    def __call__(self, text: str) -> None:
        """Write one line."""
        note = f" ({self._dropped} lines before this one were dropped)" if self._dropped else ""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        line = f"{stamp} executor[{os.getpid()}] {_one_line(text)}{note}"
        data = line.encode("utf-8", "backslashreplace")[:LINE_LIMIT] + b"\n"
        try:
            if not select.select([], [2], [], 0)[1]:
                raise BlockingIOError
            self._size += os.write(2, data)
            self._dropped = 0
        except (OSError, ValueError):
            self._dropped += 1
        if self._path is not None and self._size > FILE_LIMIT:
            with contextlib.suppress(OSError):
                os.replace(self._path, f"{self._path}.1")
                self._open()


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
