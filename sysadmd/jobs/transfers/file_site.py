"""A directory of this host as a site. What blocks runs in a thread, which a cancelled attempt waits for: a descriptor
is never closed under a call that uses it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, from_thread, to_thread

from sysadmd.jobs.transfers import tree
from sysadmd.jobs.transfers.faults import TransferError
from sysadmd.jobs.transfers.names import SitePath
from sysadmd.jobs.transfers.part import Part, SourceFile
from sysadmd.jobs.transfers.site import Found

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads:
    """The threads for file work, a bounded number of them: a disk that hangs must not take those of the server."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._limiter: CapacityLimiter | None = None

    @property
    def busy(self) -> int:
        """How many work now."""
        return int(self._limiter.borrowed_tokens) if self._limiter is not None else 0

    def bound(self, count: int) -> None:
        """Take another bound; work that is under way goes on."""
        self._count = count
        if self._limiter is not None:
            self._limiter.total_tokens = count

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call `work` in one of them."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(self._count)
        return await to_thread.run_sync(work, *args, limiter=self._limiter)


class FileSource:
    """See site.Source."""

    def __init__(self, file: SourceFile, threads: Threads) -> None:
        self.file, self._threads = file, threads

    @property
    def found(self) -> Found:
        """What it was when it was opened."""
        return Found(self.file.mode, self.file.size, self.file.mtime_ns, self.file.identity)

    async def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; none at the end."""
        return await self._threads.run(self.file.read, offset, count)

    async def changed(self) -> bool:
        """Whether it was written to since it was opened."""
        return await self._threads.run(self.file.changed)

    async def aclose(self) -> None:
        """Give it back."""
        self.file.close()


class FileTarget:
    """See site.Target."""

    def __init__(self, part: Part, threads: Threads) -> None:
        self.part, self._threads = part, threads

    @property
    def length(self) -> int:
        """Bytes that are there."""
        return self.part.length

    async def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; none at the end."""
        return await self._threads.run(self.part.read, offset, count)

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""
        await self._threads.run(self.part.write, offset, data)

    async def truncate(self, length: int) -> None:
        """Cut it to `length` bytes."""
        await self._threads.run(self.part.truncate, length)

    async def sync(self) -> None:
        """Return when what was written survives a power failure."""
        await self._threads.run(self.part.sync)

    async def publish(self, mode: int, mtime_ns: int, *, overwrite: bool) -> None:
        """Give it its permissions, its time and its final name."""
        await self._threads.run(lambda: self.part.publish(mode, mtime_ns, overwrite=overwrite))

    async def discard(self) -> None:
        """Remove it."""
        await self._threads.run(self.part.discard)

    async def aclose(self) -> None:
        """Give it back."""
        self.part.close()


class FileSite:
    """See site.Site."""

    def __init__(self, root: str, bounds: tree.Bounds, threads: Threads) -> None:
        self._root, self._bounds, self._threads = os.fsencode(root), bounds, threads

    async def listing(self, path: SitePath, *, levels: int | None) -> tree.Entries:
        """See tree.listing."""
        pause = from_thread.check_cancelled
        return await self._threads.run(lambda: tree.listing(self._root, path, self._bounds, levels=levels, pause=pause))

    async def look(self, path: SitePath) -> Found | None:
        """What is at a path, links not followed; None where there is nothing."""
        _named(path)
        found = await self._threads.run(tree.look, self._root, path)
        if found is None:
            return None
        return Found(found.st_mode, found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino))

    async def source(self, path: SitePath) -> FileSource:
        """Open a regular file."""
        _named(path)
        return FileSource(await self._threads.run(SourceFile, self._root, path), self._threads)

    async def target(self, path: SitePath, part: bytes) -> FileTarget:
        """Begin or go on with a file."""
        _named(path)
        return FileTarget(await self._threads.run(Part, self._root, path, part), self._threads)

    async def remove(self, path: SitePath) -> str:
        """See tree.remove."""
        _named(path)
        return await self._threads.run(tree.remove, self._root, path)

    async def rename(self, source: SitePath, target: SitePath, *, overwrite: bool, again: bool) -> str:
        """See tree.rename."""
        _named(source, target)
        return await self._threads.run(
            lambda: tree.rename(self._root, source, target, overwrite=overwrite, again=again)
        )

    async def make(self, path: SitePath, *, parents: bool) -> str:
        """See tree.make."""
        _named(path)
        return await self._threads.run(lambda: tree.make(self._root, path, parents=parents))

    async def aclose(self) -> None:
        """There is nothing to end."""


def _named(*paths: SitePath) -> None:
    for path in paths:
        if not path.parts:
            raise TransferError(path.text, "is the root of the site")
