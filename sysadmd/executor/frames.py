"""The frames between the server and the executor, and their bytes. Pure: no sockets, no clock.

A frame is a four-byte big-endian length and that many bytes of JSON, an object whose key `frame` names its kind.
Unknown keys are ignored and every later key has a default, so that a newer server and an older executor (it outlives
upgrades) understand each other within one `PROTOCOL`. An unknown kind or a wrong type ends the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import msgspec

from sysadmd.errors import ExecutorError

PROTOCOL = 1
PAM = "pam"
"""The feature of an executor that answers `Authenticate`."""
FRAME_LIMIT = 8 * 1024 * 1024
"""Bytes of one frame. The largest honest one is a `start` whose argv fills the kernel's 2 MiB, escaped as JSON."""

Outcome = Literal["ok", "fail", "timeout", "killed", "lost", "spawn_failed"]
SignalName = Literal["kill", "TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT"]
ErrorCode = Literal["draining", "full", "not_running", "protocol", "replaced"]


class Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="frame"):
    """What every frame is."""

    takes_descriptor: ClassVar[bool] = False
    """Whether one file descriptor travels with the frame (SCM_RIGHTS)."""


class AttemptLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bounds of one attempt."""

    timeout: float | None = None
    """Seconds until TERM; None for no bound."""
    grace: float = 5.0
    """Seconds from TERM to KILL."""
    no_new_privs: bool = False
    """Whether set-uid programs and file capabilities give nothing (prctl(2), procctl(2))."""
    rlimits: dict[str, int] = {}
    """Name of a resource(3) limit in lower case without its prefix (`nofile`, `as`, `core`) -> soft and hard value."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the attempt's first process and the children it waited for used (wait4(2))."""

    user: float
    """Seconds of CPU in user mode."""
    system: float
    """Seconds of CPU in the kernel."""
    max_rss: int
    """Bytes of the largest resident set."""


# ---- server to executor


class ServerHello(Frame, frozen=True, tag="hello"):
    """First frame of a server: it becomes the one authority, whoever was it before."""

    proto: int
    server: str = ""
    """Free text for the log, such as the node and the process id."""


class Start(Frame, frozen=True, tag="start"):
    """Run argv once. Idempotent by `attempt` until its exit is acknowledged. Carries the output's descriptor."""

    takes_descriptor: ClassVar[bool] = True

    attempt: str
    lease: str
    argv: list[str]
    env: dict[str, str] = {}
    """The whole environment; nothing is inherited from the executor."""
    cwd: str = "/"
    user: str | None = None
    """Account to run as; None for the executor's own."""
    limits: AttemptLimits = AttemptLimits()


class Signal(Frame, frozen=True, tag="signal"):
    """Signal the attempt's process group. `kill` is TERM, then KILL after the grace."""

    attempt: str
    signal: SignalName
    grace: float | None = None
    """Seconds from TERM to KILL for `kill`; None for the attempt's own."""


class List(Frame, frozen=True, tag="list"):
    """Ask for a `Listing`."""


class Ack(Frame, frozen=True, tag="ack"):
    """The exit of `attempt` is in the store: the executor may forget it."""

    attempt: str


class Drain(Frame, frozen=True, tag="drain"):
    """Refuse new starts, and end when nothing runs any more. Unacknowledged exits stay on disk."""


class Authenticate(Frame, frozen=True, tag="authenticate"):
    """Ask PAM about an account of the machine. For executors with the feature `PAM` only: older ones do not know it."""

    request: int
    """The server's number for it; the answer has the same."""
    user: str
    password: str

    def __repr__(self) -> str:
        """Without the password, which must not get into a log."""
        return f"Authenticate(request={self.request}, user={self.user!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for rich."""
        return [("request", self.request), ("user", self.user)]


# ---- executor to server


