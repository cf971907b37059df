"""Frames and file descriptors over one Unix stream socket, on an asyncio loop; the same class serves both ends.

Descriptors ride as SCM_RIGHTS on bytes that are never later than the first byte of their frame, and the receiver hands
them out in order to the frames that take one. Both kernels promise that descriptors arrive no later than the bytes they
were sent with, and in order, so no frame needs to say which descriptor is its own.

Sends of one loop turn leave in one sendmsg(2): one system call and one wake-up of the peer for a batch of frames.
Nothing waits without a bound: a peer that announces too large a frame, sends descriptors nobody asked for, or does not
read while `BUFFER_LIMIT` bytes pile up for it, is cut off with an ExecutorError.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from sysadmd.errors import ExecutorError
from sysadmd.executor.frames import Frame, FrameReader, FromExecutor, ToExecutor, encode

BUFFER_LIMIT = 16 * 1024 * 1024
"""Bytes that may wait for a peer: two of the largest frames."""
BATCH_BYTES = 64 * 1024
BATCH_DESCRIPTORS = 32
"""Descriptors of one sendmsg: well below the kernels' 253, so that a batch never fails whole."""
PENDING_DESCRIPTORS = 256
"""Descriptors received for frames still to come; an honest peer is at most one batch ahead."""
RETRY = 0.01
"""Seconds until the next try when the kernel has no room for descriptors in flight (ETOOMANYREFS, ENOBUFS)."""

_CONTROL = socket.CMSG_SPACE(PENDING_DESCRIPTORS * array.array("i").itemsize)
_RECEIVE_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

OnFrame = Callable[[ToExecutor | FromExecutor, int | None], None]
OnClose = Callable[[ExecutorError | None], None]


