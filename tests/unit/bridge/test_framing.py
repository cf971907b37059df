"""Messages cut out of a stream, compared with the library's own parser."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from sysadmd.bridge.framing import cut, span

LIMIT = 70_000


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, mask: bool = True) -> bytes:
    return Frame(Opcode(opcode), payload, fin).serialize(mask=mask)


def parsed(data: bytes) -> list[bytes]:
    """What the library makes of it."""
    protocol = Protocol(Side.SERVER, max_size=LIMIT)
    protocol.receive_data(data)
    return [bytes(event.data) for event in protocol.events_received() if isinstance(event, Frame)]


payloads = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([0, 1, 125, 126, 127, 65535, 65536, 69_999]).map(
        lambda size: b"ab" * (size // 2) + b"c" * (size % 2)
    ),
)


@given(st.lists(payloads, max_size=6), st.sampled_from([1, 2]))
def test_plain_messages_are_what_the_library_reads(messages: list[bytes], opcode: int) -> None:
    data = b"".join(frame(message, opcode) for message in messages)
    assert cut(data, 0, LIMIT) == (messages, len(data))
    assert parsed(data) == messages


@given(st.lists(payloads, min_size=1, max_size=3), st.data())
def test_a_frame_that_is_not_whole_is_left(messages: list[bytes], data: st.DataObject) -> None:
    last = frame(messages[-1])
    whole = b"".join(frame(message) for message in messages[:-1])
    cut_at = data.draw(st.integers(0, len(last) - 1))
    assert cut(whole + last[:cut_at], 0, LIMIT) == (messages[:-1], len(whole))
    need, _ = span(last[:cut_at], 0)
    assert cut_at < need <= len(last)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("mask", [True, False])
def test_a_span_is_the_whole_frame_and_its_payload(size: int, mask: bool) -> None:
    data = frame(b"x" * size, mask=mask)
    assert span(b"??" + data + b"more", 2) == (len(data), size)


@pytest.mark.parametrize(
    "special",
    [
        frame(b"ping", 9),
        frame(b"pong", 10),
        frame(struct.pack("!H", 1000), 8),
        frame(b"a part", 1, fin=False),
        frame(b"the rest", 0),
        frame(b"no mask", mask=False),
        b"\xc1" + frame(b"reserved bit")[1:],
        b"\x83" + frame(b"opcode 3")[1:],
    ],
    ids=["ping", "pong", "close", "part", "rest", "unmasked", "reserved", "unknown"],
)
def test_what_is_not_plain_is_left(special: bytes) -> None:
    before = frame(b"before")
    assert cut(before + special + frame(b"after"), 0, LIMIT) == ([b"before"], len(before))


def test_one_beyond_the_limit_is_left() -> None:
    fits, large = frame(b"x" * 100), frame(b"x" * 101)
    assert cut(fits + large, 0, 100) == ([b"x" * 100], len(fits))


def test_a_length_that_no_memory_has_is_left() -> None:
    assert cut(b"\x81\xff" + b"\xff" * 8 + b"mask", 0, LIMIT) == ([], 0)
    assert span(b"\x81\xff" + b"\xff" * 8, 0)[1] == 2**64 - 1


def test_a_length_that_is_written_longer_than_need_be() -> None:
    data = b"\x81\xfe\x00\x01" + bytes(4) + b"x" + b"\x81\xff" + (1).to_bytes(8, "big") + bytes(4) + b"y"
    assert cut(data, 0, LIMIT) == ([b"x", b"y"], len(data))
