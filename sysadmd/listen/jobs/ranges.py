"""The `Range` of a request (RFC 9110 §14): one range of bytes; what is more, or no range, is not looked at."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


class Unsatisfiable(Exception):
    """No byte of the range is there."""


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last, of `size` bytes; None: all of them. Raises Unsatisfiable."""
    found = None if header is None else _RANGE.fullmatch(header)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(size - int(found[2]), 0), size
    else:
        start, end = int(found[1]), size if not found[2] else min(int(found[2]) + 1, size)
        if found[2] and int(found[2]) < start:
            return None  # no range at all (§14.1.1)
    if start >= end:
        raise Unsatisfiable
    return start, end
