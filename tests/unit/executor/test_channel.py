"""Frames and descriptors over a real socket pair."""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from sysadmd.errors import ExecutorError
from sysadmd.executor import channel as channel_module
from sysadmd.executor.channel import BATCH_BYTES, BUFFER_LIMIT, Channel, connect, listen
from sysadmd.executor.frames import Ack, Drain, FromExecutor, List, Start, ToExecutor, encode


class End:
    """One end, and what it heard."""

    def __init__(self, sock: socket.socket, side: str) -> None:
        self.frames: list[ToExecutor | FromExecutor] = []
        self.descriptors: list[int | None] = []
        self.closed: list[ExecutorError | None] = []
        assert side in ("server", "executor")
        self.channel = Channel(
            sock,
            "server" if side == "server" else "executor",
            on_frame=self.on_frame,
            on_close=self.closed.append,
        )

    def on_frame(self, frame: ToExecutor | FromExecutor, descriptor: int | None) -> None:
        self.frames.append(frame)
        self.descriptors.append(descriptor)

    def close(self) -> None:
        self.channel.close()
        for descriptor in self.descriptors:
            if descriptor is not None:
                os.close(descriptor)


def ends() -> tuple[End, End]:
    """A server's end and an executor's."""
    left, right = socket.socketpair()
    return End(left, "server"), End(right, "executor")


async def settle(turns: int = 50) -> None:
    """Let the loop run."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def gone(*pair: End) -> None:
    """Close and let `on_close` be called."""
    for end in pair:
        end.close()
    await settle(3)


def descriptors() -> int:
    """Open descriptors of this process."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


def numbered(path: Path, text: str) -> int:
    """A descriptor of a file that holds `text`."""
    path.write_text(text)
    return os.open(path, os.O_RDONLY)


def start(attempt: str, size: int = 0) -> Start:
    return Start(attempt, "lease", ["x" * size])


async def test_frames_arrive_in_order() -> None:
    server, executor = ends()
    sent = [Ack(str(number)) for number in range(3000)]
    for frame in sent:
        server.channel.send(frame)
    await settle()
    assert executor.frames == sent
    assert server.channel.buffered == 0
    await gone(server, executor)


async def test_each_descriptor_stays_with_its_frame(tmp_path: Path) -> None:
    server, executor = ends()
    for number in range(300):
        server.channel.send(start(str(number), size=number * 10), numbered(tmp_path / str(number), str(number)))
        server.channel.send(List())
    await settle(200)
    given = [
        (frame.attempt, os.read(descriptor, 10).decode())
        for frame, descriptor in zip(executor.frames, executor.descriptors, strict=True)
        if isinstance(frame, Start) and descriptor is not None
    ]
    assert given == [(str(number), str(number)) for number in range(300)]
    assert executor.descriptors[1::2] == [None] * 300
    await gone(server, executor)


async def test_frames_larger_than_the_socket_buffer_arrive_with_their_descriptors(tmp_path: Path) -> None:
    server, executor = ends()
    for number in range(3):
        server.channel.send(start(str(number), size=20 * BATCH_BYTES), numbered(tmp_path / str(number), str(number)))
    assert await server.channel.drain(5.0)
    await settle()
    assert [frame.attempt for frame in executor.frames if isinstance(frame, Start)] == ["0", "1", "2"]
    assert [os.read(one, 9) for one in executor.descriptors if one is not None] == [b"0", b"1", b"2"]
    await gone(server, executor)


async def test_received_descriptors_are_closed_on_exec(tmp_path: Path) -> None:
    server, executor = ends()
    server.channel.send(start("a"), numbered(tmp_path / "a", "a"))
    await settle()
    (descriptor,) = executor.descriptors
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    await gone(server, executor)


async def test_no_descriptor_is_left_however_a_connection_ends(tmp_path: Path) -> None:
    before = descriptors()
    for turns in (0, 1, 2, 50):
        server, executor = ends()
        for number in range(50):
            server.channel.send(start(str(number), size=5000), numbered(tmp_path / "a", "a"))
        await settle(turns)
        await gone(server, executor)
        with pytest.raises(ExecutorError):
            server.channel.send(start("late"), numbered(tmp_path / "a", "a"))
    await settle()
    assert descriptors() == before


async def test_a_frame_too_large_is_refused_and_its_descriptor_closed(tmp_path: Path) -> None:
    server, executor = ends()
    before = descriptors()
    with pytest.raises(ExecutorError, match="above the limit"):
        server.channel.send(start("a", size=9_000_000), numbered(tmp_path / "a", "a"))
    assert descriptors() == before
    server.channel.send(Drain())
    await settle()
    assert executor.frames == [Drain()]
    await gone(server, executor)


