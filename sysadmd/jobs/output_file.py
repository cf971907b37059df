"""The output file of an attempt, as a worker opens it: `<state>/output/<hour>/<job id>.<step>.<attempt>.log`.

The name comes with a claim, over a socket perhaps, so it is checked; and no part of the way is followed where it is a
link, nor taken where it is not our own: a worker may be root, and root opens no path that a lesser one can bend.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

_NAME = re.compile(r"([0-9a-f]{5})/([0-9a-f]{24}\.[0-9]{1,9}\.[0-9]{1,9}\.log)")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_FILE = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class OutputRefused(Exception):
    """The file cannot be opened, or is not to be; the text is one line that says why."""


class OutputFile:
    """An open output file; what is written is appended."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def size(self) -> int:
        """Bytes that are in it."""
        return os.fstat(self.descriptor).st_size

    @property
    def disk_use(self) -> float:
        """The used part of its file system, 0 to 1, as df(1) counts it."""
        found = os.fstatvfs(self.descriptor)
        used = found.f_blocks - found.f_bfree
        room = used + found.f_bavail
        return used / room if room else 0.0

    def note(self, text: str) -> None:
        """Add a line of the worker's own, on a line of its own. A full disk must not hide what is told elsewhere."""
        with contextlib.suppress(OSError):
            size = self.size
            begin = "" if not size or os.pread(self.descriptor, 1, size - 1) == b"\n" else "\n"
            os.write(self.descriptor, f"{begin}sysadmd: {text}\n".encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Close it. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def open_output(root: Path, path: str) -> OutputFile:
    """Open, or make, the file `path` below `root`, the directory of all outputs. Raises OutputRefused."""
    found = _NAME.fullmatch(path)
    if found is None:
        raise OutputRefused(f"{path[:200]!r} is not the name of an output file")
    try:
        top = os.open(root, _DIRECTORY)
        try:
            _check(top, root, stat.S_ISDIR)
            with contextlib.suppress(FileExistsError):
                os.mkdir(found[1], 0o700, dir_fd=top)
            hour = os.open(found[1], _DIRECTORY, dir_fd=top)
        finally:
            os.close(top)
        try:
            _check(hour, root / found[1], stat.S_ISDIR)
            file = os.open(found[2], _FILE, 0o600, dir_fd=hour)
        finally:
            os.close(hour)
    except OSError as error:
        raise OutputRefused(f"the output file {path} cannot be opened: {error.strerror}") from None
    try:
        _check(file, root / path, stat.S_ISREG)
    except OutputRefused:
        os.close(file)
        raise
    return OutputFile(file)


def _check(descriptor: int, path: Path, kind: object) -> None:
    found = os.fstat(descriptor)
    if not callable(kind) or not kind(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise OutputRefused(f"{path} is not ours alone (uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o})")
