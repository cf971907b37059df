"""The queries, and how one set of them serves every release of ZFS.

`zpool list` prints other columns in other releases (zfs-fuse 0.7 knows no fragmentation, OpenZFS 2 puts CKPOINT before
EXPANDSZ), so positions mean nothing and every column is asked for by name. A release that does not know one refuses the
whole list and names the first bad property; that one is left out and the list asked again. What a binary refused is
remembered until the binary changes, so the detour is paid once. (`zpool get all` would tell too, but needs a pool.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sysadmd.errors import ZfsError
from sysadmd.zfs import pool as parse
from sysadmd.zfs.command import Command, CommandFailed
from sysadmd.zfs.pool import PROPERTIES, Dataset, Pool, Snapshot

_REFUSED = re.compile(r"invalid property '([a-z_]+)'")
_NEEDED = frozenset({"health"})

# No kernel module, or no daemon of zfs-fuse: a machine without pools, not a failed query.
_NOT_RUNNING = re.compile(
    r"ZFS modules (are not |cannot be auto-)loaded|failed to initialize ZFS library|zfs-fuse daemon is running"
    r"|/dev/zfs and /proc/self/mounts are required",
    re.IGNORECASE,
)
_DENIED = re.compile(r"permission denied", re.IGNORECASE)

# zfs(8): letters, digits, "_", "-", ".", ":" and blanks; the first is a letter, so that no name is taken for an option.
_NAME = re.compile(r"[A-Za-z][\w.: -]*(/[\w.:-][\w.: -]*)*", re.ASCII)


class Zfs:
    """Asks zpool and zfs. A program is a path, or a name to be found in the system directories; None: its own name."""

    def __init__(
        self, zpool: Path | str | None = None, zfs: Path | str | None = None, *, timeout: float = 10.0
    ) -> None:
        self._zpool = Command(zpool or "zpool", timeout=timeout)
        self._zfs = Command(zfs or "zfs", timeout=timeout)
        self._offered: tuple[tuple[str, int, int], tuple[str, ...]] | None = None

    async def pools(self) -> dict[str, Pool]:
        """The imported pools by name; none where ZFS is absent or not running. Raises ZfsError when asking failed."""
        path = self._zpool.find()
        if path is None:
            return {}
        try:
            status = path.stat()
        except OSError as error:  # removed since it was found, as an upgrade does
            raise ZfsError(f"{path}: {error.strerror}") from None
        identity = (str(path), status.st_ino, status.st_mtime_ns)
        columns = self._offered[1] if self._offered and self._offered[0] == identity else tuple(PROPERTIES)
        while True:
            properties = ",".join(["name", *(PROPERTIES[column] for column in columns)])
            try:
                text = await self._zpool.run("list", "-H", "-o", properties)
            except CommandFailed as error:
                if _not_running(error):
                    return {}
                columns = _without_refused(columns, error)
            else:
                self._offered = (identity, columns)
                return parse.pools(text, columns)

    async def datasets(self, pool: str) -> dict[str, Dataset]:
        """A pool or dataset with the file systems and volumes below it. Raises ZfsError, also when there is none."""
        return parse.datasets(await self._list(pool, "filesystem,volume", "name,used,avail,refer,mountpoint"))

    async def snapshots(self, pool: str) -> dict[str, Snapshot]:
        """The snapshots of a pool or dataset and below it, by full name. Raises ZfsError, also when there is none."""
        return parse.snapshots(await self._list(pool, "snapshot", "name,used,refer,creation"))

    async def _list(self, name: str, types: str, columns: str) -> str:
        if not _NAME.fullmatch(name):
            raise ZfsError(f"{name[:200]!r} is not the name of a pool or dataset")
        return await self._zfs.run("list", "-H", "-r", "-t", types, "-o", columns, name)


def _not_running(error: CommandFailed) -> bool:
    return bool(_NOT_RUNNING.search(error.reason)) and not _DENIED.search(error.reason)


def _without_refused(columns: Sequence[str], error: CommandFailed) -> tuple[str, ...]:
    """The columns without the one that zpool refused; the error itself when it is about something else."""
    refused = _REFUSED.search(error.reason)
    if refused is None:
        raise error
    left = tuple(column for column in columns if column in _NEEDED or PROPERTIES[column] != refused[1])
    if len(left) == len(columns):
        raise error
    return left
