"""Frames that are built by hand, read back by the library that is at the other end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Opcode
from websockets.protocol import Side
from websockets.server import ServerProtocol

from sysadmd.listen.websocket import REASON_BYTES, close_reason, text_frame


def read_back(data: bytes) -> tuple[Opcode, bool, bytes]:
    protocol = ServerProtocol(max_size=None)
    protocol.side = Side.CLIENT  # reads frames that are not masked
    protocol.state = protocol.state.OPEN
    protocol.parser = protocol.parse()
    next(protocol.parser)
    protocol.receive_data(data)
    (frame,) = protocol.events_received()
    return frame.opcode, frame.fin, bytes(frame.data)  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_text_frame_is_one_whole_message_of_any_length(size: int) -> None:
    payload = b"x" * size
    assert read_back(text_frame(payload)) == (Opcode.TEXT, True, payload)


@given(st.text())
def test_a_close_reason_always_fits_and_is_whole_characters(text: str) -> None:
    reason = close_reason(text)
    assert len(reason.encode()) <= REASON_BYTES
    Close(1008, reason).serialize()


@pytest.mark.parametrize(
    "text,reason", [("short", "short"), ("x" * 200, "x" * 123), ("é" * 100, "é" * 61), ("a\ud800b", "a?b")]
)
def test_a_close_reason_is_the_beginning_of_the_text(text: str, reason: str) -> None:
    assert close_reason(text) == reason
