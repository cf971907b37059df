"""JSON text in and out, by msgspec.

Depth. A frame nested too deeply is refused before anything is built of it. Counting brackets settles most frames: fewer
opening brackets than the limit cannot nest deeper. For the others the text is reduced to its brackets outside of
strings, and these to steps of +1 and -1, whose running sum is the depth: a MiB of brackets takes 30 ms and every other
text less, where a loop over the characters in Python would take a tenth of a second. (The parser's own guard is no
substitute: it sits at a thousand levels, and whatever handles the value later recurses too.)

What is accepted: of a repeated key the last value counts; integers of up to 4,300 digits are exact. A number that no
double can hold, NaN, and a lone surrogate are refused.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any

import msgspec

from sysadmd.errors import RpcError, WireError

# A string, or what is left of one: every quote begins a match, and nothing is tried twice, so the time is linear.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_KINDS = {str: "a string", dict: "an object", list: "an array", bool: "a boolean", type(None): "null"}
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_CHUNK = 4096

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
        raise malformed(f"the frame nests deeper than {limit} levels", "depth")


def _is_deeper(text: str, limit: int) -> bool:
    brackets = _STRING.sub(b"", text.encode("utf-8", "surrogatepass")).translate(_STEPS, _NOT_BRACKETS)
    steps, level = memoryview(brackets).cast("b"), 0
    for start in range(0, len(steps), _CHUNK):
        # In chunks, so that a text that only opens is refused at its beginning.
        levels = list(accumulate(steps[start : start + _CHUNK], initial=level))
        if max(levels) > limit:
            return True
        level = levels[-1]
    return False


def parse(text: str | bytes, depth: int) -> Any:
    """Any JSON value. Raises `WireError` that says what is wrong and where."""
    content = unicode_text(text)
    check_depth(content, depth)
    return parse_checked(content)


def parse_checked(text: str) -> Any:
    """The same for a text that `check_depth` has passed."""
    try:
        return _decode(text)
    except RecursionError:
        raise malformed("the frame nests too deeply", "depth") from None
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
