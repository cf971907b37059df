"""What a socket gives, in whatever pieces, is what the library would have read."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import Server
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from sysadmd.bridge.connection import BridgeConnection
from sysadmd.bridge.exchange import Exchange
from sysadmd.bridge.peer import Peer

LIMIT = 70_000
ALL = 10**9
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.written = b""
        self.aborted = self.closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        self.written += data

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed


class Seen:
    """An exchange that notes what it is told."""

    def __init__(self, bears: int = ALL) -> None:
        self.messages: list[bytes] = []
        self.size = 0
        self.left = bears
        self.late_ones = self.lost_ones = 0
        self.hasty_ones: list[str] = []

    def received(self, peer: Peer, payloads: list[bytes], size: int) -> None:
        self.messages += payloads
        self.size += size

    def bears(self, peer: Peer) -> bool:
        self.left -= 1
        return self.left >= 0

    def late(self, peer: Peer) -> None:
        self.late_ones += 1

    def lost(self, peer: Peer) -> None:
        self.lost_ones += not peer.gone
        peer.gone = True

    def hasty(self, address: str) -> None:
        self.hasty_ones.append(address)


def a_peer() -> Peer:
    return cast("Peer", SimpleNamespace(gone=False))


class _Server:
    """As much of a server as a connection touches before it is served."""

    def __init__(self) -> None:
        self.handler_tasks: set[Any] = set()

    async def handler(self, connection: object) -> None:
        """Nothing is served."""


def opened(seen: Seen, *, upgraded: bool = True) -> tuple[BridgeConnection, Transport]:
    """A connection whose handshake is done, or not even begun."""
    protocol, transport = ServerProtocol(max_size=LIMIT), Transport()
    server = cast("Server", _Server())
    connection = BridgeConnection(cast("Exchange", seen), lambda address: False, protocol, server)
    connection.connection_made(transport)
    if upgraded:
        connection.data_received(REQUEST)
        assert isinstance(connection.request, Request)
        protocol.send_response(protocol.accept(connection.request))
        connection.send_data()
        transport.written = b""
        connection.attach(a_peer(), 1000.0)
    return connection, transport


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    return Frame(Opcode(opcode), payload, fin).serialize(mask=True)


def fragments(parts: Sequence[bytes]) -> bytes:
    last = len(parts) - 1
    return b"".join(frame(part, 0 if number else 1, fin=number == last) for number, part in enumerate(parts))


def by_the_library(data: bytes) -> tuple[list[bytes], bytes]:
    """The messages and what is answered."""
    protocol = ServerProtocol(max_size=LIMIT)
    protocol.receive_data(REQUEST)
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    protocol.data_to_send()
    protocol.receive_data(data)
    messages, message = [], b""
    for event in protocol.events_received():
        if isinstance(event, Frame) and event.opcode in (0, 1, 2):
            message += bytes(event.data)
            if event.fin:
                messages.append(message)
                message = b""
    return messages, b"".join(protocol.data_to_send())


pieces = st.one_of(
    st.binary(max_size=200).map(frame),
    st.sampled_from([125, 126, 65_535, 65_536, LIMIT]).map(lambda size: frame(b"x" * size, 2)),
    st.lists(st.binary(max_size=40), min_size=2, max_size=4).map(fragments),
    st.binary(max_size=20).map(lambda payload: frame(payload, 9)),
    st.binary(max_size=20).map(lambda payload: frame(payload, 10)),
)
breaks = st.sampled_from(
    [
        b"",
        frame(struct.pack("!H", 1000) + b"bye", 8),
        frame(b"more", 0),
        frame(b"x" * (LIMIT + 1)),
        b"\x83\x80mask",
        b"\x81\x01x",
        frame(b"part", fin=False) + frame(b"another"),
        frame(b"part", fin=False) + frame(b"ping", 9) + frame(b"rest", 0),
    ]
)


@given(st.lists(pieces, max_size=6), breaks, st.lists(pieces, max_size=2), st.lists(st.integers(1, 2000), max_size=20))
def test_messages_and_answers_are_those_of_the_library(
    before: list[bytes], broken: bytes, after: list[bytes], cuts: list[int]
) -> None:
    data = b"".join([*before, broken, *after])

    async def play() -> None:
        seen = Seen()
        connection, transport = opened(seen)
        rest = data
        for size in cuts:
            connection.data_received(rest[:size])
            rest = rest[size:]
        connection.data_received(rest)
        messages, answers = by_the_library(data)
        assert seen.messages == messages
        assert transport.written == answers
        connection.connection_lost(None)
        assert seen.lost_ones == 1

    asyncio.run(play())


async def test_every_byte_is_counted_once() -> None:
    seen = Seen()
    connection, _ = opened(seen)
    data = frame(b"one") + frame(b"two") + frame(b"ping", 9) + frame(b"three")
    for start in range(0, len(data), 7):
        connection.data_received(data[start : start + 7])
    assert seen.messages == [b"one", b"two", b"three"]
    assert seen.size == len(data)


async def test_special_frames_that_are_not_borne_are_dropped_with_the_rest() -> None:
    seen = Seen(bears=1)
    connection, transport = opened(seen)
    connection.data_received(frame(b"a", 9) + frame(b"b", 9) + frame(b"never"))
    assert seen.messages == []
    assert transport.written == b"\x8a\x01a"


@pytest.mark.parametrize("more", [b"\x81", b"\x81\x80mask"], ids=["byte", "frame"])
async def test_what_comes_with_the_request_drops_the_connection(more: bytes) -> None:
    seen = Seen()
    connection, transport = opened(seen, upgraded=False)
    connection.data_received(REQUEST + more)
    assert transport.aborted
    assert seen.hasty_ones == ["192.0.2.1"]


async def test_what_comes_before_the_answer_drops_the_connection() -> None:
    seen = Seen()
    connection, transport = opened(seen, upgraded=False)
    connection.data_received(REQUEST[:-2])
    connection.data_received(REQUEST[-2:])
    assert seen.hasty_ones == []
    connection.data_received(b"\x81")
    assert transport.aborted
    assert len(seen.hasty_ones) == 1


async def test_an_end_begins_the_closing_handshake_once() -> None:
    seen = Seen()
    connection, transport = opened(seen)
    connection.end(1008, "enough" * 100)
    assert transport.written.startswith(b"\x88\x7d\x03\xf0enough")
    connection.end(1008, "again")
    assert transport.written.count(b"\x88") == 1
    assert not connection.writes()
    connection.data_received(frame(struct.pack("!H", 1008), 8))
    assert transport.closed
    assert connection.protocol.state is not State.OPEN


async def test_who_does_not_answer_the_closing_handshake_is_cut_off() -> None:
    connection, transport = opened(Seen())
    connection.close_timeout = 0.01
    connection.end(1008, "enough")
    async with asyncio.timeout(10):
        while not transport.aborted:
            await asyncio.sleep(0.005)


async def test_the_grace_is_over_once_and_not_after_the_log_in() -> None:
    seen = Seen()
    connection, _ = opened(seen)
    peer = a_peer()
    connection.attach(peer, 0.01)
    async with asyncio.timeout(10):
        while not seen.late_ones:
            await asyncio.sleep(0.005)
    connection.attach(peer, 0.01)
    connection.admitted(5)
    await asyncio.sleep(0.05)
    assert seen.late_ones == 1
    assert connection.protocol.max_message_size == 5


async def test_a_proof_wakes_the_task_and_so_does_the_end() -> None:
    connection, _ = opened(Seen())
    for wake in (connection.wake, lambda: connection.connection_lost(None)):
        waiting = asyncio.create_task(connection.woken())
        await asyncio.sleep(0)
        assert not waiting.done()
        wake()
        async with asyncio.timeout(10):
            await waiting
