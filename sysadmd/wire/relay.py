"""Frames on a bridge: what peers and the bridge say to each other, and what the bridge relays.

A frame that begins with `{` is between a peer and the bridge. Every other one is relayed: the id of the other end, a
newline, and a payload that the bridge hands on byte for byte (spec sysadm §6.4). There are three kinds of payload
between a client and a server::

    {"args":…}           plain JSON
    eyJhcmdzIjo…         base64 of JSON: how the original programs go on after a log-in, readable by the bridge
    ~… ^… !…             a sealed session: TLS bytes, credit, and its end (sysadmd.keys.seal)
"""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Literal

from sysadmd.wire.text import malformed

IDENTIFY_ID = "sysadm_bridge_request_ident"
"""The id of the bridge's question who a peer is."""
KEYS_ID = "bridge_request_list_keys"
"""The id of its question which keys a peer knows."""
LOGIN_ID = "server_to_bridge_auth"
"""The id of a server's log-in at a bridge, by which the original server knows the answers."""
ASK_IDENTITY = b'{"args":"","id":"sysadm_bridge_request_ident","name":"identify","namespace":"rpc"}'
ASK_KEYS = (
    b'{"args":{"action":"list_ssl_checksums"},"id":"bridge_request_list_keys","name":"settings","namespace":"rpc"}'
)
MAX_HEADER = 64
"""Bytes before the newline: an id has 40."""
REASON_BYTES = 123
"""Bytes of a reason, as in a WebSocket close frame (RFC 6455 §5.5)."""

Sealed = tuple[Literal["data"], bytes] | tuple[Literal["credit"], int] | tuple[Literal["close"], str]


def connection_id() -> str:
    """A new id of a connection: two colons and a UUID in braces."""
    return f"::{{{uuid.uuid4()}}}"


def split(frame: bytes) -> tuple[bytes, bytes] | None:
    """Header and payload; None where no newline ends a header of at most 64 bytes."""
    end = frame.find(b"\n", 0, MAX_HEADER + 1)
    return None if end < 0 else (frame[:end], frame[end + 1 :])


def relayed(peer: str, payload: bytes) -> bytes:
    """The frame that goes to `peer`, or that comes from it."""
    return b"%b\n%b" % (peer.encode("ascii"), payload)


def wrapped(message: bytes) -> bytes:
    """A message in base64: standard alphabet, padded, one line."""
    return base64.b64encode(message)


def unwrapped(payload: bytes) -> bytes:
    """The message in a payload of the original programs, plain or in base64. Raises WireError."""
    if payload.startswith(b"{"):
        return payload
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error:
        raise malformed("neither JSON nor base64", "base64") from None


def is_sealed(payload: bytes) -> bool:
    """Whether a payload belongs to a sealed session."""
    return payload[:1] in (b"~", b"^", b"!")


def sealed_data(tls: bytes) -> bytes:
    """A payload that carries bytes of TLS."""
    return b"~" + binascii.b2a_base64(tls, newline=False)


def sealed_credit(size: int) -> bytes:
    """A payload that says how many bytes of TLS were consumed."""
    return b"^%d" % size


def sealed_close(reason: str) -> bytes:
    """A payload that ends a sealed session; of the reason as much as 123 bytes hold."""
    return b"!" + reason.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore").encode()


def parse_sealed(payload: bytes) -> Sealed:
    """What a payload of a sealed session says. Raises WireError."""
    kind, rest = payload[:1], payload[1:]
    if kind == b"~":
        try:
            return "data", binascii.a2b_base64(rest, strict_mode=True)
        except binascii.Error:
            raise malformed("sealed bytes that are not base64", "base64") from None
    if kind == b"^":
        if not rest.isdigit() or len(rest) > 9:
            raise malformed("a credit that is no number", "credit")
        return "credit", int(rest)
    if kind == b"!":
        return "close", rest[:REASON_BYTES].decode("utf-8", "replace")
    raise malformed("not of a sealed session", "sealed")
