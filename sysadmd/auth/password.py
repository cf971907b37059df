"""Passwords: what may be one, and Argon2id over it.

The cost is the second recommendation of RFC 9106 §4 (64 MiB) with two passes instead of three, in one lane instead of
four: 130 ms of a processor on the slowest machine we measured. Lanes are threads. They make one check shorter and cost
the same in all, but four of them beside the event loop are four that it has to wait for. The hash carries its
parameters, so that a later release can raise them: whoever logs in with an older hash gets a new one.

Text is normalised to NFC before it is hashed (RFC 8265 §4.2): the same keys give other code points on a Mac.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sysadmd.errors import BadRequest
from sysadmd.limits import Limits

if TYPE_CHECKING:
    from argon2 import PasswordHasher

PASSWORD_BYTES = Limits().password_bytes
ACCOUNT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
"""Names of accounts: those that useradd(8) and pw(8) agree on."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id parameters: passes, KiB of memory, parallel lanes."""

    passes: int = 2
    memory: int = 64 * 1024
    lanes: int = 1


class Passwords:
    """Hashes passwords at one cost. Slow on purpose: call it in a worker thread."""

    def __init__(self, cost: Cost | None = None, limit: int = PASSWORD_BYTES) -> None:
        self.cost, self.limit = cost or Cost(), limit

    def hash(self, password: str) -> str:
        """The hash to store, in the PHC string form. Raises BadRequest for what may not be a password."""
        return self._hasher.hash(check_password(password, self.limit))

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` is the one of the hash. None (no such account, no password) takes as long as any other."""
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            if stored is None:
                self.hash(password)
                return False
            return self._hasher.verify(stored, check_password(password, self.limit))
        except (BadRequest, InvalidHashError, VerificationError):
            return False

    def is_stale(self, stored: str) -> bool:
        """Whether the hash was made at another cost."""
        return self._hasher.check_needs_rehash(stored)

    @cached_property
    def _hasher(self) -> PasswordHasher:
        from argon2 import PasswordHasher  # 30 ms of import that a start need not wait for

        return PasswordHasher(self.cost.passes, self.cost.memory, self.cost.lanes)


def check_password(password: str, limit: int = PASSWORD_BYTES) -> bytes:
    """The bytes to hash. Raises BadRequest, never with the password in it: empty, too long, NUL, not Unicode text."""
    try:
        raw = unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        raise BadRequest("the password is not Unicode text", rule="format") from None
    if not raw:
        raise BadRequest("the password is empty", rule="minLength")
    if len(raw) > limit:
        raise BadRequest(f"the password is longer than {limit} bytes of UTF-8", rule="maxLength")
    if b"\0" in raw:
        raise BadRequest("the password contains NUL", rule="pattern")
    return raw


def check_name(name: str) -> str:
    """`name` itself. Raises BadRequest for what may not be the name of an account."""
    if not ACCOUNT_NAME.fullmatch(name):
        rule = "expected a letter or _, then up to 31 letters, digits, _, . or -"
        raise BadRequest(f"account name {name[:40]!r}: {rule}", rule="pattern")
    return name