async def test_a_peer_that_does_not_read_is_cut_off_at_the_limit() -> None:
    left, right = socket.socketpair()
    server = End(left, "server")
    frame = Ack("x" * (1024 * 1024))
    for _ in range(BUFFER_LIMIT // (1024 * 1024)):
        assert not server.channel.closed
        server.channel.send(frame)
    assert server.channel.closed
    assert server.closed == []  # never from within a method
    await settle(3)
    (error,) = server.closed
    assert "the other side does not read" in str(error)
    right.close()


async def test_drain_says_no_when_the_peer_does_not_read_in_time() -> None:
    left, right = socket.socketpair()
    server = End(left, "server")
    server.channel.send(Ack("x" * 4_000_000))
    assert not await server.channel.drain(0.05)
    await gone(server)
    assert not await server.channel.drain(0.05)
    right.close()


async def test_drain_ends_when_the_connection_does() -> None:
    left, right = socket.socketpair()
    server = End(left, "server")
    server.channel.send(Ack("x" * 4_000_000))
    waiting = asyncio.create_task(server.channel.drain(30.0))
    await settle()
    right.close()
    assert not await waiting
    await settle(3)


async def test_a_close_between_frames_is_no_error_on_either_side() -> None:
    server, executor = ends()
    server.channel.close()
    server.channel.close()
    await settle()
    assert (server.closed, executor.closed) == ([None], [None])


async def test_a_close_within_a_frame_is_an_error() -> None:
    left, right = socket.socketpair()
    executor = End(right, "executor")
    left.send(encode(Drain())[:6])
    left.close()
    await settle()
    assert str(executor.closed[0]) == "the connection ended within a frame"


async def test_nothing_is_delivered_after_a_bad_frame() -> None:
    left, right = socket.socketpair()
    executor = End(right, "executor")
    left.send(encode(Drain()) + b"\x00\x00\x00\x02{}" + encode(List()))
    await settle()
    assert executor.frames == [Drain()]
    assert "not a frame" in str(executor.closed[0])
    left.close()


async def test_closing_within_the_handler_stops_delivery_and_closes_what_was_not_delivered(tmp_path: Path) -> None:
    before = descriptors()
    server, executor = ends()

    def hang_up(frame: ToExecutor | FromExecutor, descriptor: int | None) -> None:
        assert descriptor is not None
        os.close(descriptor)
        executor.channel.close()

    executor.channel._on_frame = hang_up
    for number in range(5):
        server.channel.send(start(str(number)), numbered(tmp_path / "a", "a"))
    await settle()
    assert executor.closed == [None]
    await gone(server)
    assert descriptors() == before


async def test_descriptors_beyond_the_bound_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "PENDING_DESCRIPTORS", 8)
    before = descriptors()
    left, right = socket.socketpair()
    executor = End(right, "executor")
    rights = array.array("i", [left.fileno()] * 9)
    left.sendmsg([b"\x00"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    await settle()
    assert str(executor.closed[0]) == "more file descriptors came than frames that take one"
    left.close()
    assert descriptors() == before


async def test_a_kernel_without_room_for_descriptors_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "RETRY", 0.0)
    server, executor = ends()

    class Refusing:
        """The socket, refusing the first sends as a kernel with too many descriptors in flight does."""

        refusals = 3

        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def __getattr__(self, name: str) -> object:
            return getattr(self._sock, name)

        def sendmsg(self, *arguments: object) -> object:
            if self.refusals:
                self.refusals -= 1
                raise OSError(errno.ETOOMANYREFS, "Too many references")
            return self._sock.sendmsg(*arguments)  # type: ignore[arg-type]

    server.channel._sock = Refusing(server.channel._sock)  # type: ignore[assignment]
    server.channel.send(Drain())
    await settle()
    assert executor.frames == [Drain()]
    await gone(server, executor)


def test_connecting_where_nobody_listens_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=f"no executor answers at {tmp_path / 's'}: "):
        connect(tmp_path / "s")


def test_listening_replaces_what_a_dead_executor_left(tmp_path: Path) -> None:
    listen(tmp_path / "s").close()
    assert (tmp_path / "s").exists()
    with listen(tmp_path / "s") as listener, connect(tmp_path / "s") as sock:
        assert sock.getblocking() is False
        assert listener.getblocking() is False
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


def test_listening_in_a_missing_directory_is_an_executor_error(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=r"cannot listen at .*: No such file or directory"):
        listen(tmp_path / "missing" / "s")
