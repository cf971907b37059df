"""A load client that costs less than the servers it measures: WebSocket frames by hand on asyncio protocols.

Masks are zero (RFC 6455 §5.3 asks for random ones against proxies; on loopback there are none), so one prebuilt
request frame serves every connection. Each connection keeps `depth` requests under way and counts the replies.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import time
from collections.abc import Callable

HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def request_frame(payload: bytes) -> bytes:
    """A masked text frame with the mask zero."""
    length = len(payload)
    if length < 126:
        head = bytes((0x81, 0x80 | length))
    elif length < 65536:
        head = bytes((0x81, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x81, 0x80 | 127)) + length.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


class LoadConnection(asyncio.Protocol):
    """One WebSocket connection that counts messages. `on_message` gets the payload when it is set."""

    def __init__(self) -> None:
        self.open = asyncio.get_running_loop().create_future()
        self.count = 0
        self.bytes = 0
        self.on_message: Callable[[bytes], None] | None = None
        self.repeat: bytes | None = None
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(HANDSHAKE.format(key=key).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(ConnectionError("closed during the handshake"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self._upgraded:
            head, found, buffer = buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            assert b" 101 " in head[:16], head
            self._upgraded = True
            self.open.set_result(None)
        start, end = 0, len(buffer)
        while end - start >= 2:
            length, header = buffer[start + 1], 2
            if length == 126:
                header = 4
                if end - start < header:
                    break
                length = int.from_bytes(buffer[start + 2 : start + 4], "big")
            elif length == 127:
                header = 10
                if end - start < header:
                    break
                length = int.from_bytes(buffer[start + 2 : start + 10], "big")
            if end - start < header + length:
                break
            if buffer[start] == 0x81:
                self.count += 1
                self.bytes += length
                if self.on_message is not None:
                    self.on_message(buffer[start + header : start + header + length])
                if self.repeat is not None:
                    self.transport.write(self.repeat)
            start += header + length
        self._buffer = buffer[start:]

    def send(self, payload: bytes) -> None:
        self.transport.write(request_frame(payload))

    async def ask(self, payload: bytes, patience: float = 30) -> bytes:
        """Send one message and return the next one that comes, within `patience` seconds."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(message: bytes) -> None:
            if not answer.done():
                answer.set_result(message)

        self.on_message = take
        self.send(payload)
        async with asyncio.timeout(patience):
            result = await answer
        self.on_message = None
        return result


async def open_connections(port: int, number: int, *, tls: ssl.SSLContext | None = None) -> list[LoadConnection]:
    """Open connections to 127.0.0.1, a few at a time."""
    loop = asyncio.get_running_loop()
    connections: list[LoadConnection] = []
    for first in range(0, number, 20):
        size = min(20, number - first)
        opened = await asyncio.gather(
            *(loop.create_connection(LoadConnection, "127.0.0.1", port, ssl=tls) for _ in range(size))
        )
        batch = [connection for _, connection in opened]
        await asyncio.gather(*(connection.open for connection in batch))
        connections += batch
    return connections


async def request_rate(
    connections: list[LoadConnection], payload: bytes, *, seconds: float = 2.0, warm_up: float = 0.5
) -> float:
    """Replies a second when every connection asks again as soon as it is answered."""
    frame = request_frame(payload)
    for connection in connections:
        connection.repeat = frame
        connection.transport.write(frame)
    await asyncio.sleep(warm_up)
    before, started = sum(c.count for c in connections), time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (sum(c.count for c in connections) - before) / (time.perf_counter() - started)
    for connection in connections:
        connection.repeat = None
    await asyncio.sleep(0.05)
    return rate


def close(connections: list[LoadConnection]) -> None:
    """Drop the connections."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.transport.abort()
