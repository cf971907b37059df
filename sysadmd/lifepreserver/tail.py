"""Follows one growing file through rotation, truncation and restarts.

A `Position` says which file was read, how far, and what stood right before that place. The last part is what makes it
safe: inodes are reused at once by some file systems, and a log that was emptied and has grown again past the old place
has the same inode and a plausible size. Only bytes that are still what they were allow reading to go on from there.

Reading is a function of the position: nothing is taken as read until the caller asks with the next one. So a caller
that could not store what it read asks again and gets it again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sysadmd.errors import SysadmdError

CHUNK = 64 * 1024
"""Bytes of one read: what one transaction may hold of a long backlog."""
LINE_LIMIT = 8 * 1024
"""Bytes of a line; a longer one is no log line and is passed over."""
_FINGERPRINT = 256


class LogRefused(SysadmdError):
    """A file that a log names and that is not read, with the rule that it breaks."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file. `skipping`: the place is inside a line that is too long."""

    device: int = 0
    inode: int = 0
    offset: int = 0
    fingerprint: str = ""
    skipping: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Complete lines, the position after them, and whether there is more to read now.

    `restarted`: the file is another one, or was emptied, so that the lines begin at its start.
    """

    lines: tuple[str, ...]
    position: Position
    more: bool = False
    restarted: bool = False


class Tail:
    """Reads lines of `path` after a position. Synchronous. Keeps the file open: a renamed one is read to its end."""

    def __init__(self, path: Path, opener: Callable[[], int]) -> None:
        self._path, self._open = path, opener
        self._descriptor: int | None = None
        self._checked: tuple[Position, int, int] | None = None

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def end(self) -> Position:
        """Where a first reader begins: CHUNK bytes before the end, in the line that is there."""
        descriptor, status = self._file(Position())
        offset = max(0, status.st_size - CHUNK)
        return self._position(descriptor, status, offset, skipping=offset > 0)

    def read(self, position: Position) -> Read:
        """The lines after `position`, of CHUNK bytes at most. Raises OSError (no such file, ...) or LogRefused."""
        descriptor, status = self._file(position)
        restarted = not self._continues(descriptor, status, position)
        if restarted:
            position = Position(status.st_dev, status.st_ino)
        data = os.pread(descriptor, CHUNK, position.offset)
        rotated = self._successor(status) if len(data) < CHUNK else None
        if rotated and os.fstat(descriptor).st_size > position.offset + len(data):
            return Read((), position, more=True, restarted=restarted)  # a last line came before the renaming
        whole = data if rotated or (len(data) == CHUNK and b"\n" not in data) else data[: data.rfind(b"\n") + 1]
        lines, skipping = _lines(whole, skipping=position.skipping)
        if rotated:
            return Read(lines, Position(rotated.st_dev, rotated.st_ino), more=True, restarted=restarted)
        if whole:
            position = self._position(descriptor, status, position.offset + len(whole), skipping=skipping)
        return Read(lines, position, more=len(data) == CHUNK, restarted=restarted)

    def _file(self, position: Position) -> tuple[int, os.stat_result]:
        """The open file of the position, or else the one that bears the name now."""
        if self._descriptor is not None:
            status = os.fstat(self._descriptor)
            if (status.st_dev, status.st_ino) == (position.device, position.inode):
                return self._descriptor, status
            self.close()
        self._descriptor = self._open()
        return self._descriptor, os.fstat(self._descriptor)

    def _continues(self, descriptor: int, status: os.stat_result, position: Position) -> bool:
        if (status.st_dev, status.st_ino) != (position.device, position.inode) or status.st_size < position.offset:
            return False
        seen = (position, status.st_size, status.st_mtime_ns)
        if self._checked != seen:
            if _fingerprint(descriptor, position.offset) != position.fingerprint:
                return False
            self._checked = seen
        return True

    def _successor(self, status: os.stat_result) -> os.stat_result | None:
        """The file that has taken the name, if another one has."""
        try:
            named = self._path.stat()
        except OSError:
            return None  # between the renaming and the making of the new file
        return None if (named.st_dev, named.st_ino) == (status.st_dev, status.st_ino) else named

    @staticmethod
    def _position(descriptor: int, status: os.stat_result, offset: int, *, skipping: bool) -> Position:
        return Position(status.st_dev, status.st_ino, offset, _fingerprint(descriptor, offset), skipping)


def _fingerprint(descriptor: int, offset: int) -> str:
    """A digest of the bytes right before a place; empty at the start of a file."""
    length = min(offset, _FINGERPRINT)
    return hashlib.sha256(os.pread(descriptor, length, offset - length)).hexdigest()[:32] if length else ""


def _lines(data: bytes, *, skipping: bool) -> tuple[tuple[str, ...], bool]:
    """The lines of `data`, and whether its end is inside a line that is too long."""
    if skipping:
        _, newline, data = data.partition(b"\n")
        if not newline:
            return (), True
    if len(data) == CHUNK and b"\n" not in data:
        return (), True
    return tuple(line.decode("utf-8", "replace") for line in data.splitlines() if len(line) <= LINE_LIMIT), False


def open_configured(path: Path) -> int:
    """Open a log that the configuration names. It may be a symbolic link, but must end at a regular file."""
    return _regular(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), path)


def open_named(path: Path, directory: Path) -> int:
    """Open a log that another log names, which is text that we did not write.

    The rule: it lies in the directory of the log that names it, under a plain name that is no symbolic link, is a
    regular file, belongs to root or to this process's user, and others than these and its group cannot write it. The
    name is opened relative to the directory and the open file is asked, so nothing can be exchanged in between.
    """
    if path.parent != directory or path.name in {"", ".", ".."}:
        raise LogRefused(f"{path}: a replication log must lie in {directory}")
    above = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = _regular(os.open(path.name, flags, dir_fd=above), path)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK}:  # what Linux and FreeBSD say of a link under O_NOFOLLOW
            raise LogRefused(f"{path}: a replication log must be no symbolic link") from None
        raise
    finally:
        os.close(above)
    status = os.fstat(descriptor)
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & stat.S_IWOTH:
        os.close(descriptor)
        raise LogRefused(
            f"{path}: a replication log must belong to root or to uid {os.geteuid()}, and only they write it"
        )
    return descriptor


def _regular(descriptor: int, path: Path) -> int:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise LogRefused(f"{path}: a log must be a regular file")
