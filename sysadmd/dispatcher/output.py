"""The output files: `<state>/output/<hour>/<job id>.<step>.<attempt>.log`, 0600 in directories of 0700.

The server makes each file and hands the executor an open descriptor, so the executor, which may be root, opens no
path. The child writes straight into it: the server spends nothing while it writes, and its end, or a restart of the
server, loses nothing. O_APPEND lets the server add its own last line to what the child wrote.

`<hour>` is the first five of the job id's eight digits of time: a directory for each 68 minutes. A directory for each
job would cost another inode and block for each, which is as much time as all of SQLite's part of a short process, and
pruning by age removes whole directories this way.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from sysadmd.dispatcher.text import Reader
from sysadmd.jobs.model import Attempt

log = logging.getLogger(__name__)

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

DiskUse = Callable[[Path], float]
"""directory -> the used part of its file system, 0 to 1, of what an ordinary user may fill."""


def disk_use(directory: Path) -> float:
    """The used part of the file system, as df(1) counts it: blocks reserved for root belong to nobody."""
    found = os.statvfs(directory)
    used = found.f_blocks - found.f_bfree
    room = used + found.f_bavail
    return used / room if room else 0.0


class OutputFiles:
    """The files under one directory. Paths are relative to it, as the attempts keep them, so a state directory may
    move.
    """

    def __init__(self, root: Path, use: DiskUse = disk_use) -> None:
        self.root = root
        self._use = use
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    @staticmethod
    def path_of(job_id: str, idx: int, n: int) -> str:
        """The relative path of an attempt's file."""
        return f"{job_id[:5]}/{job_id}.{idx}.{n}.log"

    def open(self, attempt: Attempt) -> int:
        """A descriptor for the child: appends to a new file, or to the one that an earlier try to send this attempt
        made.

        Raises OSError, also when something that is not a plain file of ours has the name.
        """
        path = f"{self.root}/{attempt.output_path}"
        try:
            return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:
            Path(path).parent.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return self._reopen(path)

    def try_open(self, attempt: Attempt) -> int | OSError:
        """What `open` gives or raises."""
        try:
            return self.open(attempt)
        except OSError as error:
            return error

    def open_all(self, attempts: Sequence[Attempt]) -> list[int | OSError]:
        """`try_open` for each, for a worker thread."""
        return [self.try_open(attempt) for attempt in attempts]

    def _reopen(self, path: str) -> int:
        descriptor = os.open(path, _FLAGS)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            os.close(descriptor)
            raise OSError(errno.EEXIST, "exists and is not an output file of ours", path)
        return descriptor

    def append(self, attempt: Attempt, line: str) -> None:
        """Add a line of the server's own at the end of the output, on a line of its own. Raises OSError."""
        descriptor = self.open(attempt)
        try:
            size = os.fstat(descriptor).st_size
            begin = "" if not size or self.read(attempt.output_path, size - 1, 1) == b"\n" else "\n"
            os.write(descriptor, f"{begin}sysadmd: {line}\n".encode())
        finally:
            os.close(descriptor)

    def size(self, path: str) -> int:
        """Bytes of a file; 0 when it was never made or has been removed."""
        try:
            return os.stat(f"{self.root}/{path}").st_size  # noqa: PTH116  # every tick, for every running process
        except OSError:
            return 0

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; nothing beyond the end, when the file is gone or cannot be read."""
        try:
            descriptor = os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return b""
        try:
            return os.pread(descriptor, length, offset)
        except OSError as error:
            log.warning("cannot read the output %s: %s", path, error)
            return b""
        finally:
            os.close(descriptor)

    def reader(self, path: str) -> Reader:
        """A reader of one file, for text.excerpt."""
        return lambda offset, length: self.read(path, offset, length)

    def disk_use(self) -> float:
        """The used part of the file system that holds the files; 0 when it does not say."""
        try:
            return self._use(self.root)
        except OSError as error:
            log.warning("cannot ask how full the disk of %s is: %s", self.root, error)
            return 0.0


def close_all(outputs: Sequence[int | OSError]) -> None:
    """Close the descriptors among what `open_all` gave."""
    for output in outputs:
        if isinstance(output, int):
            os.close(output)
