"""JSON text in and out, by msgspec.

Depth. A frame nested too deeply is refused before anything is built of it. Counting brackets settles most frames: fewer
opening brackets than the limit cannot nest deeper. For the others the text is reduced to its brackets outside of
strings, and each round of deleting the innermost pairs takes one level away; every step runs at C speed, where a loop
over the characters in Python would hold up the server for a tenth of a second for each MiB.

What is accepted: of a repeated key the last value counts; integers of up to 4,300 digits are exact. A number that no
double can hold, NaN, and a lone surrogate are refused.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sysadmd.errors import RpcError, WireError

# A string, or what is left of one: every quote begins a match, and nothing is tried twice, so the time is linear.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_KINDS = {str: "a string", dict: "an object", list: "an array", bool: "a boolean", type(None): "null"}
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_SQUARE = bytes.maketrans(b"{}", b"[]")

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def unicode_text(text: str | bytes) -> str:
    """The text of a frame; a binary frame is read as UTF-8 (spec sysadm §1.3). Raises `WireError`."""
    if isinstance(text, str):
        return text
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"the frame is not UTF-8: byte {error.start}", "utf-8") from None


def check_depth(text: str, limit: int) -> None:
    """Raise `WireError` when `text` nests deeper than `limit` arrays and objects."""
    if text.count("{") + text.count("[") > limit and _is_deeper(text, limit):
        raise too_deep(limit)


def _is_deeper(text: str, limit: int) -> bool:
    brackets = _STRING.sub(b"", text.encode("utf-8", "surrogatepass")).translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(limit):
        inside = brackets.replace(b"[]", b"")
        if len(inside) == len(brackets):
            break
        brackets = inside
    # What is left after `limit` rounds is deeper, or was never balanced: the parser tells the latter better.
    return brackets.count(b"[") > limit if brackets.count(b"[") != brackets.count(b"]") else bool(brackets)


def parse(text: str | bytes, depth: int) -> Any:
    """Any JSON value. Raises `WireError` that says what is wrong and where."""
    content = unicode_text(text)
    check_depth(content, depth)
    try:
        return _decode(content)
    except RecursionError:
        raise too_deep(depth) from None
    except UnicodeEncodeError:
        raise malformed("the frame holds a lone surrogate", "utf-8") from None
    except msgspec.DecodeError as error:
        raise malformed(_sentence(str(error))) from None


def encode(value: Any) -> bytes:
    """JSON of a value, UTF-8, compact. A lone surrogate (from a file name, say) becomes `?` instead of an error."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(_without_surrogates(msgspec.to_builtins(value)))


def malformed(message: str, rule: str = "json") -> WireError:
    """A frame that cannot be read."""
    error = WireError(message)
    error.rule = rule
    return error


def too_deep(limit: int) -> WireError:
    """A frame nested beyond the limit."""
    return malformed(f"the frame nests deeper than {limit} levels", "depth")


def refuse(message: str, path: str, rule: str, *, request_id: object = None, namespace: str = "") -> WireError:
    """A frame that can be read and is no request."""
    error = WireError(f"{path}: {message}", request_id=request_id, namespace=namespace)
    error.path, error.rule = path, rule
    return error


def describe(error: RpcError) -> str:
    """The message of an error, with the path in front where it does not name it, and the rule where it has no words."""
    message = error.message
    if error.rule and message == error.title:
        message = f"{message} ({error.rule})"
    return message if not error.path or error.path in message else f"{error.path}: {message}"


def kind(value: Any) -> str:
    """What a JSON value is, in an error message."""
    return _KINDS.get(type(value), "a number")


def _sentence(text: str) -> str:
    if text == "Input data was truncated":
        return "malformed JSON: the text ends too early"
    return text.replace("JSON is malformed", "malformed JSON") if "malformed" in text else f"malformed JSON: {text}"


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value
