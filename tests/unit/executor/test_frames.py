"""Bytes to frames and back."""

from __future__ import annotations

import contextlib
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import ExecutorError
from sysadmd.executor.frames import (
    FRAME_LIMIT,
    Ack,
    AttemptLimits,
    Authenticate,
    Authenticated,
    Drain,
    ErrorFrame,
    ExecutorHello,
    Exit,
    Frame,
    FrameReader,
    List,
    Listing,
    ServerHello,
    Signal,
    Start,
    Started,
    Usage,
    encode,
)

text = st.text(max_size=20)
seconds = st.floats(min_value=0, max_value=1e9)
started = st.builds(
    Started, attempt=text, lease=text, pid=st.integers(1, 2**22), pid_start=st.integers(0), time=seconds
)
exits = st.builds(
    Exit,
    attempt=text,
    lease=text,
    outcome=st.sampled_from(["ok", "fail", "timeout", "killed", "lost", "spawn_failed"]),
    exit_code=st.none() | st.integers(0, 255),
    message=st.none() | text,
    usage=st.none() | st.builds(Usage, user=seconds, system=seconds, max_rss=st.integers(0)),
)
limits = st.builds(
    AttemptLimits,
    timeout=st.none() | seconds,
    grace=seconds,
    no_new_privs=st.booleans(),
    rlimits=st.dictionaries(text, st.integers(0, 2**60)),
)
to_executor = st.one_of(
    st.builds(ServerHello, proto=st.integers(0, 99), server=text),
    st.builds(
        Start,
        attempt=text,
        lease=text,
        argv=st.lists(text),
        env=st.dictionaries(text, text),
        cwd=text,
        user=st.none() | text,
        limits=limits,
    ),
    st.builds(Signal, attempt=text, signal=st.sampled_from(["kill", "TERM", "HUP"]), grace=st.none() | seconds),
    st.builds(Ack, attempt=text),
    st.just(List()),
    st.just(Drain()),
    st.builds(Authenticate, request=st.integers(1, 2**53), user=text, password=text),
)
from_executor = st.one_of(
    st.builds(
        ExecutorHello,
        proto=st.integers(0, 99),
        instance=text,
        boot_id=text,
        pid=st.integers(1),
        features=st.lists(text),
    ),
    st.builds(
        Authenticated,
        request=st.integers(1, 2**53),
        ok=st.booleans(),
        uid=st.none() | st.integers(0, 2**32),
        groups=st.lists(text),
        reason=text,
    ),
    started,
    exits,
    st.builds(Listing, running=st.lists(started, max_size=3), exits=st.lists(exits, max_size=3)),
    st.builds(ErrorFrame, code=st.sampled_from(["draining", "full"]), message=text, attempt=st.none() | text),
)


def framed(body: bytes) -> bytes:
    """The body behind its length."""
    return len(body).to_bytes(4, "big") + body


@given(st.lists(to_executor, max_size=5))
def test_what_the_server_encodes_the_executor_reads(frames: list[Frame]) -> None:
    assert list(FrameReader("executor").feed(b"".join(map(encode, frames)))) == frames


@given(st.lists(from_executor, max_size=5))
def test_what_the_executor_encodes_the_server_reads(frames: list[Frame]) -> None:
    assert list(FrameReader("server").feed(b"".join(map(encode, frames)))) == frames


@given(st.lists(to_executor, min_size=1, max_size=4), st.data())
def test_frames_arrive_whole_however_the_bytes_are_cut(frames: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encode, frames))
    reader, read = FrameReader("executor"), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        read += list(reader.feed(stream[:size]))
        stream = stream[size:]
    assert read == frames
    assert not reader.mid_frame


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_an_executor_error(data: bytes) -> None:
    sides: list[Literal["executor", "server"]] = ["executor", "server"]
    for side in sides:
        with contextlib.suppress(ExecutorError):
            assert all(isinstance(frame, Frame) for frame in FrameReader(side).feed(data))


@given(st.binary(max_size=100))
def test_any_body_is_a_frame_or_an_executor_error(body: bytes) -> None:
    with contextlib.suppress(ExecutorError):
        assert len(list(FrameReader("executor").feed(framed(body)))) == 1


def test_frames_before_a_bad_one_are_still_given() -> None:
    reader = FrameReader("executor").feed(encode(Drain()) + framed(b"nonsense"))
    assert next(reader) == Drain()
    with pytest.raises(ExecutorError, match="not a frame"):
        next(reader)


def test_half_a_frame_is_in_the_middle_of_it() -> None:
    reader = FrameReader("executor")
    assert list(reader.feed(encode(Drain())[:5])) == []
    assert reader.mid_frame


def test_a_length_at_the_limit_is_waited_for_and_one_beyond_is_an_error() -> None:
    assert list(FrameReader("executor").feed(FRAME_LIMIT.to_bytes(4, "big"))) == []
    with pytest.raises(ExecutorError, match=f"a frame announces {FRAME_LIMIT + 1} bytes, above the limit"):
        list(FrameReader("executor").feed((FRAME_LIMIT + 1).to_bytes(4, "big")))


def test_a_frame_at_the_limit_can_be_sent_and_one_beyond_cannot() -> None:
    room = FRAME_LIMIT - len(msgspec.json.encode(Ack("")))
    assert len(encode(Ack("x" * room))) == FRAME_LIMIT + 4
    with pytest.raises(ExecutorError, match="a ack frame of 8388609 bytes is above the limit"):
        encode(Ack("x" * (room + 1)))


def test_the_wire_form_is_short_and_what_the_protocol_says() -> None:
    assert encode(Ack("7"))[4:] == b'{"frame":"ack","attempt":"7"}'
    assert encode(Start("7", "l", ["true"]))[4:] == b'{"frame":"start","attempt":"7","lease":"l","argv":["true"]}'


def test_unknown_keys_of_a_newer_peer_are_ignored() -> None:
    body = b'{"frame":"ack","attempt":"7","since":"a later version"}'
    assert list(FrameReader("executor").feed(framed(body))) == [Ack("7")]


@pytest.mark.parametrize(
    "body",
    [
        b'{"attempt":"7"}',
        b'{"frame":"ack"}',
        b'{"frame":"started","attempt":"7"}',
        b'{"frame":"ack","attempt":7}',
        b'{"frame":"signal","attempt":"7","signal":"WINCH"}',
        b'{"frame":"start","attempt":"7","lease":"","argv":"true"}',
        b'{"frame":"start","attempt":"7","lease":"","argv":["\\ud800"]}',
    ],
)
def test_a_frame_of_the_wrong_form_is_an_error(body: bytes) -> None:
    with pytest.raises(ExecutorError, match="not a frame: "):
        list(FrameReader("executor").feed(framed(body)))


def test_only_a_start_takes_a_descriptor() -> None:
    assert Start.takes_descriptor
    assert not any(kind.takes_descriptor for kind in (ServerHello, Signal, List, Ack, Drain, Exit, Started, Listing))


def test_a_password_is_in_no_text_that_is_made_of_its_frame() -> None:
    frame = Authenticate(request=7, user="zoe", password="open sesame")
    texts = [repr(frame), str(frame), f"{frame}", repr([frame]), repr(frame.__rich_repr__())]
    assert not [one for one in texts if "sesame" in one]
    assert all("zoe" in one for one in texts)


def test_an_executor_that_is_older_than_features_has_none() -> None:
    hello = framed(b'{"frame":"hello","proto":1,"instance":"i","boot_id":"b","pid":1}')
    (frame,) = FrameReader("server").feed(hello)
    assert isinstance(frame, ExecutorHello)
    assert frame.features == []
