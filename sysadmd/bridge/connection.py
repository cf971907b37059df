"""A peer's WebSocket, of which every whole message goes straight to the relay.

The library's way from a socket to an application is its parser, a queue and a task. Here the parser is only given what
is not a plain message (`framing`), and there is neither queue nor task: what one read of the socket gave is relayed
before the next one. The library keeps the opening and closing handshakes, control frames and fragments, and it always
is at the beginning of a frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import Server
from websockets.frames import DATA_OPCODES
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from sysadmd.bridge.exchange import Exchange
from sysadmd.bridge.framing import cut, span
from sysadmd.bridge.peer import Peer
from sysadmd.bridge.progress import progress
from sysadmd.listen.pending import Pending
from sysadmd.listen.websocket import Connection, address_of, close_reason

END_OF_HEAD = b"\r\n\r\n"


class BridgeConnection(Connection):
    """The connection under a peer, which it has once its handshake is accepted (`attach`)."""

    def __init__(
        self,
        exchange: Exchange,
        trusted: Callable[[str], bool],
        protocol: ServerProtocol,
        server: Server,
        **options: Any,
    ) -> None:
        super().__init__(protocol, server, **options)
        self._exchange, self._trusted = exchange, trusted
        self.peer: Peer | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._seen = b""
        self._rest = bytearray()
        self._need = 0
        self._message = bytearray()
        self._waiter: asyncio.Future[None] | None = None

    # The library's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The peer is connected. One that comes through a trusted proxy gets its place when it is known who it is."""
        peername = transport.get_extra_info("peername")
        places: Pending | None = self.pending
        if isinstance(peername, tuple) and self._trusted(str(peername[0])):
            self.pending = None
        super().connection_made(transport)
        self.pending = places

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        self._rest.clear()
        self._message.clear()
        if self.peer is not None:
            self._exchange.lost(self.peer)
        self._in_time()
        self.wake()

    def resume_writing(self) -> None:
        """The transport's buffer is below its low-water mark."""
        super().resume_writing()
        if self.peer is not None:
            # In its own turn: the transport is in the middle of its own writing.
            self.loop.call_soon(self._exchange.resumed, self.peer)

    def data_received(self, data: bytes) -> None:
        """What one read of the socket gave."""
        peer, size = self.peer, len(data)
        if peer is None or self.protocol.eof_sent:
            self._aside(data)
            return
        chunk: bytes | bytearray = data
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                self._exchange.received(peer, [], size)
                return
            chunk, self._rest = self._rest, bytearray()
        start = 0
        while start < len(chunk) and not self.protocol.eof_sent:
            if self.protocol.current_size is None:
                payloads, start = cut(chunk, start, self.protocol.max_message_size or 0)
                if payloads:
                    self._exchange.received(peer, payloads, size)
                    size = 0
            if start < len(chunk):
                start = self._special(peer, chunk, start)
        if size:
            self._exchange.received(peer, [], size)
        if not (peer.gone or self.writes()):
            self._exchange.lost(peer)  # it took leave, or broke the protocol: it gets nothing any more
            self._end_in_time()

    def process_event(self, event: Event) -> None:
        """The handshake, a control frame or a fragment; a message that was in fragments is relayed."""
        if isinstance(event, (Request, Response)) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
        elif self.protocol.state is State.OPEN and self.peer is not None:
            self._message += event.data
            if event.fin:
                message = bytes(self._message)
                self._message = bytearray()
                self._exchange.received(self.peer, [message], 0)

    def _special(self, peer: Peer, chunk: bytes | bytearray, start: int) -> int:
        """Keep a frame that is not whole, or give the library one that is not plain; where the next one begins."""
        need, length = span(chunk, start)
        if length > (self.protocol.max_message_size or 0) - (self.protocol.current_size or 0):
            super().data_received(bytes(chunk[start:]))  # which refuses it by its head alone
            return len(chunk)
        if start + need > len(chunk):
            self._rest += chunk[start:]
            self._need = need
            return len(chunk)
        if not self._exchange.bears(peer):
            return len(chunk)
        super().data_received(bytes(chunk[start : start + need]))
        return start + need

    def _aside(self, data: bytes) -> None:
        """The opening handshake, after which nothing may come before its answer; or what follows the end."""
        if self.protocol.state is State.CONNECTING:
            seen = self._seen + data
            end = seen.find(END_OF_HEAD)
            hasty = self.request is not None or 0 <= end < len(seen) - len(END_OF_HEAD)
            self._seen = seen[-3:]
            if hasty:
                self._exchange.hasty(address_of(self))
                self.transport.abort()
                return
        super().data_received(data)

    # What the relay does with it

    def attach(self, peer: Peer, grace: float) -> None:
        """The handshake is accepted. The peer has `grace` seconds to log in."""
        self.peer = peer
        self._deadline = self.loop.call_later(grace, self._exchange.late, peer)

    def writes(self) -> bool:
        """Whether it is open."""
        return self.protocol.state is State.OPEN

    def write(self, data: bytes) -> None:
        """Write finished frames."""
        self.transport.write(data)

    def read_on(self, *, wanted: bool) -> None:
        """Read, or leave what comes to the kernel."""
        if not self.transport.is_closing():
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()

    def admitted(self, size: int) -> None:
        """The peer is logged in: messages may have `size` bytes from now on, and its place is free."""
        self.protocol.max_message_size = size
        self._in_time()
        if self.leave is not None:
            self.leave()

    def end(self, code: int, reason: str) -> None:
        """Begin the closing handshake; who does not answer in time is cut off."""
        if self.protocol.state is State.OPEN:
            self.protocol.send_close(code, close_reason(reason))
            self.send_data()
            self.close_deadline = self.loop.time() + (self.close_timeout or 0)
        self.read_on(wanted=True)  # or its answer would never be seen
        self._end_in_time()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.transport.abort()

    def progress(self) -> tuple[int, int]:
        """Numbers that change while the peer reads."""
        return progress(self.transport)

    def beat(self) -> None:
        """Ask for a sign of life."""
        if self.protocol.state is State.OPEN and not self.paused:
            self.protocol.send_ping(b"")
            self.send_data()

    def wake(self) -> None:
        """There is a proof to check."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None

    async def woken(self) -> None:
        """Wait for `wake`, or the end of the connection."""
        if self.protocol.state is State.OPEN:
            self._waiter = self.loop.create_future()
            await self._waiter

    def _end_in_time(self) -> None:
        self._in_time()
        self._deadline = self.loop.call_later(self.close_timeout or 0, self.transport.abort)

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
