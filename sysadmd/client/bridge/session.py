"""How a client and a server speak through a bridge: sealed, or in the originals' way, which the bridge can read.

Both forms do no I/O. They turn messages into payloads and back; the transport moves the payloads.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from sysadmd.client.errors import ConnectionLost
from sysadmd.errors import WireError
from sysadmd.keys.seal import Seal, SealError
from sysadmd.wire.relay import is_sealed, unwrapped, wrapped
from sysadmd.wire.text import parse

DEPTH = 64
MAX_WAITING = 16
"""Messages of a session without a window that wait for their reader; behind them TCP holds the bridge back."""


class Session(Protocol):
    """One form. `receive` and `send` raise `ConnectionLost` when the session is over."""

    @property
    def in_clear(self) -> bool:
        """Whether the bridge can read and forge what is said."""
        ...

    @property
    def binding(self) -> str:
        """What a proof by key is signed along with, or ""."""
        ...

    @property
    def writable(self) -> bool:
        """Whether a message may be given to `send`."""
        ...

    def receive(self, payload: bytes) -> list[bytes]:
        """The messages that a payload of the server completes."""
        ...

    def send(self, message: bytes) -> None:
        """Queue a message."""
        ...

    def outgoing(self) -> list[bytes]:
        """The payloads that may be sent now."""
        ...

    def release(self) -> None:
        """Whatever came was taken by its reader: the server may send as much again."""
        ...

    def full(self, waiting: int) -> bool:
        """Whether no more should be read from the bridge while `waiting` messages wait for their reader."""
        ...


class SealedSession:
    """Messages inside TLS, end to end. The window bounds what waits, so the bridge is always read, and its pings are
    answered however slow the reader of the messages is.
    """

    in_clear = False

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    @property
    def binding(self) -> str:
        """Of the server's certificate, once the handshake is done."""
        return self._seal.binding

    @property
    def writable(self) -> bool:
        """Whether nothing waits for the window."""
        return self._seal.writable

    def receive(self, payload: bytes) -> list[bytes]:
        """Only sealed payloads count: what somebody else says in the clear is not the server's."""
        if not is_sealed(payload):
            return []
        try:
            return self._seal.receive(payload)
        except SealError as error:
            raise ConnectionLost(str(error)) from error

    def send(self, message: bytes) -> None:
        """Encrypt a message and queue it."""
        try:
            self._seal.send(message)
        except SealError as error:
            raise ConnectionLost(str(error)) from error

    def outgoing(self) -> list[bytes]:
        """What the window lets through, and credit."""
        return self._seal.outgoing()

    def release(self) -> None:
        """Give the window back."""
        self._seal.release()

    def full(self, waiting: int) -> bool:
        """Never: the window bounds it."""
        return False


class ClearSession:
    """The originals' way (spec sysadm §6.6): plain JSON up to the first half of the log-in, then base64 of it."""

    in_clear = True
    binding = ""
    writable = True

    def __init__(self) -> None:
        self._wraps = False
        self._out: deque[bytes] = deque()

    def receive(self, payload: bytes) -> list[bytes]:
        """One message; what is none, and a question of the server, is passed over."""
        try:
            message = unwrapped(payload)
            frame = parse(message, DEPTH)
        except WireError:
            return []
        if not isinstance(frame, dict):
            return []
        answers = frame.get("name") in ("response", "error") or frame.get("namespace") == "events"
        return [message] if answers else []

    def send(self, message: bytes) -> None:
        """Queue a message. The one that begins a log-in is the last plain one."""
        self._out.append(wrapped(message) if self._wraps else message)
        self._wraps = self._wraps or _begins_login(message)

    def outgoing(self) -> list[bytes]:
        """Everything."""
        payloads = list(self._out)
        self._out.clear()
        return payloads

    def release(self) -> None:
        """There is no window."""

    def full(self, waiting: int) -> bool:
        """There is no window, so the reading stops."""
        return waiting >= MAX_WAITING


def _begins_login(message: bytes) -> bool:
    try:
        frame: Any = parse(message, DEPTH)
    except WireError:  # deeper than a log-in
        return False
    args = frame.get("args")
    return frame.get("name") == "auth_ssl" and isinstance(args, dict) and "md5_key" in args
