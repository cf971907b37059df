"""What every kind of site can do. Paths are `SitePath`s; a failure is a TransferError."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from sysadmd.jobs.transfers.names import SitePath
from sysadmd.jobs.transfers.tree import Entries


class Found(NamedTuple):
    """What is at a path. `identity` tells files of this host apart, None elsewhere; a time is in nanoseconds, which a
    site may know to the second only.
    """

    mode: int
    size: int
    mtime_ns: int
    identity: tuple[int, int] | None = None


class Source(Protocol):
    """A regular file that is read."""

    @property
    def found(self) -> Found:
        """What it was when it was opened."""

    async def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; none at the end."""

    async def changed(self) -> bool:
        """Whether it was written to since it was opened."""

    async def aclose(self) -> None:
        """Give it back; does not fail."""


class Target(Protocol):
    """A file on its way, under a temporary name."""

    @property
    def length(self) -> int:
        """Bytes that are there: at first, those that an earlier attempt left."""

    async def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; none at the end."""

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""

    async def truncate(self, length: int) -> None:
        """Cut it to `length` bytes."""

    async def sync(self) -> None:
        """Return when what was written survives a power failure, where the site can say so."""

    async def publish(self, mode: int, mtime_ns: int, *, overwrite: bool) -> None:
        """Give it its permissions, its time and its final name."""

    async def discard(self) -> None:
        """Remove it; does not fail."""

    async def aclose(self) -> None:
        """Give it back; does not fail."""


class Site(Protocol):
    """A place for files."""

    async def listing(self, path: SitePath, *, levels: int | None) -> Entries:
        """See tree.listing."""

    async def look(self, path: SitePath) -> Found | None:
        """What is at a path, links not followed; None where there is nothing."""

    async def source(self, path: SitePath) -> Source:
        """Open a regular file."""

    async def target(self, path: SitePath, part: bytes) -> Target:
        """Begin or go on with a file, as `part` in its directory, which is made if it is missing."""

    async def remove(self, path: SitePath) -> str:
        """See tree.remove."""

    async def rename(self, source: SitePath, target: SitePath, *, overwrite: bool, again: bool) -> str:
        """See tree.rename."""

    async def make(self, path: SitePath, *, parents: bool) -> str:
        """See tree.make."""

    async def aclose(self) -> None:
        """End its connections; does not fail."""
