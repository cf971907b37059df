"""JSON-RPC 2.0 (jsonrpc.org/specification): the dialect of every frame that says so, and of every array.

The method is ``namespace/name`` or ``namespace/name/action``; ``rpc.discover``, the name that OpenRPC reserves, means
`rpc/discover`. Parameters by position reach the handler as a list. Events are notifications of the method
``events/<topic>``.

An error's `data` has our own `code` (that of HTTP), and `path` and `rule` where a value broke one. Its JSON-RPC code:

====== ==================================================
-32700 the text is not JSON
-32600 it is JSON, and no request
-32601 there is no such method, or no such action of it
-32602 the parameters break a rule
-32603 a fault of the server
-320xx anything else, see `SERVER_ERRORS`
====== ==================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sysadmd.errors import RpcError, WireError
from sysadmd.wire.messages import ErrorReply, EventMessage, Incoming, Meta, Reply, Request
from sysadmd.wire.text import describe, encode, kind, parse, refuse
from sysadmd.wire.topics import documented_args

VERSION = "2.0"
DISCOVER = "rpc.discover"
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603

SERVER_ERRORS = {
    401: -32001,
    403: -32003,
    404: -32004,
    405: -32005,
    409: -32009,
    413: -32013,
    429: -32029,
    499: -32099,
    503: -32053,
    504: -32054,
}
"""Our codes in the range that JSON-RPC leaves to servers: -32000 less the last two digits, 5xx shifted by 50."""

_ADDRESS = frozenset({None, "method", "namespace", "name"})
"""Paths of a 404 that speaks of the method, and not of an object that the parameters name."""


class _Result(msgspec.Struct, gc=False):
    jsonrpc: str
    result: Any
    id: Any


class _Error(msgspec.Struct):
    jsonrpc: str
    error: Any
    id: Any


class _Notification(msgspec.Struct):
    jsonrpc: str
    method: str
    params: Any


class JsonRpcDialect:
    """JSON-RPC 2.0 objects. Notifications are never answered."""

    name = "jsonrpc"

    def reply(self, request: Request, result: Any) -> bytes:
        """``{"jsonrpc": "2.0", "result": .., "id": ..}``; b"" for a notification."""
        return encode(_Result(VERSION, result, request.id)) if request.wants_reply else b""

    def error(self, request: Request | None, error: RpcError) -> bytes:
        """``{"jsonrpc": "2.0", "error": {"code", "message", "data": {"code", "path"?, "rule"?}}, "id": ..}``."""
        if request is not None and not request.wants_reply:
            return b""
        data: dict[str, Any] = {"code": error.code}
        if error.path:
            data["path"] = error.path
        if error.rule:
            data["rule"] = error.rule
        body = {"code": error_code(error), "message": describe(error), "data": data}
        if request is not None:
            return encode(_Error(VERSION, body, request.id))
        return encode(_Error(VERSION, body, error.request_id if isinstance(error, WireError) else None))

    def event(self, topic: str, data: Any, meta: Meta | None = None) -> Sequence[bytes]:
        """One notification for each part of the event: ``{"args"}``, with `meta` also ``epoch, seq, time, node``."""
        beside = {} if meta is None else msgspec.structs.asdict(meta)
        parts = documented_args(topic, data, extended=meta is not None)
        return [encode(_Notification(VERSION, f"events/{topic}", {"args": args, **beside})) for args in parts]


JSONRPC = JsonRpcDialect()


def error_code(error: RpcError) -> int:
    """The JSON-RPC code of an error."""
    if isinstance(error, WireError):
        return PARSE_ERROR if error.rule in ("json", "utf-8") else INVALID_REQUEST
    if error.code == 400:
        return METHOD_NOT_FOUND if error.path in ("action", "args.action", "name") else INVALID_PARAMS
    if error.code == 404 and error.path in _ADDRESS:
        return METHOD_NOT_FOUND
    return SERVER_ERRORS.get(error.code, INTERNAL_ERROR)


def request_of(frame: dict[str, Any]) -> Request | WireError:
    """One request object of an already parsed frame or batch."""
    params, request_id = frame.get("params", msgspec.UNSET), frame.get("id", msgspec.UNSET)
    return request_from(frame.get("jsonrpc"), frame.get("method"), params, request_id, frame.get("timeout"))


def request_from(version: Any, method: Any, params: Any, request_id: Any, timeout: Any) -> Request | WireError:
    """A request from the members of its object; `UNSET` for those that are absent."""
    wants_reply = request_id is not msgspec.UNSET
    known = request_id if wants_reply else None
    if isinstance(known, (bool, dict, list)):
        return refuse(f"{kind(known)} is no string, number or null", "id", "type")
    if version != VERSION:
        return refuse(f'expected "{VERSION}"', "jsonrpc", "const", request_id=known)
    if not isinstance(method, str) or not method:
        return refuse("expected a string that is not empty", "method", "type", request_id=known)
    if params is msgspec.UNSET:
        params = {}
    elif not isinstance(params, (dict, list)):
        return refuse(f"{kind(params)} is no object or array", "params", "type", request_id=known)
    seconds = deadline(timeout)
    if seconds is not None and seconds <= 0:
        return refuse_timeout(known)
    namespace, _, rest = ("rpc/discover" if method == DISCOVER else method).partition("/")
    name, _, action = rest.partition("/")
    return Request(namespace, name, action or None, known, params, wants_reply, seconds)


def refuse_timeout(request_id: Any, namespace: str = "") -> WireError:
    """A deadline that is over before the call begins."""
    text = "must be greater than 0"
    return refuse(text, "timeout", "exclusiveMinimum", request_id=request_id, namespace=namespace)


def deadline(timeout: Any) -> float | None:
    """The seconds of an envelope's `timeout`, at most 31 years, 0 for any that is over; None when it is no number."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        return None
    return float(min(timeout, 1e9)) if timeout > 0 else 0.0


