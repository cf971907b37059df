"""A file that is read over SFTP, and one that is written under a temporary name until it is whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import asyncssh
from asyncssh import FXF_READ, SFTPAttrs, SFTPClient, SFTPClientFile

from sysadmd.jobs.transfers.faults import TransferError
from sysadmd.jobs.transfers.part import PERMISSIONS
from sysadmd.jobs.transfers.site import Found
from sysadmd.jobs.transfers.ssh_line import Line

T = TypeVar("T")
CLEANUP = 5.0
"""Seconds for closing a file that turned out to be another one."""
PIECE = 1024 * 1024
"""Bytes of one call, which asyncssh sends as many requests at once; each call has the deadline of a request."""
MAX_SIZE = (1 << 63) - 1
"""Bytes of the largest file there is; a server may say anything."""
SECOND = 1_000_000_000


def found_of(attrs: SFTPAttrs) -> Found:
    """What the attributes tell. Version 3 knows times to the second."""
    return Found(attrs.permissions or 0, min(attrs.size or 0, MAX_SIZE), (attrs.mtime or 0) * SECOND)


class OpenFile:
    """A file that is open over there. It belongs to the connection that it was opened on, and ends with it."""

    def __init__(self, line: Line, path: str, sftp: SFTPClient, file: SFTPClientFile) -> None:
        self._line, self._path, self._sftp, self._file = line, path, sftp, file
        line.hold()

    @classmethod
    async def open(
        cls, line: Line, path: str, full: bytes, flags: int = FXF_READ, attrs: SFTPAttrs | None = None
    ) -> OpenFile:
        """Open the server's path `full`; errors are about `path`."""

        async def opened(sftp: SFTPClient) -> OpenFile:
            return cls(line, path, sftp, await sftp.open(full, flags, attrs or SFTPAttrs(), encoding=None))

        return await line.ask(path, opened)

    async def ask(self, request: Callable[[SFTPClientFile], Awaitable[T]]) -> T:
        """What the server answers to a request about the file."""
        return await self._line.ask(self._path, lambda _: request(self._file), sftp=self._sftp)

    async def ask_site(self, request: Callable[[SFTPClient], Awaitable[T]], *, hint: str = "") -> T:
        """What the server answers to a request that is not about the open file, on the same connection."""
        return await self._line.ask(self._path, request, hint=hint, sftp=self._sftp)

    async def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; none at the end."""
        pieces: list[bytes] = []
        while count:
            data = await self.ask(partial(_read, offset=offset, count=min(count, PIECE)))
            if not data:
                break
            pieces.append(data)
            offset, count = offset + len(data), count - len(data)
        return b"".join(pieces)

    async def close(self) -> None:
        """Give it back; does not fail."""
        try:
            with suppress(TransferError):
                await self.ask(SFTPClientFile.close)
        finally:
            self._line.release()


class SshSource:
    """See site.Source."""

    def __init__(self, file: OpenFile, found: Found) -> None:
        self._file, self._first = file, found

    @property
    def found(self) -> Found:
        """What it was when it was opened."""
        return self._first._replace(mode=self._first.mode & PERMISSIONS)

    async def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; none at the end."""
        return await self._file.read(offset, count)

    async def changed(self) -> bool:
        """Whether it was written to since it was opened."""
        now = found_of(await self._file.ask(SFTPClientFile.stat))
        return (now.size, now.mtime_ns) != (self._first.size, self._first.mtime_ns)

    async def aclose(self) -> None:
        """Give it back."""
        await self._file.close()


class SshTarget:
    """See site.Target. `part` and `final` are paths of the server, `path` is the one of the site."""

    def __init__(self, file: OpenFile, *, path: str, part: bytes, final: bytes, length: int) -> None:
        self._file, self._path, self._part, self._final = file, path, part, final
        self.length = length

    async def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; none at the end."""
        return await self._file.read(offset, count)

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""
        for begin in range(0, len(data), PIECE):
            piece, at = data[begin : begin + PIECE], offset + begin
            try:
                await self._file.ask(partial(_write, data=piece, offset=at))
            except TransferError as error:
                if await self._is_full():
                    raise TransferError(self._path, "No space left on device", worthless=True) from error
                raise
            self.length = max(self.length, at + len(piece))

    async def truncate(self, length: int) -> None:
        """Cut it to `length` bytes."""
        await self._file.ask(lambda file: file.truncate(length))
        self.length = length

    async def sync(self) -> None:
        """Return when what was written survives a power failure, where the server has OpenSSH's fsync."""
        try:
            await self._file.ask(SFTPClientFile.fsync)
        except TransferError as error:
            if not isinstance(error.__cause__, asyncssh.SFTPOpUnsupported):
                raise

    async def publish(self, mode: int, mtime_ns: int, *, overwrite: bool) -> None:
        """Give it its permissions, its time and its final name."""
        seconds = mtime_ns // SECOND
        attrs = SFTPAttrs(permissions=mode & PERMISSIONS, atime=seconds, mtime=seconds)
        await self._file.ask(lambda file: file.setstat(attrs))
        await self.sync()
        await self._file.ask(SFTPClientFile.close)
        part, final = self._part, self._final
        if overwrite:
            await self._file.ask_site(lambda sftp: sftp.posix_rename(part, final), hint=" (is it a directory?)")
        else:  # this one does not replace
            await self._file.ask_site(lambda sftp: sftp.rename(part, final), hint=" (is it there already?)")

    async def discard(self) -> None:
        """Remove it."""
        with suppress(TransferError):
            await self._file.ask_site(lambda sftp: sftp.remove(self._part))

    async def aclose(self) -> None:
        """Give it back."""
        await self._file.close()

    async def _is_full(self) -> bool:
        """Version 3 calls a full disk a Failure like any other; OpenSSH can be asked for the room."""
        try:
            room = await self._file.ask(SFTPClientFile.statvfs)
        except TransferError:
            return False
        return not room.bavail


async def _read(file: SFTPClientFile, *, offset: int, count: int) -> bytes:
    data = bytes(await file.read(count, offset))  # type: ignore[arg-type]  # bytes, as it was opened without encoding
    return data[:count]  # a server may send more than it was asked for


async def _write(file: SFTPClientFile, *, data: bytes, offset: int) -> None:
    await file.write(data, offset)
