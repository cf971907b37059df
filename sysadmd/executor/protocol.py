"""The protocol between the server and the executor: what both import.

The executor listens on `socket_path(state_dir)`. A server connects, sends `ServerHello` and is from then on the one
authority; whoever was it before gets an `ErrorFrame` with code `replaced` and is closed. The executor answers
`ExecutorHello`, then every `Exit` that was never acknowledged.

- `Start` (with the output's descriptor) is answered by `Started`, later `Exit`; by `Exit` alone when it cannot be
  spawned (outcome `spawn_failed`); by `ErrorFrame` naming the attempt when it is refused and was not started. The same
  attempt again is answered `Started` while it runs and `Exit` until the `Ack`: a server that does not know whether its
  `Start` arrived sends it again.
- `Exit` is kept, on disk, until `Ack`. A server acknowledges after its own commit, and never starts that id again.
- On reconnection a server asks `List`. What it leased and finds in neither part was never started on this instance:
  send `Start` again. On another instance it is lost: the new executor has killed what was left and reports what it knew
  of as `Exit` with outcome `lost`, so the server takes the exits first and calls lost what is in none of them.
- `Signal` for an attempt that is over is answered by its `Exit`, for an unknown one by `ErrorFrame` `not_running`.
- `Ack` of an unknown attempt is no error: acknowledging twice is harmless.
- `Authenticate` is answered by one `Authenticated`, unless the connection ends first: nobody asks twice. It is sent
  only to an executor whose hello has the feature `PAM`; older ones do not know the kind and would end the connection.
"""

from __future__ import annotations

from pathlib import Path

from sysadmd.executor.channel import Channel, connect, listen
from sysadmd.executor.frames import (
    FRAME_LIMIT,
    PAM,
    PROTOCOL,
    Ack,
    AttemptLimits,
    Authenticate,
    Authenticated,
    Drain,
    ErrorCode,
    ErrorFrame,
    ExecutorHello,
    Exit,
    Frame,
    FromExecutor,
    List,
    Listing,
    Outcome,
    ServerHello,
    Signal,
    SignalName,
    Start,
    Started,
    ToExecutor,
    Usage,
)

__all__ = [
    "FRAME_LIMIT",
    "PAM",
    "PROTOCOL",
    "Ack",
    "AttemptLimits",
    "Authenticate",
    "Authenticated",
    "Channel",
    "Drain",
    "ErrorCode",
    "ErrorFrame",
    "ExecutorHello",
    "Exit",
    "Frame",
    "FromExecutor",
    "List",
    "Listing",
    "Outcome",
    "ServerHello",
    "Signal",
    "SignalName",
    "Start",
    "Started",
    "ToExecutor",
    "Usage",
    "connect",
    "listen",
    "socket_path",
]


def socket_path(state_dir: Path) -> Path:
    """Where the executor of a state directory listens."""
    return state_dir / "executor.sock"
