"""The connection to one SFTP server: made when it is needed, shared by all attempts, made again after it broke, and
ended when nobody has used it for a minute.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import asyncssh
from asyncssh import SFTPClient, SSHClientConnection

from sysadmd.config import SiteConfig
from sysadmd.jobs.transfers.faults import TransferError
from sysadmd.limits import Limits

T = TypeVar("T")
IDLE = 60.0
"""Seconds that a connection is kept for the next attempt: a copy of many files makes one in all."""
KEEPALIVE = 15
"""Seconds between two signs of life that are asked of the server; it is gone when it owes three."""

_REASONS: dict[type[asyncssh.SFTPError], int] = {
    asyncssh.SFTPNoSuchFile: errno.ENOENT,
    asyncssh.SFTPNoSuchPath: errno.ENOENT,
    asyncssh.SFTPPermissionDenied: errno.EACCES,
    asyncssh.SFTPNoSpaceOnFilesystem: errno.ENOSPC,
    asyncssh.SFTPQuotaExceeded: errno.EDQUOT,
    asyncssh.SFTPFileAlreadyExists: errno.EEXIST,
    asyncssh.SFTPDirNotEmpty: errno.ENOTEMPTY,
    asyncssh.SFTPNotADirectory: errno.ENOTDIR,
    asyncssh.SFTPFileIsADirectory: errno.EISDIR,
}
MISSING = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


class Line:
    """The way to one server. `where` is what errors call it."""

    def __init__(self, config: SiteConfig, limits: Limits) -> None:
        self._config, self._limits = config, limits
        user, _, rest = (config.ssh or "").partition("@")
        host, _, port = rest.rpartition(":") if not rest.endswith("]") and ":" in rest else (rest, "", "")
        self._user, self._host, self._port = user, host.strip("[]"), int(port or 22)
        self.where = f"{user}@{rest}"
        self._lock: anyio.Lock | None = None
        self._connection: SSHClientConnection | None = None
        self._sftp: SFTPClient | None = None
        self._root = b""
        self._users = 0
        self._farewell: asyncio.TimerHandle | None = None

    async def ask(
        self,
        path: str,
        request: Callable[[SFTPClient], Awaitable[T]],
        *,
        hint: str = "",
        sftp: SFTPClient | None = None,
    ) -> T:
        """What the server answers to a request about `path`, on the connection of `sftp` where that is given.

        Raises TransferError; `hint` goes behind a bare Failure.
        """
        self.hold()
        try:
            return await self._answer(path, request, hint, sftp or await self._client())
        finally:
            self.release()

    def hold(self) -> None:
        """Keep the connection until as many `release`: there is an open file, or a request."""
        self._users += 1
        if self._farewell is not None:
            self._farewell.cancel()
            self._farewell = None

    def release(self) -> None:
        """Undo one `hold`."""
        self._users -= 1
        if self._users == 0 and self._connection is not None:
            self._farewell = asyncio.get_running_loop().call_later(IDLE, self._drop)

    async def _answer(self, path: str, request: Callable[[SFTPClient], Awaitable[T]], hint: str, sftp: SFTPClient) -> T:
        try:
            with anyio.fail_after(self._limits.ssh_silence):
                return await request(sftp)
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as error:
            self._drop(sftp)
            raise TransferError(path, f"the connection to {self.where} was lost") from error
        except asyncssh.SFTPError as error:
            number = _REASONS.get(type(error))
            reason = os.strerror(number) if number else f"{self.where} said: {error.reason or 'Failure'}{hint}"
            raise TransferError(path, reason, worthless=number in {errno.ENOSPC, errno.EDQUOT}) from error
        except TimeoutError as error:
            self._drop(sftp)
            reason = f"{self.where} did not answer for {self._limits.ssh_silence:g} s"
            raise TransferError(path, reason) from error
        except (asyncssh.Error, OSError) as error:
            self._drop(sftp)
            raise TransferError(path, f"the connection to {self.where} was lost: {error}") from error

    async def root(self) -> bytes:
        """The real path of the root over there."""
        await self._client()
        return self._root

    async def aclose(self) -> None:
        """End the connection."""
        connection = self._connection
        if self._farewell is not None:
            self._farewell.cancel()
        self._drop()
        if connection is not None:
            await connection.wait_closed()

    async def _client(self) -> SFTPClient:
        if self._lock is None:
            self._lock = anyio.Lock()
        async with self._lock:
            if self._connection is not None and self._connection.is_closed():
                self._drop()
            if self._sftp is None:
                self._sftp = await self._connect()
            return self._sftp

    async def _connect(self) -> SFTPClient:
        try:
            return await self._opened()
        except BaseException:
            self._drop()
            raise

    async def _opened(self) -> SFTPClient:
        try:
            with anyio.fail_after(self._limits.ssh_connect):
                self._connection = await self._dialled()
                # Names are bytes: None leaves them so.
                sftp = await self._connection.start_sftp_client(path_encoding=None)
                real = await sftp.realpath(os.fsencode(self._config.root or "."))
        except TimeoutError as error:
            reason = f"could not be reached within {self._limits.ssh_connect:g} s"
            raise TransferError(self.where, reason) from error
        except asyncssh.HostKeyNotVerifiable as error:
            raise TransferError(self.where, "shows another host key than the pinned one") from error
        except asyncssh.PermissionDenied as error:
            raise TransferError(self.where, f"does not accept the key {self._config.key}") from error
        except asyncssh.SFTPError as error:
            reason = f"the root {self._config.root} of the site cannot be used: {error.reason}"
            raise TransferError(self.where, reason) from error
        except (asyncssh.Error, asyncssh.KeyImportError, OSError, ValueError) as error:
            raise TransferError(self.where, f"cannot be reached: {error}") from error
        assert isinstance(real, bytes)
        self._root = real
        return sftp

    async def _dialled(self) -> SSHClientConnection:
        config = self._config
        known = ([asyncssh.import_public_key(config.host_key)], [], []) if config.host_key else str(config.known_hosts)
        return await asyncssh.connect(
            self._host,
            self._port,
            username=self._user,
            client_keys=[str(config.key)],
            known_hosts=known,
            config=None,  # not even the ssh_config of whoever runs the server
            agent_path=None,
            passphrase=None,
            public_key_auth=True,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_auth=False,
            gss_kex=False,
            keepalive_interval=KEEPALIVE,
            keepalive_count_max=3,
        )

    def _drop(self, sftp: SFTPClient | None = None) -> None:
        """Forget the connection, unless it is a later one than that of `sftp`."""
        if sftp is not None and sftp is not self._sftp:
            return
        if self._connection is not None:
            self._connection.close()
        self._connection = self._sftp = None