class Channel:
    """One framed connection. Construct it inside a running loop; it owns the socket from then on.

    `on_frame(frame, descriptor)` is called in order; it owns the descriptor, which is not None exactly for frames whose
    class says `takes_descriptor`. `on_close(error)` is called once, from the loop and never from within a method, after
    which no frame comes: error is None when either end closed between two frames.
    """

    def __init__(
        self, sock: socket.socket, side: Literal["executor", "server"], *, on_frame: OnFrame, on_close: OnClose
    ) -> None:
        self._sock, self._on_frame, self._on_close = sock, on_frame, on_close
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(side)
        self._received: deque[int] = deque()
        self._queue: deque[tuple[bytes | memoryview, int | None]] = deque()
        self._buffered = 0
        self._flush_handle: asyncio.Handle | None = None
        self._drained: asyncio.Future[None] | None = None
        self.closed = False
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)

    @property
    def buffered(self) -> int:
        """Bytes not yet taken by the kernel."""
        return self._buffered

    def send(self, frame: Frame, descriptor: int | None = None) -> None:
        """Queue the frame; it leaves at the end of this loop turn, or when the peer reads.

        The descriptor belongs to the channel from here on, whatever happens: it is closed once sent, and also when this
        raises. Raises ExecutorError when the channel is closed or the frame is too large.
        """
        try:
            if self.closed:
                raise ExecutorError("the connection to the other side is closed")
            data = encode(frame)
        except BaseException:
            _close_all(descriptor)
            raise
        self._queue.append((data, descriptor))
        self._buffered += len(data)
        if self._buffered > BUFFER_LIMIT:
            self._finish(ExecutorError(f"the other side does not read: {self._buffered} bytes wait for it"))
        elif self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self._flush)

    async def drain(self, deadline: float) -> bool:
        """Wait until the kernel has every byte, at most `deadline` seconds; False when it has not or the end came."""
        if not self._queue or self.closed:
            return not self.closed
        if self._drained is None:
            self._drained = self._loop.create_future()
        await asyncio.wait([self._drained], timeout=deadline)
        return not self._queue and not self.closed

    def close(self) -> None:
        """End the connection now; what was not sent is dropped. Idempotent."""
        self._finish(None)

    # ---- reading

    def _read(self) -> None:
        try:
            data, control, flags, _ = self._sock.recvmsg(BATCH_BYTES, _CONTROL, _RECEIVE_FLAGS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._finish(ExecutorError(f"the connection broke: {error.strerror}"))
            return
        self._keep_descriptors(control)
        if flags & socket.MSG_CTRUNC or len(self._received) > PENDING_DESCRIPTORS:
            self._finish(ExecutorError("more file descriptors came than frames that take one"))
        elif not data:
            self._finish(ExecutorError("the connection ended within a frame") if self._reader.mid_frame else None)
        else:
            self._deliver(data)

    def _keep_descriptors(self, control: list[tuple[int, int, bytes]]) -> None:
        for level, kind, payload in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._received.extend(numbers)
                if not _RECEIVE_FLAGS:
                    for number in numbers:
                        os.set_inheritable(number, False)

    def _deliver(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                descriptor = None
                if frame.takes_descriptor:
                    if not self._received:
                        raise ExecutorError("a frame came without its file descriptor")
                    descriptor = self._received.popleft()
                self._on_frame(frame, descriptor)
                if self.closed:
                    return
        except ExecutorError as error:
            self._finish(error)
        except BaseException:
            self._finish(ExecutorError("the handler of a frame failed"))
            raise

    # ---- writing

    def _flush(self) -> None:
        self._flush_handle = None
        while self._queue:
            data, descriptors = self._gather()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                sent = self._sock.sendmsg([data], rights)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError as error:
                if error.errno not in (errno.ETOOMANYREFS, errno.ENOBUFS):
                    self._finish(ExecutorError(f"the connection broke: {error.strerror}"))
                    return
                self._loop.remove_writer(self._sock)
                self._flush_handle = self._loop.call_later(RETRY, self._flush)
                return
            self._sent(sent, len(descriptors))
        self._loop.remove_writer(self._sock)
        if self._drained is not None:
            self._wake_drain()

    def _gather(self) -> tuple[bytes | memoryview, list[int]]:
        """The next batch: at least one queued piece, further ones while they fit, and the descriptors of them all."""
        pieces: list[bytes | memoryview] = []
        descriptors: list[int] = []
        size = 0
        for data, descriptor in self._queue:
            if pieces and (size + len(data) > BATCH_BYTES or len(descriptors) == BATCH_DESCRIPTORS):
                break
            pieces.append(data)
            size += len(data)
            if descriptor is not None:
                descriptors.append(descriptor)
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), descriptors

    def _sent(self, sent: int, descriptors: int) -> None:
        """Drop `sent` bytes from the queue, and the first `descriptors` descriptors: they went with the first byte."""
        self._buffered -= sent
        remaining: list[tuple[bytes | memoryview, int | None]] = []
        while sent or descriptors:
            data, descriptor = self._queue.popleft()
            if descriptor is not None:
                os.close(descriptor)
                descriptors -= 1
            if sent < len(data):
                remaining.append((memoryview(data)[sent:], None))
            sent = max(0, sent - len(data))
        self._queue.extendleft(reversed(remaining))

    # ---- the end

    def _finish(self, error: ExecutorError | None) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        if self._flush_handle is not None:
            self._flush_handle.cancel()
        _close_all(*self._received, *(descriptor for _, descriptor in self._queue))
        self._received.clear()
        self._queue.clear()
        self._buffered = 0
        self._sock.close()
        self._wake_drain()
        self._loop.call_soon(self._on_close, error)

    def _wake_drain(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None


def _close_all(*descriptors: int | None) -> None:
    for descriptor in descriptors:
        if descriptor is not None:
            os.close(descriptor)


CONNECT_TIMEOUT = 1.0
"""Seconds for connect(2): only a full backlog, so an executor that hangs, makes it wait at all."""
ADDRESS_LIMIT = 103
"""Bytes of a path in sockaddr_un on the narrowest of our systems (FreeBSD), without the final NUL."""


def connect(path: Path) -> socket.socket:
    """A non-blocking socket connected to the executor at `path`. Raises ExecutorError when none answers."""
    sock: socket.socket | None = None
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # within: descriptors may have run out
        sock.settimeout(CONNECT_TIMEOUT)
        with _address(path) as address:
            sock.connect(address)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise ExecutorError(f"no executor answers at {path}: {error.strerror or error}") from None
    sock.setblocking(False)
    return sock


def listen(path: Path, owner: int | None = None) -> socket.socket:
    """A non-blocking listening socket at `path`, mode 0600, which is given to the uid `owner`. The caller holds the
    lock of the directory: what is there is a dead executor's and is replaced. Raises ExecutorError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        with _address(path) as address:
            sock.bind(address)
            if owner is not None and owner != os.geteuid():
                os.chown(address, owner, -1, follow_symlinks=False)
        sock.listen(16)
    except OSError as error:
        sock.close()
        raise ExecutorError(f"cannot listen at {path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    sock.setblocking(False)
    return sock


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """`path`, or on Linux an equal name that fits sockaddr_un when it is too long (state directories can be deep)."""
    if len(os.fsencode(path)) <= ADDRESS_LIMIT or not sys.platform.startswith("linux"):
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
