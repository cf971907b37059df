"""Server addresses: `wss://host[:port]`, `ws://host[:port]`, `unix:///path`.

An address holds no secret: user names, passwords and query strings are refused, because addresses end up in shell
histories, process lists and logs.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from sysadmd.client.errors import BadAddress

DEFAULT_PORT = 12150
FORMS = "wss://HOST[:PORT], ws://HOST[:PORT] or unix:///PATH"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. `path` is the socket of a `unix` address, the resource of the others."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{'' if self.path == '/' else self.path}"

    @property
    def encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return self.scheme == "wss"

    @property
    def private(self) -> bool:
        """Whether nobody on a network can read what is sent: TLS, a Unix socket, or this machine's loopback."""
        return self.scheme in ("wss", "unix") or _is_loopback(self.host)


def parse_address(text: str) -> Address:
    """The address in `text`; `BadAddress` says what is wrong with it."""
    scheme, found, _ = text.partition("://")
    if not found:
        raise BadAddress(f"server address {text!r} has no scheme; expected {FORMS}")
    if scheme.lower() == "unix":
        return _parse_unix(text)
    if scheme.lower() not in ("ws", "wss"):
        raise BadAddress(f"server address of scheme {scheme!r}; expected {FORMS}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"server address {text!r}: {error}") from error
    if "@" in parts.netloc:
        raise BadAddress("a server address holds no user and no password; give them on their own")
    if parts.query or parts.fragment:
        raise BadAddress("a server address has no query and no fragment")
    if not parts.hostname:
        raise BadAddress(f"server address {text!r} has no host; expected {FORMS}")
    return Address(parts.scheme, parts.hostname, DEFAULT_PORT if port is None else port, parts.path or "/")


def _parse_unix(text: str) -> Address:
    path = unquote(text[len("unix://") :])
    if not path.startswith("/") or path == "/":
        raise BadAddress(f"server address {text!r}: expected unix:///PATH with an absolute path")
    if "\0" in path:
        raise BadAddress("server address: a path holds no NUL")
    return Address("unix", "localhost", 0, path)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
