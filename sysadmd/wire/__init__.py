"""Text to messages and back: pure, without I/O and without a loop.

`decode` reads what a client sends and tells its dialect; the dialects (`SYSADM`, `CLASSIC`, `JSONRPC`) write what the
server sends. `wire.topics` knows the events' payloads, `wire.sysadm` and `wire.jsonrpc` the client's direction too.
"""

from sysadmd.wire.classic import CLASSIC
from sysadmd.wire.frames import decode
from sysadmd.wire.jsonrpc import JSONRPC
from sysadmd.wire.messages import Dialect, Frame, Meta, Request
from sysadmd.wire.sysadm import SYSADM

__all__ = ["CLASSIC", "JSONRPC", "SYSADM", "Dialect", "Frame", "Meta", "Request", "decode"]
