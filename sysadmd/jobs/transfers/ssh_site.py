"""A directory of another host, over SFTP (draft-ietf-secsh-filexfer-02: version 3, which OpenSSH speaks).

One connection serves all attempts of a site. It trusts the pinned host key alone, and offers one key: no agent, no
password, no configuration of the account that runs the server.

SFTP has no descriptors of directories, so the walk of beneath.py cannot be done. Instead the server is asked for the
real path of the directory that is to be worked in, which must be the one that was meant, name by name; and what is
worked on is looked at before. Somebody who changes the tree over there in between can lead a call elsewhere. So what
confines an attempt for good is the account over there: an sshd with `ForceCommand internal-sftp` and `ChrootDirectory`.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import anyio
from asyncssh import FXF_CREAT, FXF_READ, FXF_WRITE, SFTPAttrs, SFTPClient, SFTPName

from sysadmd.config import SiteConfig
from sysadmd.jobs.transfers.faults import A_LINK, TransferError
from sysadmd.jobs.transfers.names import MAX_NAME, SitePath, decode
from sysadmd.jobs.transfers.site import Found
from sysadmd.jobs.transfers.ssh_file import CLEANUP, MAX_SIZE, OpenFile, SshSource, SshTarget, found_of
from sysadmd.jobs.transfers.ssh_line import MISSING, Line
from sysadmd.jobs.transfers.tree import Bounds, Entries
from sysadmd.limits import Limits


class SshSite:
    """See site.Site."""

    def __init__(self, config: SiteConfig, bounds: Bounds, limits: Limits) -> None:
        self._line, self._bounds = Line(config, limits), bounds

    async def listing(self, path: SitePath, *, levels: int | None) -> Entries:
        """See tree.listing."""
        if path.parts:
            found = await self.look(path)
            if found is None:
                raise TransferError(path.text, os.strerror(errno.ENOENT))
            if levels == 0 or not stat.S_ISDIR(found.mode):
                return await self._alone(path)
        return await self._walk(path, levels=levels)

    async def look(self, path: SitePath) -> Found | None:
        """What is at a path, links not followed; None where there is nothing."""
        try:
            attrs = await self._attrs(await self._directory(path) + b"/" + path.name, path)
        except TransferError as error:
            if isinstance(error.__cause__, MISSING):
                return None
            raise
        return found_of(attrs)

    async def source(self, path: SitePath) -> SshSource:
        """Open a regular file."""
        full = await self._directory(path) + b"/" + path.name
        found = found_of(await self._attrs(full, path))
        _check_regular(found, path)
        source = SshSource(await OpenFile.open(self._line, path.text, full), found)
        try:
            if await source.changed():  # it is another one than the one that was looked at
                raise TransferError(path.text, "was changed while it was opened")
        except BaseException:
            with anyio.move_on_after(CLEANUP, shield=True):
                await source.aclose()
            raise
        return source

    async def target(self, path: SitePath, part: bytes) -> SshTarget:
        """Begin or go on with a file."""
        above = await self._made(path)
        temporary, length = above + b"/" + part, 0
        there = await self.look(path.parent.child(part))
        if there is not None:
            _check_regular(there, path.parent.child(part))
            length = there.size
        flags, attrs = FXF_READ | FXF_WRITE | FXF_CREAT, SFTPAttrs(permissions=0o600)
        file = await OpenFile.open(self._line, path.text, temporary, flags, attrs)
        return SshTarget(file, path=path.text, part=temporary, final=above + b"/" + path.name, length=length)

    async def remove(self, path: SitePath) -> str:
        """See tree.remove."""
        found = await self.look(path)
        if found is None:
            return "was gone already"
        full = await self._directory(path) + b"/" + path.name
        if stat.S_ISDIR(found.mode):
            await self._line.ask(path.text, lambda sftp: sftp.rmdir(full), hint=" (a directory must be empty)")
            return "directory removed"
        if path.slash:
            raise TransferError(path.text, os.strerror(errno.ENOTDIR))
        await self._line.ask(path.text, lambda sftp: sftp.remove(full))
        return "removed"

    async def rename(self, source: SitePath, target: SitePath, *, overwrite: bool, again: bool) -> str:
        """See tree.rename."""
        there = await self.look(target)
        if again and there is not None and await self.look(source) is None:
            return "was renamed already"
        old = await self._directory(source) + b"/" + source.name
        await self._attrs(old, source)
        if there is not None and not overwrite:
            raise TransferError(target.text, "is there already")
        new = await self._directory(target) + b"/" + target.name

        async def renamed(sftp: SFTPClient) -> None:
            await (sftp.posix_rename(old, new) if overwrite else sftp.rename(old, new))

        await self._line.ask(source.text, renamed, hint=" (is it another file system?)")
        return "renamed"

    async def make(self, path: SitePath, *, parents: bool) -> str:
        """See tree.make."""
        above = await (self._made(path) if parents else self._directory(path))
        return await self._ensure(above, path)

    async def aclose(self) -> None:
        """End the connection."""
        await self._line.aclose()

    async def _directory(self, path: SitePath) -> bytes:
        """The server's path of the directory that holds `path`, which leads there without any link."""
        if not path.parts:
            raise TransferError(path.text, "is the root of the site")
        return await self._real(path.parent)

    async def _real(self, path: SitePath) -> bytes:
        wanted = b"/".join([(await self._line.root()).rstrip(b"/"), *path.parts]) or b"/"
        real = await self._line.ask(path.text, lambda sftp: sftp.realpath(wanted))
        if real != wanted:
            raise TransferError(path.text, A_LINK)
        return wanted if wanted != b"/" else b""

    async def _attrs(self, full: bytes, path: SitePath) -> SFTPAttrs:
        return await self._line.ask(path.text, lambda sftp: sftp.lstat(full))

    async def _made(self, path: SitePath) -> bytes:
        """The same as `_directory`, whose missing parts are made."""
        try:
            above = await self._directory(path)
            if not path.parent.parts or stat.S_ISDIR((await self._attrs(above, path.parent)).permissions or 0):
                return above
        except TransferError as error:
            if not isinstance(error.__cause__, MISSING):
                raise
        for count in range(1, len(path.parts)):
            step = SitePath(path.anchor, path.parts[:count])
            await self._ensure(await self._directory(step), step)
        return await self._directory(path)

    async def _ensure(self, above: bytes, path: SitePath) -> str:
        full = above + b"/" + path.name
        try:
            await self._line.ask(path.text, lambda sftp: sftp.mkdir(full))
        except TransferError as error:
            there = await self.look(path)
            if there is None:
                raise
            if not stat.S_ISDIR(there.mode):
                reason = A_LINK if stat.S_ISLNK(there.mode) else os.strerror(errno.EEXIST)
                raise TransferError(path.text, reason) from error
            return "was there already"
        return "directory made"

    async def _alone(self, path: SitePath) -> Entries:
        """What is there as the one entry of its directory."""
        attrs = await self._attrs(await self._directory(path) + b"/" + path.name, path)
        if path.slash and not stat.S_ISDIR(attrs.permissions or 0):
            raise TransferError(path.text, os.strerror(errno.ENOTDIR))
        return {path.parent.text: [_described(path.name, attrs)]}

    async def _walk(self, top: SitePath, *, levels: int | None) -> Entries:
        """The tree, each directory after its real path was asked for."""
        found: Entries = {}
        count = 0
        waiting = [top]
        while waiting:
            path = waiting.pop()
            try:
                names = await self._names(path)
            except TransferError as error:
                if path is top or not isinstance(error.__cause__, MISSING):
                    raise
                continue  # it vanished meanwhile
            count += len(names)
            self._bounds.check(path.text, count, len(path.parts) - len(top.parts))
            names.sort(key=lambda name: name.filename)
            found[path.text] = [_described(bytes(name.filename), name.attrs) for name in names]  # type: ignore[arg-type]
            if levels is None:
                directories = [name for name in reversed(names) if stat.S_ISDIR(name.attrs.permissions or 0)]
                waiting += [path.child(bytes(name.filename)) for name in directories]  # type: ignore[arg-type]
        return found

    async def _names(self, path: SitePath) -> list[SFTPName]:
        full = await self._real(path) or b"/"
        most = self._bounds.entries

        async def read(sftp: SFTPClient) -> list[SFTPName]:
            names: list[SFTPName] = []
            async for name in sftp.scandir(full):
                if name.filename not in {b".", b".."}:
                    _check_name(bytes(name.filename), path)  # type: ignore[arg-type]
                    names.append(name)
                if len(names) > most:
                    break
            return names

        return await self._line.ask(path.text, read)


def _check_name(name: bytes, path: SitePath) -> None:
    """A server that lies must not choose where its files go: a name becomes a part of a path on another site."""
    if not name or b"/" in name or b"\0" in name or len(name) > MAX_NAME:
        raise TransferError(path.text, f"the server sent {decode(name[:80])!r}, which is no name of a file")


def _check_regular(found: Found, path: SitePath) -> None:
    if stat.S_ISLNK(found.mode):
        raise TransferError(path.text, A_LINK)
    if not stat.S_ISREG(found.mode):
        raise TransferError(path.text, "is no regular file")


def _described(name: bytes, attrs: SFTPAttrs) -> dict[str, Any]:
    """One entry of a listing, as tree.described makes it; version 3 does not count links."""
    return {
        "name": decode(name),
        "st_mode": attrs.permissions or 0,
        "st_size": min(attrs.size or 0, MAX_SIZE),
        "st_mtime": attrs.mtime or 0,
        "st_uid": attrs.uid or 0,
        "st_gid": attrs.gid or 0,
        "st_nlink": attrs.nlink or 1,
    }
