"""A regular file that is read, and one that is written under a temporary name until it is whole. Calls block.

The part lies in the directory of its target, so that publishing it is one rename, and nobody ever sees half a file
under the final name. Its name is made by copying.py of the step and of the source's size and time: the next attempt
finds it, and the part of another source is never taken for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress

from sysadmd.jobs.transfers.beneath import directory, entry, sync
from sysadmd.jobs.transfers.faults import A_LINK, TransferError, told
from sysadmd.jobs.transfers.names import SitePath

_NO_COPY_RANGE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
PERMISSIONS = 0o777
"""Bits of a mode that a copy keeps. Set-user-id of a file would become that of the account that copies."""
CHUNK = 4 * 1024 * 1024


class SourceFile:
    """A regular file below a root, open for reading."""

    def __init__(self, root: bytes, path: SitePath) -> None:
        self.path = path.text
        with directory(root, path.parent) as above, told(self.path):
            self._fd = _open_regular(above, path.name, self.path)
            self._first = os.fstat(self._fd)

    @property
    def size(self) -> int:
        """Bytes when it was opened."""
        return self._first.st_size

    @property
    def mode(self) -> int:
        """Its permissions."""
        return self._first.st_mode & PERMISSIONS

    @property
    def mtime_ns(self) -> int:
        """Its time of change when it was opened, in nanoseconds."""
        return self._first.st_mtime_ns

    @property
    def identity(self) -> tuple[int, int]:
        """Which file it is on this host."""
        return self._first.st_dev, self._first.st_ino

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; none at the end."""
        with told(self.path):
            return os.pread(self._fd, count, offset)

    def changed(self) -> bool:
        """Whether it was written to since it was opened."""
        now = os.fstat(self._fd)
        return (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


class Part:
    """A file on its way: written as `part` in the directory of `path`, whose directories are made if they are missing.

    The part is locked, so that an attempt that was given up but still runs does not write into it as well.
    """

    def __init__(self, root: bytes, path: SitePath, part: bytes) -> None:
        self.path, self._name, self._part = path.text, path.name, part
        with directory(root, path.parent, make=True) as above:
            self._above = os.dup(above)
        try:
            with told(self.path):
                self._fd = self._open()
        except BaseException:
            os.close(self._above)
            raise

    @property
    def length(self) -> int:
        """Bytes that are there."""
        return os.fstat(self._fd).st_size

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; none at the end."""
        with told(self.path):
            return os.pread(self._fd, count, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""
        rest = memoryview(data)
        with told(self.path):
            while rest:
                done = os.pwrite(self._fd, rest, offset)
                rest, offset = rest[done:], offset + done

    def truncate(self, length: int) -> None:
        """Cut it to `length` bytes."""
        with told(self.path):
            os.ftruncate(self._fd, length)

    def sync(self) -> None:
        """Return when what was written survives a power failure."""
        with told(self.path):
            os.fdatasync(self._fd)

    def publish(self, mode: int, mtime_ns: int, *, overwrite: bool) -> None:
        """Give it its permissions, its time and its final name. Without `overwrite` a file that is there is kept."""
        with told(self.path):
            os.fchmod(self._fd, mode & PERMISSIONS)
            os.utime(self._fd, ns=(mtime_ns, mtime_ns))
            os.fsync(self._fd)
            if overwrite or not self._linked():
                os.rename(self._part, self._name, src_dir_fd=self._above, dst_dir_fd=self._above)
            sync(self._above)

    def _linked(self) -> bool:
        """Publish under a name that must be free: link(2) fails where it is taken, in one step with making it.

        False where the file system has no links (and the name was free a moment ago). Raises FileExistsError.
        """
        try:
            os.link(self._part, self._name, src_dir_fd=self._above, dst_dir_fd=self._above, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS or entry(self._above, self._name) is not None:
                raise
            return False
        os.unlink(self._part, dir_fd=self._above)
        return True

    def discard(self) -> None:
        """Remove the part."""
        with suppress(OSError):
            os.unlink(self._part, dir_fd=self._above)

    def close(self) -> None:
        """Give the descriptors, and with them the lock, back."""
        os.close(self._fd)
        os.close(self._above)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(self._part, flags, 0o600, dir_fd=self._above)
        try:
            found = os.fstat(fd)
            # Whoever may write into this directory could have put another file's second name here.
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
                raise TransferError(self.path, f"its temporary file {os.fsdecode(self._part)} is not one of ours")
            _lock(fd)
        except BlockingIOError as error:
            os.close(fd)
            raise TransferError(self.path, "an earlier attempt is still writing it") from error
        except BaseException:
            os.close(fd)
            raise
        return fd


def copy_range(source: SourceFile, part: Part, offset: int, count: int) -> int:
    """Copy up to `count` bytes at `offset` from one to the other; returns how many, 0 at the end of the source.

    Inside the kernel where it can (which on some file systems shares blocks instead), else through a buffer.
    """
    with told(part.path):
        if hasattr(os, "copy_file_range"):
            try:
                done = os.copy_file_range(source.fileno(), part.fileno(), count, offset, offset)
            except OSError as error:
                if error.errno not in _NO_COPY_RANGE:
                    raise
            else:
                if done:
                    return done
        data = source.read(offset, min(count, CHUNK))
        part.write(offset, data)
        return len(data)


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks; two attempts at once would write the same bytes there.
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise


def _open_regular(above: int, name: bytes, path: str) -> int:
    """Looked at before it is opened, as opening a device may do something, and after, as it may be another one then."""
    found = entry(above, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if stat.S_ISLNK(found.st_mode):
        raise TransferError(path, A_LINK)
    if not stat.S_ISREG(found.st_mode):
        raise TransferError(path, "is no regular file")
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=above)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise TransferError(path, "is no regular file")
    return fd
