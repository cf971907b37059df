"""Reading what a client sends.

The dialect is a property of the frame, not of the connection: JSON-RPC 2.0 says so in every object, and only it has
arrays; anything else is documented, or classic where the listener says that the peer is an original program.

A plain request costs one pass of a typed decoder. Whatever else comes is parsed again into plain objects, to be read
leniently or to say what is wrong with it: that may be slower, since nobody sends much of it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sysadmd.errors import WireError
from sysadmd.wire.classic import CLASSIC, accepted
from sysadmd.wire.jsonrpc import JSONRPC, VERSION, deadline, refuse_timeout, request_from, request_of
from sysadmd.wire.messages import Dialect, Frame, Request
from sysadmd.wire.sysadm import SYSADM
from sysadmd.wire.text import check_depth, encode, kind, parse_checked, refuse, unicode_text

BATCH = 128
"""Requests in one batch: more than a connection may have in flight and queued. Each entry of a batch is answered, so
that one MiB of `1,1,1` would otherwise cause fifty MiB of errors."""

_OWN = ("namespace", "name", "id")
"""What is not an argument where a request has no `args`; the originals then take the whole object (spec §2.1)."""


class _Any(msgspec.Struct, gc=False):
    """The keys of both kinds of request, in one pass over the text."""

    namespace: str = ""
    name: str = ""
    id: Any = msgspec.UNSET
    args: Any = msgspec.UNSET
    timeout: Any = None
    jsonrpc: Any = None
    method: Any = None
    params: Any = msgspec.UNSET


_decode_any = msgspec.json.Decoder(_Any).decode


def decode(text: str | bytes, *, classic: bool, depth: int = 32, batch: int = BATCH) -> Frame:
    """Read one frame. Bad input never raises: each entry of the frame is a `Request` or a `WireError`.

    `classic` says how to read a frame that is not JSON-RPC; `depth` and `batch` bound the nesting and the requests.
    """
    try:
        content = unicode_text(text)
        check_depth(content, depth)
    except WireError as error:
        return _unreadable(text, error, classic=classic)
    try:
        found = _decode_any(content)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return _slow(content, classic=classic, depth=depth, batch=batch)
    if found.jsonrpc == VERSION:
        return Frame(JSONRPC, (request_from(VERSION, found.method, found.params, found.id, found.timeout),))
    if not found.namespace or not found.name or found.args is msgspec.UNSET:
        return _slow(content, classic=classic, depth=depth, batch=batch)
    return _plain(found, classic=classic)


def _plain(found: _Any, *, classic: bool) -> Frame:
    args, action = found.args, None
    if type(args) is dict and type(args.get("action")) is str:
        action = args.pop("action")
    request_id = "" if found.id is msgspec.UNSET else found.id
    if classic:
        return Frame(CLASSIC, (accepted(Request(found.namespace, found.name, action, request_id, args)),))
    timeout = None if found.timeout is None else deadline(found.timeout)
    if timeout is not None and timeout <= 0:
        return Frame(SYSADM, (refuse_timeout(request_id, found.namespace),))
    return Frame(SYSADM, (Request(found.namespace, found.name, action, request_id, args, True, timeout),))


def _slow(text: str, *, classic: bool, depth: int, batch: int) -> Frame:
    """A frame that is not a plain request: an array, arguments beside the other keys, or something that is wrong."""
    plain: Dialect = CLASSIC if classic else SYSADM
    try:
        frame = parse_checked(text)
    except WireError as error:
        return _unreadable(text, error, classic=classic)
    if isinstance(frame, list):
        return _batch(frame, batch)
    if not isinstance(frame, dict):
        return Frame(plain, (refuse(f"expected an object, got {kind(frame)}", "frame", "type"),))
    if "jsonrpc" in frame and (frame["jsonrpc"] == VERSION or "namespace" not in frame):
        return Frame(JSONRPC, (request_of(frame),))
    fault = _fault(frame)
    if fault is not None:
        return Frame(plain, (fault,))
    if "args" not in frame:
        frame = {**{key: frame.pop(key) for key in _OWN if key in frame}, "args": frame}
        if not classic and deadline(frame["args"].get("timeout")) is not None:
            frame["timeout"] = frame["args"].pop("timeout")
    return decode(encode(frame), classic=classic, depth=depth + 1)


def _fault(frame: dict[str, Any]) -> WireError | None:
    """Why an object is no request of the two plain dialects."""
    namespace = frame.get("namespace")
    echo = namespace if isinstance(namespace, str) else ""
    for key in ("namespace", "name"):
        value = frame.get(key)
        if isinstance(value, str) and value:
            continue
        if key not in frame:
            text, rule = "a string is required", "required"
        elif value == "":
            text, rule = "must not be empty", "minLength"
        else:
            text, rule = f"expected a string, got {kind(value)}", "type"
        return refuse(text, key, rule, request_id=frame.get("id", ""), namespace=echo)
    return None


def _batch(frame: list[Any], limit: int) -> Frame:
    if not frame:
        return Frame(JSONRPC, (refuse("an empty batch", "frame", "minItems"),))
    if len(frame) > limit:
        text = f"a batch of {len(frame)} requests, the maximum is {limit}"
        return Frame(JSONRPC, (refuse(text, "frame", "maxItems"),))
    return Frame(JSONRPC, [_batched(item) for item in frame], True)


def _batched(item: Any) -> Request | WireError:
    if isinstance(item, dict):
        return request_of(item)
    return refuse(f"expected an object, got {kind(item)}", "frame", "type")


def _unreadable(text: str | bytes, error: WireError, *, classic: bool) -> Frame:
    """An error in the dialect that the text seems to be: an array is JSON-RPC, and so is what names it."""
    content = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    if content[:64].lstrip().startswith(b"[") or b'"jsonrpc"' in content:
        return Frame(JSONRPC, (error,))
    return Frame(CLASSIC if classic else SYSADM, (error,))
