"""The frames between a pool and a child process, and their bytes. Pure: no sockets.

A frame is a four-byte big-endian length and that many bytes of MessagePack. Both ends are of one release, since the
pool starts its children. Arguments and results travel as the JSON text that they are stored as: what is no JSON is
found where it was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from sysadmd.jobs.tasks.settings import TaskSettings

FRAME_LIMIT = 4 * 1024 * 1024
"""Bytes of one frame: arguments and results have limits of their own, well below."""
HEADER = 4

TaskOutcome = Literal["ok", "fail", "deferred", "start_failed"]


class TaskError(msgspec.Struct, frozen=True):
    """Why an attempt failed: the exception's class, its text, and the lines of the traceback within the task."""

    exception: str
    message: str
    traceback: tuple[str, ...] = ()


class Parameter(msgspec.Struct, frozen=True):
    """One argument of a task. `annotation` and `default` are Python text, for people."""

    name: str
    required: bool
    annotation: str | None = None
    default: str | None = None


class TaskInfo(msgspec.Struct, frozen=True):
    """What is known of a task once it is loaded. `open_ended`: it takes any further argument (`**kwargs`)."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    open_ended: bool
    settings: TaskSettings


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Run a task once. The descriptor of its output travels with the frame. `target`: `module:attribute`."""

    target: str
    name: str
    job_id: str
    attempt: int
    owner: str
    args: bytes
    result_limit: int


class Describe(msgspec.Struct, frozen=True, tag="describe"):
    """Load a task and say what it is."""

    target: str
    name: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The child has started: the first frame that it sends."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far the running attempt is."""

    value: float
    message: str | None = None


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The attempt is over. `dirty`: it left threads or processes behind, so this child is to run no other one.

    `result` is JSON; `reason` and `delay` are of a defer.
    """

    outcome: TaskOutcome
    dirty: bool = False
    result: bytes | None = None
    error: TaskError | None = None
    reason: str | None = None
    delay: float | None = None


class Described(msgspec.Struct, frozen=True, tag="described"):
    """What the task is, or why it cannot be loaded."""

    info: TaskInfo | None
    error: TaskError | None = None


ToChild = Run | Describe
FromChild = Ready | Progress | Done | Described

_encoder = msgspec.msgpack.Encoder()
_to_child = msgspec.msgpack.Decoder(ToChild)
_from_child = msgspec.msgpack.Decoder(FromChild)


class BrokenFrame(Exception):
    """What came is no frame of this protocol."""


def encode(frame: ToChild | FromChild) -> bytes:
    """The bytes of a frame. Raises BrokenFrame when it is larger than FRAME_LIMIT."""
    body = _encoder.encode(frame)
    if len(body) > FRAME_LIMIT:
        raise BrokenFrame(f"a frame of {len(body)} bytes is larger than {FRAME_LIMIT}")
    return len(body).to_bytes(HEADER, "big") + body


class Reader:
    """Bytes in, frames out, for either side."""

    def __init__(self, side: Literal["child", "pool"]) -> None:
        self._decoder: msgspec.msgpack.Decoder[ToChild] | msgspec.msgpack.Decoder[FromChild]
        self._decoder = _to_child if side == "child" else _from_child
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[ToChild | FromChild]:
        """Every frame that `data` completes. Raises BrokenFrame."""
        self._buffer += data
        while len(self._buffer) >= HEADER:
            length = int.from_bytes(self._buffer[:HEADER], "big")
            if length > FRAME_LIMIT:
                raise BrokenFrame(f"a frame of {length} bytes is announced; at most {FRAME_LIMIT} are allowed")
            if len(self._buffer) < HEADER + length:
                return
            body = bytes(self._buffer[HEADER : HEADER + length])
            del self._buffer[: HEADER + length]
            try:
                yield self._decoder.decode(body)
            except (msgspec.DecodeError, RecursionError) as error:
                raise BrokenFrame(f"what came is no frame: {error}") from None