class ExecutorHello(Frame, frozen=True, tag="hello"):
    """Answer to `ServerHello`. Every exit that is not acknowledged follows at once."""

    proto: int
    instance: str
    """Random, new in every run of the executor."""
    boot_id: str
    """Of the running kernel."""
    pid: int
    features: list[str] = []
    """What it knows beyond the first release: names of frames that may be sent to it (`PAM`)."""


class Started(Frame, frozen=True, tag="started"):
    """The attempt runs: answer to `Start`, and an entry of `Listing.running`."""

    attempt: str
    lease: str
    pid: int
    """Process id, process group and session: the three are one number."""
    pid_start: int
    """The process's start: clock ticks since boot (Linux), Unix seconds (FreeBSD)."""
    time: float
    """Unix time of the start."""


class Exit(Frame, frozen=True, tag="exit"):
    """The attempt is over; sent again on every reconnection until acknowledged."""

    attempt: str
    lease: str
    outcome: Outcome
    exit_code: int | None = None
    signal: int | None = None
    """Number of the signal that ended the process; exactly one of `exit_code` and `signal` when it was waited for."""
    message: str | None = None
    """One line for people, when there is something to say beyond the code."""
    time_started: float | None = None
    time_finished: float = 0.0
    usage: Usage | None = None


class Listing(Frame, frozen=True, tag="list"):
    """What runs, and every exit not acknowledged."""

    running: list[Started]
    exits: list[Exit]


class Authenticated(Frame, frozen=True, tag="authenticated"):
    """What PAM says of an account: answer to `Authenticate`."""

    request: int
    ok: bool
    uid: int | None = None
    groups: list[str] = []
    """Names of every group of the user, the primary one among them."""
    reason: str = ""
    """Why not: `busy`, `deadline`, `crashed`, `unavailable`, or a line of PAM's own. Never anything of the password."""


class ErrorFrame(Frame, frozen=True, tag="error"):
    """A frame was refused. With an `attempt` and `draining`, `full` or `protocol`, that attempt was NOT started."""

    code: ErrorCode
    message: str
    attempt: str | None = None


ToExecutor = ServerHello | Start | Signal | List | Ack | Drain | Authenticate
FromExecutor = ExecutorHello | Started | Exit | Listing | Authenticated | ErrorFrame

_ENCODER = msgspec.json.Encoder()
_DECODERS = {
    "executor": msgspec.json.Decoder(ToExecutor),
    "server": msgspec.json.Decoder(FromExecutor),
}


def encode(frame: Frame) -> bytes:
    """The frame's bytes, length included. Raises ExecutorError above `FRAME_LIMIT`."""
    body = _ENCODER.encode(frame)
    if len(body) > FRAME_LIMIT:
        kind = frame.__struct_config__.tag
        raise ExecutorError(f"a {kind} frame of {len(body)} bytes is above the limit of {FRAME_LIMIT}")
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Bytes in, frames out, for one direction of one connection."""

    def __init__(self, side: Literal["executor", "server"]) -> None:
        """`side` is who reads: the executor accepts `ToExecutor`, the server `FromExecutor`."""
        self._decoder = _DECODERS[side]
        self._buffer = bytearray()

    @property
    def mid_frame(self) -> bool:
        """Whether the bytes so far end within a frame."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[ToExecutor | FromExecutor]:
        """Yield each frame that `data` completes. Raises ExecutorError at the first byte that breaks the protocol."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= 4:
                size = int.from_bytes(self._buffer[start : start + 4], "big")
                if size > FRAME_LIMIT:
                    raise ExecutorError(f"a frame announces {size} bytes, above the limit of {FRAME_LIMIT}")
                end = start + 4 + size
                if len(self._buffer) < end:
                    break
                body = bytes(self._buffer[start + 4 : end])
                start = end
                yield self._decode(body)
        finally:
            del self._buffer[:start]

    def _decode(self, body: bytes) -> ToExecutor | FromExecutor:
        try:
            frame: ToExecutor | FromExecutor = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ExecutorError(f"not a frame: {error}") from None
        return frame
