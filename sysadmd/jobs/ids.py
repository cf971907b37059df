"""Names that this process makes: job ids and leases."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable

JobIds = Callable[[float], str]
"""now (Unix seconds) -> a new job id."""


def job_ids() -> JobIds:
    """A source of job ids: 24 hexadecimal digits that sort by time, as core4's clients expect of an id.

    8 digits of seconds, 10 random ones for this process, 6 of a counter.
    """
    process = secrets.token_hex(5)
    counter = itertools.count(secrets.randbelow(1 << 23))

    def make(now: float) -> str:
        return f"{int(now) & 0xFFFFFFFF:08x}{process}{next(counter) & 0xFFFFFF:06x}"

    return make


def new_lease() -> str:
    """128 random bits in hexadecimal digits."""
    return secrets.token_hex(16)
