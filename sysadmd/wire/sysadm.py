"""The documented dialect: what the protocol's reference shows, letter for letter. The default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sysadmd.errors import RpcError, WireError
from sysadmd.wire.messages import ErrorReply, EventMessage, Incoming, Meta, Reply, Request
from sysadmd.wire.text import describe, encode, kind, parse, refuse
from sysadmd.wire.topics import documented_args

__all__ = ["SYSADM", "ErrorReply", "EventMessage", "Reply", "decode_incoming", "encode_request"]

EVENT_ID = "none"
"""The id of every event but the bridge's, which is empty."""


class _Envelope(msgspec.Struct, gc=False):
    """The keys of a frame, in the order of the reference."""

    namespace: str
    name: str
    id: Any
    args: Any


class _Extended(msgspec.Struct):
    """An event for an extended subscriber."""

    namespace: str
    name: str
    id: str
    args: Any
    epoch: str
    seq: int
    time: float
    node: str


class _BridgeEvent(msgspec.Struct):
    id: str
    namespace: str
    name: str
    args: Any


class SysadmDialect:
    """Frames as the reference shows them."""

    name = "sysadm"

    def reply(self, request: Request, result: Any) -> bytes:
        """``{"namespace": <echo>, "name": "response", "id": <echo>, "args": <result>}``."""
        return encode(_Envelope(request.namespace, "response", request.id, result))

    def error(self, request: Request | None, error: RpcError) -> bytes:
        """``{"namespace": <echo>, "name": "error", "id": <echo>, "args": {"code": 401, "message": ".."}}``."""
        args = {"code": error.code, "message": describe(error)}
        if request is not None:
            return encode(_Envelope(request.namespace, "error", request.id, args))
        namespace = error.namespace if isinstance(error, WireError) else ""
        request_id = error.request_id if isinstance(error, WireError) else None
        return encode(_Envelope(namespace, "error", "" if request_id is None else request_id, args))

    def event(self, topic: str, data: Any, meta: Meta | None = None) -> Sequence[bytes]:
        """One frame for each part of the event; with `meta`, its resume token, time and node beside `args`."""
        return [_event(topic, args, meta) for args in documented_args(topic, data, extended=meta is not None)]


def _event(topic: str, args: Any, meta: Meta | None) -> bytes:
    event_id = "" if topic == "bridge" else EVENT_ID
    if meta is not None:
        return encode(_Extended("events", topic, event_id, args, meta.epoch, meta.seq, meta.time, meta.node))
    if topic == "bridge":
        return encode(_BridgeEvent(event_id, "events", topic, args))
    return encode(_Envelope("events", topic, event_id, args))


SYSADM = SysadmDialect()


def encode_request(request: Request) -> bytes:
    """The frame of a client's request. Its `action` goes into the arguments, which must then be an object or None."""
    args = request.args
    if request.action is not None:
        if args is not None and not isinstance(args, dict):
            raise ValueError(f"{request.name} {request.action}: the arguments are {kind(args)}, not an object")
        args = {"action": request.action, **(args or {})}
    frame = {"namespace": request.namespace, "name": request.name, "id": request.id, "args": args}
    if request.timeout is not None:
        frame["timeout"] = request.timeout
    return encode(frame)


def decode_incoming(text: str | bytes, *, depth: int = 64) -> Incoming:
    """What a server sent: a reply, an error or an event. Raises `WireError` for anything else."""
    frame = parse(text, depth)
    if not isinstance(frame, dict):
        raise refuse(f"expected an object, got {kind(frame)}", "frame", "type")
    namespace, name, args = frame.get("namespace"), frame.get("name"), frame.get("args")
    if not isinstance(namespace, str) or not isinstance(name, str):
        raise refuse("namespace and name must be strings", "frame", "type")
    if name == "response":
        return Reply(frame.get("id"), args, namespace)
    if name == "error":
        return _error_reply(frame.get("id"), args, namespace)
    if namespace == "events":
        return EventMessage(name.replace("-", "_"), args, _meta(frame))
    raise refuse(f"{namespace[:64]}/{name[:64]} is no reply and no event", "frame", "name")


def _error_reply(request_id: Any, args: Any, namespace: str) -> ErrorReply:
    fields = args if isinstance(args, dict) else {}
    try:
        code = int(fields.get("code", 500))
    except (TypeError, ValueError):
        code = 500
    message = fields.get("message")
    rest = {key: value for key, value in fields.items() if key not in ("code", "message")}
    return ErrorReply(request_id, code, message if isinstance(message, str) else "", rest or None, namespace)


def _meta(frame: dict[str, Any]) -> Meta | None:
    if "seq" not in frame:
        return None
    try:
        return msgspec.convert(frame, Meta)
    except msgspec.ValidationError as error:
        raise refuse(str(error), "frame", "type") from None
