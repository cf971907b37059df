"""What can go wrong for a client.

::

    ClientError
    ├── BadAddress            a server address that cannot be used; nothing was sent
    ├── ConnectFailed         nobody answers there, or not with our protocol
    │   └── Untrusted         the server's certificate is not trusted; `fingerprint` is its SHA-256
    ├── AuthFailed            the server refused the log-in
    ├── ConnectionLost        an open connection ended; whether a call in flight was carried out is unknown
    ├── PinError              the file of known servers cannot be used, or has another key for a server
    ├── CallTimeout           no reply within the caller's deadline; the call was withdrawn
    └── RemoteError           an error reply: `code`, `message`, `data`

The command line maps them to its exit codes, so a new kind of failure gets a class here, not a text.
"""

from __future__ import annotations

from typing import Any

from sysadmd.errors import SysadmdError


class ClientError(SysadmdError):
    """Root of what the client raises."""


class BadAddress(ClientError):
    """A server address that cannot be used."""


class ConnectFailed(ClientError):
    """No connection could be made."""


class Untrusted(ConnectFailed):
    """The server's certificate is not trusted. `fingerprint` is `SHA256:AA:BB:…` of it, or None when it could not be
    read.
    """

    def __init__(self, message: str, fingerprint: str | None) -> None:
        self.fingerprint = fingerprint
        super().__init__(message)


class AuthFailed(ClientError):
    """The server refused the log-in."""


class ConnectionLost(ClientError):
    """An open connection ended."""


class PinError(ClientError):
    """The file of known servers (pins.py) cannot be used, or what is to be pinned contradicts it."""


class CallTimeout(ClientError):
    """No reply within the caller's deadline."""


class RemoteError(ClientError):
    """An error reply. `data` is what the reply's args hold besides code and message, or None."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        self.code, self.message, self.data = code, message, data
        super().__init__(f"{message} ({code})")
