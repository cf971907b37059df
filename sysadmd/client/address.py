"""Server addresses: `wss://host[:port]`, `ws://host[:port]`, `unix:///path`, `bridge://host[:port]/peer`.

A server behind a bridge is named by what stands after the bridge's host: its host name, the nick under which the bridge
knows its key, or the id of its connection. What cannot stand in an address is percent-encoded.

An address holds no secret: user names, passwords and query strings are refused, because addresses end up in shell
histories, process lists and logs.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit

from sysadmd.client.errors import BadAddress

DEFAULT_PORT = 12150
BRIDGE_PORT = 12149
MAX_PEER = 256
"""Characters of a peer's name: a host name has at most 253."""
FORMS = "wss://HOST[:PORT], ws://HOST[:PORT], unix:///PATH or bridge://HOST[:PORT]/PEER"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. `path` is the socket of a `unix` address, the resource of the others.

    Host and port of a `bridge` address are the bridge's; `peer` is the server behind it, "" in its own address.
    """

    scheme: str
    host: str
    port: int
    path: str
    peer: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.scheme == "bridge":
            return f"bridge://{host}:{self.port}{'/' if self.peer else ''}{quote(self.peer, safe=':{}')}"
        return f"{self.scheme}://{host}:{self.port}{'' if self.path == '/' else self.path}"

    @property
    def encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return self.scheme in ("wss", "bridge")

    @property
    def private(self) -> bool:
        """Whether nobody on a network can read what is sent: TLS, a Unix socket, or this machine's loopback.

        Through a bridge it is private as long as the session is sealed: the transport refuses any other, unless it is
        made `insecure`.
        """
        return self.scheme in ("wss", "unix", "bridge") or _is_loopback(self.host)

    @property
    def bridge(self) -> Address:
        """The bridge of a `bridge` address, without the server behind it."""
        return replace(self, peer="")


def parse_address(text: str) -> Address:
    """The address in `text`; `BadAddress` says what is wrong with it."""
    scheme, found, _ = text.partition("://")
    if not found:
        raise BadAddress(f"server address {text!r} has no scheme; expected {FORMS}")
    if scheme.lower() == "unix":
        return _parse_unix(text)
    if scheme.lower() not in ("ws", "wss", "bridge"):
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
    if parts.scheme == "bridge":
        return Address("bridge", parts.hostname, BRIDGE_PORT if port is None else port, "/", _peer(parts.path))
    return Address(parts.scheme, parts.hostname, DEFAULT_PORT if port is None else port, parts.path or "/")


def _parse_unix(text: str) -> Address:
    path = unquote(text[len("unix://") :])
    if not path.startswith("/") or path == "/":
        raise BadAddress(f"server address {text!r}: expected unix:///PATH with an absolute path")
    if "\0" in path:
        raise BadAddress("server address: a path holds no NUL")
    return Address("unix", "localhost", 0, path)


def _peer(path: str) -> str:
    text = path.removeprefix("/")
    if "/" in text:
        raise BadAddress("a bridge address names one peer; a slash in its name is written %2F")
    try:
        peer = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadAddress("the peer of a bridge address is not UTF-8") from None
    if len(peer) > MAX_PEER or not peer.isprintable():
        raise BadAddress(f"the peer of a bridge address has at most {MAX_PEER} printable characters")
    return peer


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