def join_batch(frames: Sequence[bytes]) -> bytes:
    """The answers to a batch as one array; b"" when there is none, as for a batch of notifications (§6)."""
    answers = [frame for frame in frames if frame]
    return b"[" + b",".join(answers) + b"]" if answers else b""


def encode_request(request: Request) -> bytes:
    """The frame of a client's request; a notification when it wants no reply."""
    method = "/".join(filter(None, (request.namespace, request.name, request.action)))
    frame: dict[str, Any] = {"jsonrpc": VERSION, "method": method}
    if request.args is not None:
        frame["params"] = request.args
    if request.wants_reply:
        frame["id"] = request.id
    if request.timeout is not None:
        frame["timeout"] = request.timeout
    return encode(frame)


def decode_incoming(text: str | bytes, *, depth: int = 64) -> Incoming:
    """What a server sent: a result, an error or an event. Raises `WireError` for anything else."""
    frame = parse(text, depth)
    if not isinstance(frame, dict) or frame.get("jsonrpc") != VERSION:
        raise refuse("expected an object of JSON-RPC 2.0", "frame", "type")
    error, params, method = frame.get("error"), frame.get("params"), frame.get("method")
    if "result" in frame:
        return Reply(frame.get("id"), frame["result"])
    if isinstance(error, dict):
        return _error_reply(frame.get("id"), error)
    if isinstance(method, str) and method.startswith("events/") and isinstance(params, dict) and "args" in params:
        topic = method.removeprefix("events/")
        meta = Meta(params["epoch"], params["seq"], params["time"], params["node"]) if _has_meta(params) else None
        return EventMessage(topic, params["args"], meta)
    raise refuse("no result, no error and no event", "frame", "type")


def _error_reply(request_id: Any, error: dict[str, Any]) -> ErrorReply:
    data = error.get("data")
    code = data.get("code") if isinstance(data, dict) else None
    if not isinstance(code, int):
        code = error["code"] if isinstance(error.get("code"), int) else 500
    return ErrorReply(request_id, code, str(error.get("message", "")), data)


def _has_meta(params: dict[str, Any]) -> bool:
    epoch, seq, time, node = (params.get(key) for key in ("epoch", "seq", "time", "node"))
    return isinstance(epoch, str) and isinstance(seq, int) and isinstance(time, (int, float)) and isinstance(node, str)
