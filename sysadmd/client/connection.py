"""One connection for calls: a task reads, replies find their callers by id.

The reading task belongs to the connection: `open` starts it, `aclose` ends and awaits it. It is a task and not an
anyio task group, because a group held by `async with AsyncClient(...)` would wrap every exception of the caller's own
block.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from sysadmd.client.channel import Channel, Login, result_of
from sysadmd.client.errors import CallTimeout, ClientError, ConnectFailed, ConnectionLost
from sysadmd.client.transport import Dial
from sysadmd.wire.messages import ErrorReply, EventMessage, Reply

LOGOUT_TIMEOUT = 1.0
"""Seconds for clearing the token at the end; it expires by itself if that fails."""


async def open_channel(dial: Dial, login: Login, timeout: float) -> Channel:
    """Connect and log in within `timeout` seconds. Raises `ConnectFailed` or `AuthFailed`."""
    transport = dial()
    channel = Channel(transport)
    try:
        async with asyncio.timeout(timeout):
            await transport.open(timeout)
            await login.authenticate(channel)
    except TimeoutError as error:
        await channel.aclose()
        raise ConnectFailed(f"no answer to the log-in within {timeout:g} s") from error
    except ConnectionLost as error:
        await channel.aclose()
        raise ConnectFailed(str(error)) from error
    except BaseException:
        await channel.aclose()
        raise
    return channel


class Connection:
    """Calls in flight over one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: dict[str, asyncio.Future[Reply | ErrorReply]] = {}
        self._lost: ClientError | None = None
        self._reader = asyncio.create_task(self._read(), name="sysadmd client reader")

    @property
    def alive(self) -> bool:
        """Whether calls can still be made."""
        return self._lost is None

    async def call(self, method: str, args: Any, timeout: float) -> Any:
        """Make a call and return its result. It is withdrawn on the server when the caller stops waiting."""
        if self._lost is not None:
            raise self._lost
        request_id: str | None = None
        try:
            async with asyncio.timeout(timeout):
                request_id = await self._channel.send(method, args, timeout)
                reply = self._waiting[request_id] = asyncio.get_running_loop().create_future()
                if self._lost is not None:
                    raise self._lost
                return result_of(await reply)
        except TimeoutError as error:
            await self._withdraw(request_id)
            raise CallTimeout(f"{method}: no reply within {timeout:g} s") from error
        except asyncio.CancelledError:
            await self._withdraw(request_id)
            raise
        finally:
            if request_id is not None:
                self._waiting.pop(request_id, None)

    async def aclose(self, *, logout: bool = False) -> None:
        """Close the connection; calls in flight get `ConnectionLost`. With `logout`, the token is cleared first."""
        if logout and self._lost is None:
            with contextlib.suppress(ClientError, TimeoutError):
                await self.call("rpc/auth_clear", {}, LOGOUT_TIMEOUT)
        self._fail(ConnectionLost("the client was closed"))
        self._reader.cancel()
        await asyncio.wait((self._reader,))
        await self._channel.aclose()

    async def _read(self) -> None:
        try:
            while True:
                message = await self._channel.receive()
                if not isinstance(message, EventMessage):
                    self._deliver(message)
        except ConnectionLost as error:
            self._fail(error)
        finally:
            self._fail(ConnectionLost("the connection is no longer read"))

    def _deliver(self, message: Reply | ErrorReply) -> None:
        waiting = self._waiting.get(message.id) if isinstance(message.id, str) else None
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def _fail(self, error: ClientError) -> None:
        self._lost = self._lost or error
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionLost(str(error)))

    async def _withdraw(self, request_id: str | None) -> None:
        """Tell the server that nobody waits any more. Its reply, if one comes, finds nobody and is dropped."""
        if request_id is None or self._lost is not None:
            return
        with contextlib.suppress(ClientError, TimeoutError):
            async with asyncio.timeout(LOGOUT_TIMEOUT):
                await self._channel.send("rpc/cancel", {"id": request_id})
