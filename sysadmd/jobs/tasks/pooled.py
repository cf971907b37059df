"""One child process as its pool has it: an order goes in, one end comes out, whatever becomes of the child.

::

    idle ──run──► busy ──Done──► idle            the usual way, some hundred microseconds for a task that does nothing
                   │
                   ├─ stop(cause)                killed, timeout, lost, output_limit: TERM, grace, KILL of the group
                   ├─ the socket ends            the child died: `fail`, with its exit code or signal
                   ├─ what comes is no frame     `lost`: nobody knows how far the task was
                   └─ Done, dirty                the outcome stands; the group is killed for what was left behind

Everything but the first way ends in `_end`, which runs once: it ends the group, reads what the child had still said,
and only then tells the outcome. So when an attempt is over, nothing of it runs or writes any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import structlog

from sysadmd.executor.reaping import signal_group
from sysadmd.jobs.tasks.ends import Cause, TaskEnd
from sysadmd.jobs.tasks.frames import (
    BrokenFrame,
    Describe,
    Described,
    Done,
    Progress,
    Reader,
    Ready,
    Run,
    TaskError,
    encode,
)
from sysadmd.jobs.tasks.group_end import Ended, end_group, has_exited, is_stopped

log = structlog.get_logger(__name__)

READ_SIZE = 262_144
KILLED = "ChildKilled"
"""What is said instead of a description when a signal ended the child."""

OnProgress = Callable[[float, str | None], None]
Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


class Pooled:
    """One child. `free` is called when it can take another order, `over` when it is gone; `spawn` runs its end."""

    def __init__(
        self,
        sock: socket.socket,
        pid: int,
        pid_start: int,
        *,
        spawn: Spawn,
        free: Callable[[Pooled], None],
        over: Callable[[Pooled], None],
    ) -> None:
        self.pid, self.pid_start = pid, pid_start
        self.served = 0
        self.idle_since = time.monotonic()
        self.ready = False
        self.stopped_since: float | None = None
        self._sock, self._spawn, self._free, self._over = sock, spawn, free, over
        self._loop = asyncio.get_running_loop()
        self._reader = Reader("pool")
        self._unsent = b""
        self._result: asyncio.Future[TaskEnd] | None = None
        self._described: asyncio.Future[Described] | None = None
        self._on_progress: OnProgress | None = None
        self._done: Done | None = None
        self._cause: Cause | None = None
        self._message: str | None = None
        self._ending = False
        self._loop.add_reader(sock, self._read)

    @property
    def busy(self) -> bool:
        """Whether it has an order."""
        return self._result is not None or self._described is not None

    @property
    def usable(self) -> bool:
        """Whether it can take an order."""
        return not self._ending and not self.busy

    # Orders

    def run(self, run: Run, output: int, on_progress: OnProgress) -> asyncio.Future[TaskEnd]:
        """Run a task once; `output` is sent along and stays the caller's."""
        self._result, self._on_progress = self._loop.create_future(), on_progress
        self._done = self._cause = self._message = None
        self.served += 1
        self._send(encode(run), output)
        return self._result

    def describe(self, order: Describe) -> asyncio.Future[Described]:
        """Ask what a task is."""
        self._described = self._loop.create_future()
        self._send(encode(order), None)
        return self._described

    def stop(self, cause: Cause, message: str, grace: float) -> None:
        """End what runs. The first cause stays; a second call without grace makes the end come at once."""
        if self._cause is None and self._done is None:
            self._cause, self._message = cause, message
        self.end(grace)

    def end(self, grace: float) -> None:
        """End the child."""
        if self._ending:
            if grace <= 0 and not has_exited(self.pid):
                signal_group(self.pid, signal.SIGKILL)
            return
        self._ending = True
        self._spawn(lambda: self._end(grace))

    def look(self, now: float, patience: float) -> None:
        """Once a second: whether it died with its socket held open by a grandchild, or stands still."""
        if self._ending:
            return
        if has_exited(self.pid):
            self.end(0)
        elif not is_stopped(self.pid):
            self.stopped_since = None
        elif self.stopped_since is None:
            self.stopped_since = now
        elif now - self.stopped_since >= patience:
            self.stop("lost", f"its process was stopped for {patience:g} s, by SIGSTOP say", 0)

    # The socket

    def _send(self, data: bytes, descriptor: int | None) -> None:
        try:
            sent = socket.send_fds(self._sock, [data], [] if descriptor is None else [descriptor])
        except BlockingIOError:  # never with one order at a time: what it had was read before it was free
            self._broken(BrokenFrame("the child does not read"))
            return
        except OSError:
            self.end(0)
            return
        self._unsent = data[sent:]
        if self._unsent:
            self._loop.add_writer(self._sock, self._write)

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""
        if not self._unsent:
            self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        """What came, if anything did; at the end of the stream the child is ended, since it ended itself."""
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._sock)
            self.end(0)
            return
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except BrokenFrame as error:
            self._broken(error)

    def _broken(self, error: BrokenFrame) -> None:
        self._loop.remove_reader(self._sock)
        log.error("a child process of tasks broke the protocol", pid=self.pid, reason=str(error))
        self.stop("lost", f"its process broke the protocol: {error}", 0)

    def _take(self, frame: Any) -> None:
        if isinstance(frame, Progress):
            if self._on_progress is not None and self._done is None:
                self._on_progress(frame.value, frame.message)
        elif isinstance(frame, Ready):
            self.ready = True
        elif isinstance(frame, Described) and self._described is not None:
            described, self._described = self._described, None
            _resolve(described, frame)
            self._rest()
        elif isinstance(frame, Done) and self._result is not None and self._done is None:
            self._done = frame
            if frame.dirty and not self._ending:
                self.end(0)
            elif not self._ending:
                self._tell(TaskEnd.of(frame))
                self._rest()
        else:
            raise BrokenFrame(f"a frame {type(frame).__name__} that nothing asked for")

    def _rest(self) -> None:
        self.idle_since = time.monotonic()
        self._free(self)

    def _tell(self, end: TaskEnd) -> None:
        result, self._result = self._result, None
        if result is not None:
            _resolve(result, end)

    # The end

    async def _end(self, grace: float) -> None:
        with anyio.CancelScope(shield=True):
            if not self.busy:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_WR)  # an idle child reads the end, and needs no signal
                await anyio.lowlevel.checkpoint()
            ended = await end_group(self.pid, grace)
        with contextlib.suppress(BrokenFrame):
            self._read_rest()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        if ended.left:
            log.error("processes of a task cannot be ended", group=self.pid, left=ended.left)
        self._over(self)
        if self._described is not None:
            kind = "ChildEnded" if ended.signal is None else KILLED
            _resolve(self._described, Described(None, TaskError(kind, f"its process {ended.how}")))
        self._tell(self._outcome(ended))

    def _read_rest(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._sock.recv(READ_SIZE):
                for frame in self._reader.feed(data):
                    self._take(frame)

    def _outcome(self, ended: Ended) -> TaskEnd:
        if self._cause is not None:
            error = TaskError("Stopped", self._message or self._cause)
            return TaskEnd(self._cause, error=error, exit_code=ended.exit_code, signal=ended.signal)
        if self._done is not None:
            return TaskEnd.of(self._done)
        error = TaskError("ChildEnded", f"the process of the task {ended.how}")
        if not self.ready:
            error = msgspec.structs.replace(error, message=f"a process for tasks cannot start: it {ended.how}")
        # What a signal ended before it was ready may be well the next time; what exits by itself will not.
        outcome: Any = "fail" if self.ready or ended.signal is not None else "start_failed"
        return TaskEnd(outcome, error=error, exit_code=ended.exit_code, signal=ended.signal)


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():  # whoever waited was cancelled
        future.set_result(value)


def size_of(output: int) -> int:
    """Bytes of an output file."""
    return os.fstat(output).st_size
