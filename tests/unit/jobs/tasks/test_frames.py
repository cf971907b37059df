from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.jobs.tasks import frames
from sysadmd.jobs.tasks.frames import BrokenFrame, Done, FromChild, Progress, Reader, Ready, Run, encode

RUN = Run("m:a", "name", "j", 1, "o", b"{}", 10)


@given(st.lists(st.integers(1, 40), min_size=1))
def test_frames_come_out_however_their_bytes_are_cut(cuts: list[int]) -> None:
    sent: list[FromChild] = [Ready(), Progress(0.5, "half"), Done("ok", result=b"1")]
    data = b"".join(encode(frame) for frame in sent)
    reader = Reader("pool")
    found: list[Any] = []
    while data:
        size = cuts[len(data) % len(cuts)]
        found += reader.feed(data[:size])
        data = data[size:]
    assert found == sent


def test_each_side_reads_what_is_for_it() -> None:
    assert list(Reader("child").feed(encode(RUN))) == [RUN]
    with pytest.raises(BrokenFrame):
        list(Reader("pool").feed(encode(RUN)))


def test_a_frame_at_the_limit_is_sent() -> None:
    rest = frames.FRAME_LIMIT - (len(encode(Run("", "", "", 1, "", b"x" * 70_000, 1))) - frames.HEADER - 70_000)
    assert len(encode(Run("", "", "", 1, "", b"x" * rest, 1))) == frames.HEADER + frames.FRAME_LIMIT


def test_one_byte_more_is_not() -> None:
    with pytest.raises(BrokenFrame):
        encode(Run("", "", "", 1, "", b"x" * frames.FRAME_LIMIT, 1))


def test_an_announced_frame_that_is_too_large_is_refused_before_it_comes() -> None:
    with pytest.raises(BrokenFrame):
        list(Reader("pool").feed((frames.FRAME_LIMIT + 1).to_bytes(4, "big")))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_refused(body: bytes) -> None:
    with contextlib.suppress(BrokenFrame):
        assert len(list(Reader("pool").feed(len(body).to_bytes(4, "big") + body))) == 1
