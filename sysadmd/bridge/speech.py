"""The frames between a bridge and a peer, in both dialects: text to what was said, and what to say to text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from sysadmd.errors import RpcError, WireError
from sysadmd.wire.relay import MAX_HEADER
from sysadmd.wire.text import describe, encode, kind, parse, refuse

KEYS = frozenset({"namespace", "name", "id", "args"})


class Said(msgspec.Struct, frozen=True):
    """One frame of a peer to the bridge. `namespace` and `name` are as they came."""

    namespace: str
    name: str
    id: Any
    args: Any


class _Sorted(msgspec.Struct):
    """The keys of a frame in the originals' order, which is also that of the bridge's own questions."""

    args: Any
    id: Any
    name: str
    namespace: str


class _Documented(msgspec.Struct):
    namespace: str
    name: str
    id: Any
    args: Any


class _Event(msgspec.Struct):
    """The bridge's event as the reference writes it."""

    id: str
    namespace: str
    name: str
    args: Any


def read(payload: bytes, depth: int) -> Said:
    """What a peer of the documented dialect says; `id` and `args` may be missing. Raises WireError."""
    frame = parse(payload, depth)
    if not isinstance(frame, dict):
        raise refuse(f"expected an object, got {kind(frame)}", "frame", "type")
    namespace, name, found = frame.get("namespace"), frame.get("name"), frame.get("id", "")
    for key, value in (("namespace", namespace), ("name", name)):
        if not isinstance(value, str) or not value:
            echo = namespace if isinstance(namespace, str) else ""
            raise refuse("a string is required", key, "required", request_id=found, namespace=echo)
    return Said(str(namespace), str(name), found, frame.get("args", {}))


def read_classic(payload: bytes, depth: int) -> Said | None:
    """What an original says; None for what it would leave unanswered: no object, or one of the four keys is missing."""
    try:
        frame = parse(payload, depth)
    except WireError:
        return None
    if not isinstance(frame, dict) or not frame.keys() >= KEYS:
        return None
    namespace, name = frame["namespace"], frame["name"]
    if not isinstance(namespace, str) or not isinstance(name, str):
        return None
    return Said(namespace, name, frame["id"], frame["args"])


def answer(said: Said, args: Any, *, classic: bool) -> bytes:
    """A reply."""
    if classic:
        return encode(_Sorted(args, said.id, "response", said.namespace))
    return encode(_Documented(said.namespace, "response", said.id, args))


def login_refused(id: Any, error: RpcError, *, classic: bool) -> bytes:
    """The reply to a log-in that failed; the originals give no reason (spec sysadm §6.2)."""
    if classic:
        return encode(_Sorted("unauthorized", id, "error", "rpc"))
    return encode(_Documented("rpc", "error", id, _fault(error)))


def unauthorized(said: Said) -> bytes:
    """What an original gets for anything else before its log-in (spec sysadm §6.3)."""
    return encode(_Sorted(None, said.id, "error", said.namespace))


def failed(error: RpcError, id: Any = "", namespace: str = "rpc") -> bytes:
    """A documented error."""
    return encode(_Documented(namespace, "error", id, _fault(error)))


def undelivered(error: RpcError, header: bytes) -> bytes:
    """A documented error about a relayed frame, with what it was addressed to."""
    connection = header[: MAX_HEADER + 1].decode("utf-8", "replace")[:MAX_HEADER]
    return encode(_Documented("rpc", "error", "", {**_fault(error), "connection": connection}))


def announcement(
    ids: Iterable[str], connections: Mapping[str, Mapping[str, str]] | None = None, *, classic: bool
) -> bytes:
    """The bridge event: whom a peer can reach, and what is known of them where it asked for that."""
    args: dict[str, Any] = {"available_connections": list(ids)}
    if connections is not None:
        args["connections"] = connections
    if classic:
        return encode(_Sorted(args, "", "bridge", "events"))
    return encode(_Event("", "events", "bridge", args))


def _fault(error: RpcError) -> dict[str, Any]:
    return {"code": error.code, "message": describe(error)}
