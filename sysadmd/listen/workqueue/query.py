"""The query and the body of a request, checked. Every refusal is a BadRequest that names the parameter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from sysadmd.errors import BadRequest, WireError
from sysadmd.jobs.transfers.pdm import JobStatus, read
from sysadmd.wire.text import parse, unicode_text

LIMIT_MAX = 100_000
"""Jobs or elements of one page: as many elements as a job may have."""
_WHOLE = re.compile(r"-?[0-9]{1,15}")
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"", "0", "false", "no"})
# A string as a whole, or a comma before a closing bracket.
_LAST_COMMA = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+"?)|,(?=\s*+[}\]])', re.DOTALL)


def whole(query: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """A whole number; None: it is not given."""
    text = query.get(name)
    return None if text is None else number(text, name, least, most)


def number(text: str, name: str, least: int, most: int) -> int:
    """The number that a text is."""
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise BadRequest(f"{name}: must be a whole number of {least} to {most}", path=name)
    return int(text)


def flag(query: Mapping[str, str], name: str) -> bool:
    """`1`, `true`, `yes`, or their contraries; false where it is not given."""
    text = query.get(name, "").lower()
    if text not in _TRUE | _FALSE:
        raise BadRequest(f"{name}: must be true or false", path=name)
    return text in _TRUE


def choice(query: Mapping[str, str], name: str, *words: str) -> str:
    """One of the words; the first where it is not given."""
    text = query.get(name, words[0]).lower()
    if text not in words:
        raise BadRequest(f"{name}: must be {' or '.join(words)}", path=name)
    return text


def seconds(query: Mapping[str, str], name: str, most: float) -> float:
    """Seconds, 0 where they are not given."""
    try:
        value = float(query.get(name, "0"))
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise BadRequest(f"{name}: must be 0 to {most:g} seconds", path=name)
    return value


def status(query: Mapping[str, str], name: str) -> str | None:
    """A status, in any of the forms that a type may have."""
    text = query.get(name)
    return None if text is None else read(JobStatus, text, name).name


def body(data: bytes, depth: int) -> Any:
    """The JSON of a body.

    A comma after the last key or value is passed over: the protocol's own reference writes it in a request.
    """
    if not data:
        raise BadRequest("the body is empty; it must be a JSON object", path="body")
    try:
        return parse(data, depth)
    except WireError:
        text = unicode_text(data)
        plain = _LAST_COMMA.sub(lambda found: found[1] or "", text)
        if plain == text:
            raise
        return parse(plain, depth)
