"""The peers that a bridge announces, and which of them somebody means.

What a bridge says of a peer is a hint for finding it and no more: that it is the right one is proven by the key of its
sealed session.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sysadmd.errors import WireError
from sysadmd.wire.messages import Request
from sysadmd.wire.sysadm import encode_request
from sysadmd.wire.text import parse

PROBE_ID = "sysadmd-client-identify"
PROBE = encode_request(Request("rpc", "identify", None, PROBE_ID, {"seal": 1}))
"""Asks a server who it is, and for the key of its sealed sessions. An original server answers the first half."""
SEAL_VERSION = "1"
SHOWN = 8
"""Peers that an error text names."""
DEPTH = 32
NAME_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Peer:
    """One connection of the other side to the bridge; "" is what nobody told. `key` is the fingerprint of the key by
    which the bridge knows it.
    """

    id: str
    hostname: str = ""
    nick: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server answers to `PROBE`. `seal` is the fingerprint of its sealing key; None where it cannot seal."""

    hostname: str
    seal: str | None


def announced(args: Any) -> dict[str, Peer]:
    """The peers of a bridge event, by id. The names of a peer come from bridges of sysadmd only."""
    listed = args.get("available_connections") if isinstance(args, dict) else None
    told = args.get("connections") if isinstance(args, dict) else None
    details = told if isinstance(told, dict) else {}
    ids = [peer for peer in listed if isinstance(peer, str)] if isinstance(listed, list) else []
    return {peer: _peer(peer, details.get(peer)) for peer in ids if peer.isascii()}


def identity_in(payload: bytes) -> Identity | None:
    """The answer to `PROBE` in a relayed payload; None when it is something else."""
    if not payload.startswith(b"{"):
        return None
    try:
        frame = parse(payload, DEPTH)
    except WireError:
        return None
    args = frame.get("args")
    if (frame.get("name"), frame.get("id")) != ("response", PROBE_ID) or not isinstance(args, dict):
        return None
    seal, key = args.get("seal"), None
    if isinstance(seal, dict) and str(seal.get("version")) == SEAL_VERSION:
        key = _text(seal, "key").lower() or None
    return Identity(_text(args, "hostname"), key)


def chosen(peers: Iterable[Peer], wanted: str) -> list[Peer]:
    """The peers that `wanted` names: by id; else by host name, whole or up to its first dot; else by nick."""
    every, name = list(peers), wanted.casefold()
    for matches in (
        [peer for peer in every if peer.id == wanted],
        [peer for peer in every if peer.hostname.casefold() == name],
        [peer for peer in every if peer.hostname.casefold().partition(".")[0] == name],
        [peer for peer in every if peer.nick == wanted],
    ):
        if matches:
            return matches
    return []


def is_id(wanted: str) -> bool:
    """Whether the text is the id of a connection, not a name."""
    return wanted.startswith("::{") and wanted.endswith("}")


def shown(peers: Iterable[Peer]) -> str:
    """The peers in an error text, the first few of them."""
    every = sorted(peers, key=lambda peer: (peer.hostname, peer.nick, peer.id))
    texts = [f"{peer.hostname or peer.nick or 'unknown'} ({peer.id})" for peer in every[:SHOWN]]
    more = len(every) - len(texts)
    return ", ".join([*texts, *([f"{more} more"] if more else [])])


def _peer(peer_id: str, details: Any) -> Peer:
    if not isinstance(details, dict):
        return Peer(peer_id)
    return Peer(peer_id, _text(details, "hostname"), _text(details, "nick"), _text(details, "key"))


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    return value[:NAME_LENGTH] if isinstance(value, str) else ""
