"""The walk from a root to a directory, which no symbolic link leads elsewhere.

A path that was checked as text, or by realpath, can be changed between the check and its use. Therefore no path is
ever handed to the system: the walk opens one name after the other, each in the directory that is open already and each
with O_NOFOLLOW, and works in the last one through its descriptor. A name that becomes a link meanwhile is refused by
the kernel; a directory that is moved meanwhile is still the one that was walked to. Linux has openat2(RESOLVE_BENEATH)
for this, but neither FreeBSD nor Python offers it.

Links are refused even where they stay inside, so that a listing names every file once. The root itself may be one: it
is whoever wrote the configuration who chose it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sysadmd.jobs.transfers.faults import A_LINK, TransferError, told
from sysadmd.jobs.transfers.names import SitePath

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


@contextmanager
def directory(root: bytes, path: SitePath, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the directory at `path` below `root`; missing ones are made when `make` says so.

    Raises TransferError for what is no directory, or a link, naming the part of the path that is.
    """
    at = open_root(root)
    try:
        for count, name in enumerate(path.parts, 1):
            below = enter(at, name, SitePath(path.anchor, path.parts[:count]).text, make=make)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def open_root(root: bytes) -> int:
    """A descriptor of the root."""
    try:
        return os.open(root, _DIRECTORY)
    except OSError as error:
        raise TransferError("/", f"the root of the site cannot be used: {error.strerror}") from error


def enter(at: int, name: bytes, shown: str, *, make: bool = False) -> int:
    """A descriptor of the directory `name` in the open one `at`. `shown` is its path, for the error."""
    with told(shown):
        if make:
            _ensure(at, name)
        try:
            return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        except OSError as error:
            # ENOTDIR, ELOOP or EMLINK, by system and kind
            found = entry(at, name)
            if found is not None and stat.S_ISLNK(found.st_mode):
                raise TransferError(shown, A_LINK) from error
            raise


def entry(at: int, name: bytes) -> os.stat_result | None:
    """What `name` in the open directory `at` is, links not followed; None where there is nothing."""
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None


def sync(at: int) -> None:
    """Return when the names in the open directory `at` survive a power failure, where its file system can say so."""
    try:
        os.fsync(at)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise


def _ensure(at: int, name: bytes) -> None:
    if entry(at, name) is None:
        with suppress(FileExistsError):  # another element of the same copy was faster
            os.mkdir(name, dir_fd=at)
            sync(at)
