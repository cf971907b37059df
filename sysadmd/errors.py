"""The one exception tree.

::

    SysadmdError
    ├── ConfigError            a configuration file that cannot be used; the command exits 2
    ├── StateError             a state directory that cannot be used (locked, wrong owner, newer schema)
    ├── ExecutorError          the executor cannot be reached, or broke its protocol
    ├── ZfsError               a zpool or zfs query failed
    ├── SealError              a sealed session between a client and a server is over; `code` says why
    └── RpcError               an answer to a request: `code` and `message` go on the wire
        ├── BadRequest             400
        │   └── WireError          400, the frame is not a request at all
        ├── Unauthorized           401
        ├── Forbidden              403
        ├── NotFound               404
        ├── MethodNotAllowed       405
        ├── Conflict               409
        ├── PayloadTooLarge        413
        ├── TooManyRequests        429
        ├── Cancelled              499
        ├── InternalError          500
        ├── Unavailable            503
        └── DeadlineExceeded       504

The codes are those of HTTP (RFC 9110 §15); 499 is the usual one for a request that its own caller withdrew.
"""

from __future__ import annotations

from typing import ClassVar, Literal


class SysadmdError(Exception):
    """Root of everything that sysadmd raises on purpose."""


class ConfigError(SysadmdError):
    """A configuration value that breaks a rule. Its text is one line: file, key, value, rule."""

    def __init__(self, file: str, key: str, value: object, rule: str) -> None:
        self.file, self.key, self.value, self.rule = file, key, value, rule
        where = f"{file}: {key}" if key else file
        super().__init__(f"{where}: {rule}" if value is None else f"{where} = {value!r}: {rule}")


class StateError(SysadmdError):
    """A state directory that cannot be used."""


class ExecutorError(SysadmdError):
    """The executor cannot be reached, or broke its protocol."""


class ZfsError(SysadmdError):
    """A zpool or zfs query failed."""


class SealError(SysadmdError):
    """A sealed session is over.

    `code`: `untrusted` (the server shows another key than the pinned one), `tls` (what came is not what the other end
    sealed), `window` (the other end sent more than it may), `size` (a message or a payload above its limit), `closed`
    (the other end said so, or the session failed before).
    """

    def __init__(self, code: Literal["untrusted", "tls", "window", "size", "closed"], message: str) -> None:
        self.code = code
        super().__init__(message)


class RpcError(SysadmdError):
    """An answer to a request. `path` and `rule` say which value broke which rule, where one did."""

    code: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"

    def __init__(self, message: str | None = None, *, path: str | None = None, rule: str | None = None) -> None:
        self.message = message or self.title
        self.path, self.rule = path, rule
        super().__init__(self.message)


class BadRequest(RpcError):
    """The request breaks a rule; the message names the path and the rule."""

    code, title = 400, "Bad Request"


class WireError(BadRequest):
    """The frame is not a request. `request_id` echoes what could still be read of it."""

    def __init__(self, message: str | None = None, *, request_id: object = None, namespace: str = "") -> None:
        super().__init__(message)
        self.request_id, self.namespace = request_id, namespace


class Unauthorized(RpcError):
    """Nobody is logged in on this connection, or the log-in failed."""

    code, title = 401, "Unauthorized"


class Forbidden(RpcError):
    """The caller is known and may not do this."""

    code, title = 403, "Forbidden"


class NotFound(RpcError):
    """No such namespace, name or object."""

    code, title = 404, "Not Found"


class MethodNotAllowed(RpcError):
    """The HTTP verb is not offered here."""

    code, title = 405, "Method Not Allowed"


class Conflict(RpcError):
    """The request contradicts the present state, such as an id that is in use."""

    code, title = 409, "Conflict"


class PayloadTooLarge(RpcError):
    """A body or value above its limit."""

    code, title = 413, "Content Too Large"


class TooManyRequests(RpcError):
    """A bound of limits.py is reached."""

    code, title = 429, "Too Many Requests"


class Cancelled(RpcError):
    """The caller withdrew the request."""

    code, title = 499, "Client Closed Request"


class InternalError(RpcError):
    """A fault of ours; the details are in the log, not in the answer."""

    code, title = 500, "Internal Server Error"


class Unavailable(RpcError):
    """A part that the request needs is not there now."""

    code, title = 503, "Service Unavailable"


class DeadlineExceeded(RpcError):
    """The request's deadline passed."""

    code, title = 504, "Gateway Timeout"
