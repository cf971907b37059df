"""Listing, removing, renaming and making directories below a root. Every call blocks and belongs into a thread."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sysadmd.jobs.transfers.beneath import directory, enter, entry, open_root, sync
from sysadmd.jobs.transfers.faults import TransferError, told
from sysadmd.jobs.transfers.names import SitePath, decode, join

Entries = dict[str, list[dict[str, Any]]]


class Bounds(NamedTuple):
    """How much one listing may hold: entries, and levels of directories below the source."""

    entries: int
    depth: int

    def check(self, path: str, entries: int, depth: int = 0) -> None:
        """Raise TransferError for one too many."""
        if entries > self.entries:
            raise TransferError(path, f"there are more than {self.entries} files and directories")
        if depth > self.depth:
            raise TransferError(path, f"directories are nested more than {self.depth} levels deep")


def described(name: bytes, found: os.stat_result) -> dict[str, Any]:
    """One entry of a listing; times are whole Unix seconds."""
    return {
        "name": decode(name),
        "st_mode": found.st_mode,
        "st_size": found.st_size,
        "st_mtime": int(found.st_mtime),
        "st_uid": found.st_uid,
        "st_gid": found.st_gid,
        "st_nlink": found.st_nlink,
    }


def listing(root: bytes, path: SitePath, bounds: Bounds, *, levels: int | None, pause: Callable[[], None]) -> Entries:
    """The directories at and below `path` with their entries; of anything else its directory with that one entry.

    `levels`: 1 for the directory `path` alone, 0 for the one entry whatever it is, None for all there are. `pause` is
    called every now and then and may raise, which ends the work. What vanishes while it is read is left out.
    """
    if not path.parts:
        return _walk(open_root(root), path, bounds, levels=levels, pause=pause)
    with directory(root, path.parent) as above:
        found = entry(above, path.name)
        if found is None:
            raise TransferError(path.text, os.strerror(errno.ENOENT))
        if stat.S_ISDIR(found.st_mode) and levels != 0:
            return _walk(enter(above, path.name, path.text), path, bounds, levels=levels, pause=pause)
    if path.slash and not stat.S_ISDIR(found.st_mode):
        raise TransferError(path.text, os.strerror(errno.ENOTDIR))
    return {path.parent.text: [described(path.name, found)]}


class _Level(NamedTuple):
    at: int
    path: str
    below: Iterator[bytes]


def _walk(top: int, path: SitePath, bounds: Bounds, *, levels: int | None, pause: Callable[[], None]) -> Entries:
    """Depth first with one open descriptor for each level, so that each step is a name in an open directory."""
    found: Entries = {}
    count = 0
    stack: list[_Level] = []

    def descend(at: int, text: str) -> None:
        nonlocal count
        stack.append(_Level(at, text, iter(())))
        found[text], below = _read(at, text, pause)
        count += len(found[text])
        bounds.check(text, count, len(stack) - 1)
        stack[-1] = _Level(at, text, iter(below if levels is None else ()))

    try:
        descend(top, path.text)
        while stack:
            level = stack[-1]
            name = next(level.below, None)
            if name is None:
                os.close(stack.pop().at)
                continue
            text = join(level.path, decode(name))
            try:
                at = enter(level.at, name, text)
            except TransferError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    continue
                raise
            descend(at, text)
    finally:
        for level in stack:
            os.close(level.at)
    return found


def _read(at: int, text: str, pause: Callable[[], None]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """The entries of one directory in the order of their names, and the names of its directories."""
    entries: list[dict[str, Any]] = []
    below: list[bytes] = []
    with told(text), os.scandir(at) as scan:
        for count, each in enumerate(scan):
            if count % 256 == 0:
                pause()
            name = os.fsencode(each.name)
            try:
                found = each.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            entries.append(described(name, found))
            if stat.S_ISDIR(found.st_mode):
                below.append(name)
    entries.sort(key=lambda one: one["name"])
    below.sort()
    return entries, below


def look(root: bytes, path: SitePath) -> os.stat_result | None:
    """What is at `path`, links not followed; None where there is nothing, not even its directory."""
    try:
        with directory(root, path.parent) as above, told(path.text):
            return entry(above, path.name)
    except TransferError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def remove(root: bytes, path: SitePath) -> str:
    """Remove a file, a link or an empty directory; what is gone already counts as removed. Returns what was done."""
    if look(root, path) is None:
        return "was gone already"
    with directory(root, path.parent) as above, told(path.text):
        found = entry(above, path.name)
        if found is None:
            return "was gone already"
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(path.name, dir_fd=above)
            return "directory removed"
        if path.slash:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        os.unlink(path.name, dir_fd=above)
        return "removed"


def make(root: bytes, path: SitePath, *, parents: bool) -> str:
    """Make a directory; one that is there already is as good. Returns what was done."""
    with directory(root, path.parent, make=parents) as above, told(path.text):
        try:
            os.mkdir(path.name, dir_fd=above)
        except FileExistsError:
            found = entry(above, path.name)
            if found is None or not stat.S_ISDIR(found.st_mode):
                raise
            return "was there already"
        sync(above)
        return "directory made"


def rename(root: bytes, source: SitePath, target: SitePath, *, overwrite: bool, again: bool) -> str:
    """Give a file or directory another path on the same site. Returns what was done.

    Without `overwrite` a target that is there is refused; the check and the renaming are two calls, so one that is made
    in between is replaced. `again`: an earlier attempt may have done it, which shows when only the target is there.
    """
    with directory(root, target.parent) as into:
        there = entry(into, target.name)
        if again and there is not None and look(root, source) is None:
            return "was renamed already"
        with directory(root, source.parent) as above, told(source.text):
            if entry(above, source.name) is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if there is not None and not overwrite:
                raise TransferError(target.text, "is there already")
            try:
                os.rename(source.name, target.name, src_dir_fd=above, dst_dir_fd=into)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    raise TransferError(target.text, "is on another file system: copy and remove it instead") from error
                raise
            sync(above)
        sync(into)
    return "renamed"
