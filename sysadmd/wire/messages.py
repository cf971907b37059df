"""What a frame says, whatever its dialect.

A dialect turns text into `Request` objects and `Request`, results, errors and events back into text. It does no I/O and
keeps no state, so that one module serves every listener, the bridge and the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from sysadmd.errors import RpcError, WireError


class Request(msgspec.Struct, frozen=True, gc=False):
    """One call.

    `namespace` and `name` are matched in lower case by the registry; the spelling that came is kept here, to be echoed.
    `action` is the third part of the method (`run` of `rpc/dispatcher`), or None. `id` is echoed verbatim.
    `wants_reply` is False for a JSON-RPC notification. `timeout` is the caller's deadline in seconds (a number in the
    optional envelope key `timeout`, beside `id`, in the documented and JSON-RPC dialects), or None for the default.
    """

    namespace: str
    name: str
    action: str | None
    id: Any
    args: Any
    wants_reply: bool = True
    timeout: float | None = None


class Frame(msgspec.Struct, frozen=True):
    """A decoded frame: its dialect, and one entry for each request in it. `batch` is True for a JSON-RPC array."""

    dialect: Dialect
    entries: Sequence[Request | WireError]
    batch: bool = False


class Meta(msgspec.Struct, frozen=True, gc=False):
    """What an extended subscriber sees beside `args`: the resume token, the time (Unix seconds) and the node."""

    epoch: str
    seq: int
    time: float
    node: str


class Reply(msgspec.Struct, frozen=True):
    """A success reply, as a client receives it."""

    id: Any
    result: Any
    namespace: str = ""


class ErrorReply(msgspec.Struct, frozen=True):
    """An error reply, as a client receives it: the HTTP-like code, the message, and what else the error carried."""

    id: Any
    code: int
    message: str
    data: Any = None
    namespace: str = ""


class EventMessage(msgspec.Struct, frozen=True):
    """An event, as a client receives it; `meta` for extended subscriptions only. `topic` has underscores."""

    topic: str
    args: Any
    meta: Meta | None = None


Incoming = Reply | ErrorReply | EventMessage


class Dialect(Protocol):
    """One way to write messages. Implementations are stateless; text out is UTF-8 JSON without a newline."""

    name: str

    def reply(self, request: Request, result: Any) -> bytes:
        """The success reply; b"" where the dialect sends none."""
        ...

    def error(self, request: Request | None, error: RpcError) -> bytes:
        """The error reply. Without a request (an unreadable frame), `error` may be a `WireError` that carries an id."""
        ...

    def event(self, topic: str, data: Any, meta: Meta | None = None) -> Sequence[bytes]:
        """The frames of one event: none, one or several. `data` is the topic's canonical payload (wire/topics.py)."""
        ...
