"""What a key has to sign: random, short-lived, for one connection and one answer.

The length is chosen for the original client, whose buffer for the answer is twice as long as the challenge: below 128
characters it overflows, and above 245 the challenge does not fit under an RSA-2048 key (spec sysadm §3.5).
"""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass

ALPHABET = string.ascii_letters + string.digits
LENGTH = 200


@dataclass(frozen=True, slots=True)
class Challenge:
    """`expires` is on the engine's monotonic clock."""

    text: str
    expires: float

    @classmethod
    def new(cls, expires: float) -> Challenge:
        """A challenge that was never there before."""
        return cls("".join(secrets.choice(ALPHABET) for _ in range(LENGTH)), expires)
