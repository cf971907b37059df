"""A server in memory, and the transport to it: for tests of the client and of programs that use it.

::

    server = MockServer({"rpc/identify": lambda args: {"hostname": "mock", "type": "server"}})
    async with AsyncClient("unix:///mock", dial=server.dial) as client:
        await client.call("rpc/identify")

Requests and replies pass through the real wire functions, so what a test sees is what a socket would have carried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from sysadmd.client.errors import ConnectFailed, ConnectionLost
from sysadmd.errors import NotFound, RpcError
from sysadmd.wire import decode
from sysadmd.wire.messages import Meta, Request
from sysadmd.wire.sysadm import SYSADM

NO_REPLY = object()
"""What a handler returns to leave a request unanswered; `MockTransport.reply` may answer it later."""

Handler = Callable[[Any], Any]


class MockTransport:
    """One connection to a `MockServer`."""

    in_clear = False

    def __init__(self, server: MockServer) -> None:
        self._server = server
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.requests: list[Request] = []
        self.closed = False
        self.binding = server.binding

    async def open(self, timeout: float) -> None:
        """Connect, unless the server is made to refuse."""
        if self._server.refusing:
            raise ConnectFailed("mock: refused")
        self._server.connections.append(self)

    async def send(self, message: bytes) -> None:
        """Give a request to the server's handlers."""
        if self.closed:
            raise ConnectionLost("mock: the connection broke")
        for entry in decode(message, classic=False).entries:
            if isinstance(entry, RpcError):
                self.push(SYSADM.error(None, entry))
            else:
                self._answer(entry)

    async def receive(self) -> bytes:
        """The next message of the server."""
        message = None if self.closed and self._inbox.empty() else await self._inbox.get()
        if message is None:
            raise ConnectionLost("mock: the connection broke")
        return message

    async def aclose(self) -> None:
        """Leave the server."""
        self.drop()

    def push(self, message: bytes) -> None:
        """Send one message to the client, whatever it is."""
        self._inbox.put_nowait(message)

    def reply(self, request: Request, result: Any) -> None:
        """Answer a request that a handler left open."""
        self.push(SYSADM.reply(request, result))

    def drop(self) -> None:
        """Break the connection: what was pushed is still received, then `ConnectionLost`."""
        if not self.closed:
            self.closed = True
            self._inbox.put_nowait(None)
            if self in self._server.connections:
                self._server.connections.remove(self)

    def _answer(self, request: Request) -> None:
        self.requests.append(request)
        self._server.requests.append(request)
        method = "/".join(filter(None, (request.namespace, request.name, request.action)))
        try:
            handler = self._server.handlers.get(method)
            if handler is None:
                raise NotFound(f"there is no {method}")
            result = handler(request.args)
        except RpcError as error:
            self.push(SYSADM.error(request, error))
        else:
            if result is not NO_REPLY:
                self.reply(request, result)


class MockServer:
    """Handlers by method, and every request that came. A handler gets the args and returns a result or raises
    `RpcError`.
    """

    def __init__(self, handlers: Mapping[str, Handler] | None = None) -> None:
        self.handlers: dict[str, Handler] = dict(handlers or {})
        self.requests: list[Request] = []
        self.connections: list[MockTransport] = []
        self.refusing = False
        self.binding = ""
        """That of every connection from now on: it is as if they were sealed (Transport)."""

    def dial(self) -> MockTransport:
        """A transport to this server: the `dial` of a client."""
        return MockTransport(self)

    def emit(self, topic: str, data: Any, seq: int, *, epoch: str = "mock") -> None:
        """Send an event, `data` being its canonical payload, to every connection."""
        for frame in SYSADM.event(topic, data, Meta(epoch, seq, 1_700_000_000.0 + seq, "mock")):
            for connection in list(self.connections):
                connection.push(frame)

    def drop(self) -> None:
        """Break every connection."""
        for connection in list(self.connections):
            connection.drop()
