"""The audit trail's hash chain and its checkpoints: how they are made, and how damage is found and named.

Each record's hash is over the hash before it, its own number and its text::

    hash(n) = SHA-256( hash(n-1) ‖ n ‖ text(n) )        hash(0) = 32 zero bytes, n as 8 bytes, big endian

A chain alone stops nobody who can write the database: they compute it again from the changed record on. So every now
and then its head is signed (`Checkpoint`), and the signature is also a line in the server's log, which may be on
another machine. Rewriting what a checkpoint vouches for takes the key too; rewriting what somebody noted elsewhere
(`anchors`) cannot be hidden at all.

A row keeps the hash before it as well. That is redundant while all is well; when it is not, it tells a record that was
changed from its neighbour that was not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

GENESIS = "00" * 32
"""The hash before the first record."""
DOMAIN = b"sysadmd audit checkpoint v1\0"
"""What is signed says what it is, so that no other signature of the key can stand for it."""
LOWEST = -(2**63)
"""Below every number that a table takes: records begin at 1, and what somebody put before them is looked at too."""
SHIFTS = 100_000
"""Numbers that a displaced record is tried with, to tell whether it was moved or changed."""


class Row(NamedTuple):
    """One stored record."""

    seq: int
    record: str
    previous: str
    hash: str


class Checkpoint(NamedTuple):
    """A signed head. `key`: SHA-256 of the public key (32 bytes, RFC 8032), hexadecimal; `signature`: base64."""

    seq: int
    hash: str
    time: float
    key: str
    signature: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found. `first_bad` is the number of the first record that is not what was written, and
    `reason` says what happened to it; both None when all is well.
    """

    records: int
    checkpoints: int
    first_bad: int | None = None
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return self.reason is None


def link(previous: str, seq: int, record: str) -> str:
    """The hash of a record."""
    digest = hashlib.sha256(bytes.fromhex(previous))
    digest.update(seq.to_bytes(8, "big"))
    digest.update(record.encode())
    return digest.hexdigest()


def statement(seq: int, head: str, time: float) -> bytes:
    """What a checkpoint's signature is over."""
    return DOMAIN + f"{seq}\0{head}\0{time!r}".encode()


def key_id(public_key: bytes) -> str:
    """How a checkpoint names the key that signed it."""
    return hashlib.sha256(public_key).hexdigest()


def verify(
    rows: Callable[[int], Iterable[Row]],
    checkpoints: Iterable[Checkpoint],
    *,
    public_key: bytes | None,
    head: tuple[int, str] | None = None,
    anchors: Mapping[int, str] | None = None,
) -> Verdict:
    """Look at the whole trail, in the memory of one record.

    `rows` gives the records from a number on, in the order of their numbers; it is asked again where damage is found,
    to say what kind it is. `head`: the newest number and hash as stored beside the trail. `anchors`: hashes by number
    that somebody kept elsewhere. `public_key` None: signatures are not looked at.
    """
    ordered = sorted(checkpoints, key=lambda one: one.seq)
    return _Run(rows, ordered, public_key, head, dict(anchors or {})).verdict()


class _Run:
    def __init__(
        self,
        rows: Callable[[int], Iterable[Row]],
        checkpoints: list[Checkpoint],
        public_key: bytes | None,
        head: tuple[int, str] | None,
        anchors: dict[int, str],
    ) -> None:
        self._rows, self._checkpoints, self._head, self._anchors = rows, checkpoints, head, anchors
        self._key = public_key
        self._seen, self._vouched, self._last_good = 0, 0, 0

    def verdict(self) -> Verdict:
        pending = iter(self._checkpoints)
        due = next(pending, None)
        previous = GENESIS
        for row in self._rows(LOWEST):
            if (fault := self._row_fault(row, previous) or self._anchor_fault(row)) is not None:
                return self._bad(*fault)
            self._seen, previous = row.seq, row.hash
            while due is not None and due.seq <= row.seq:
                if (reason := self._checkpoint_fault(due, row)) is not None:
                    return self._bad(row.seq, reason)
                self._vouched, self._last_good = self._vouched + 1, row.seq
                due = next(pending, None)
        return self._end(previous, due)

    def _end(self, last: str, due: Checkpoint | None) -> Verdict:
        """What comes after the last row: nothing may be known of any later one."""
        if due is not None and (reason := self._signature_fault(due)) is not None:
            return self._bad(due.seq, reason)
        head = self._head
        known = max([*self._anchors, *(one.seq for one in self._checkpoints), head[0] if head else 0], default=0)
        if known > self._seen:
            return self._bad(self._seen + 1, f"cut: the trail ends here, and there were at least {known} records")
        if head is None or head == (self._seen, last):
            return Verdict(self._seen, self._vouched)
        if head[0] == self._seen:
            return self._bad(self._seen, "changed: it has another hash than is stored as the last one")
        return self._bad(max(head[0], 0) + 1, f"inserted: the trail ended with record {head[0]}")

    def _bad(self, seq: int, reason: str) -> Verdict:
        return Verdict(self._seen, self._vouched, seq, reason)

    def _rewritten(self, what: str) -> str:
        return f"changed: not {what}; the trail was written anew from some record after {self._last_good} on"

    def _anchor_fault(self, row: Row) -> tuple[int, str] | None:
        wanted = self._anchors.get(row.seq)
        if wanted is None or wanted == row.hash:
            return None
        return row.seq, self._rewritten("the one that was noted elsewhere")

    def _checkpoint_fault(self, one: Checkpoint, row: Row) -> str | None:
        if (reason := self._signature_fault(one)) is not None:
            return reason
        return None if one[:2] == (row.seq, row.hash) else self._rewritten("the one that was signed")

    def _signature_fault(self, one: Checkpoint) -> str | None:
        if self._key is None:
            return None
        if one.key != key_id(self._key):
            return f"changed: its checkpoint is signed by another key, {str(one.key)[:16]}…"
        return None if is_signed(self._key, one) else "changed: the signature of its checkpoint is false"

    def _row_fault(self, row: Row, previous: str) -> tuple[int, str] | None:
        """What is wrong with the row that has to come after the hash `previous`."""
        expected = self._seen + 1
        if row.seq == expected and _fits(row, expected):
            return None if row.previous == previous else self._link_fault(row, previous)
        if row.seq > expected:
            return expected, self._missing(expected, previous, "its number is missing")
        place = _place_of(row, expected)
        if place is None:
            changed = "changed: its text does not give its hash"
            return row.seq, changed if row.seq == expected else "inserted: there was no record with this number"
        if row.seq < 1:
            return place, f"reordered: it has the number {row.seq}"
        if place < expected:
            # The row of that number is the same one, so this is a copy; or it is not, and was put before this one.
            genuine = next(iter(self._rows(place)), None)
            first = expected if genuine is not None and genuine.hash == row.hash else place
            return first, f"inserted: what comes here, or after it, is record {place}"
        return expected, self._missing(expected, previous, "a later record has its number")

    def _link_fault(self, row: Row, previous: str) -> tuple[int, str]:
        """The row's text, number and predecessor belong together, and another predecessor is there: which is false?"""
        if link(previous, row.seq, row.record) == row.hash:
            return row.seq, "changed: what it says of the record before it is not what its hash is over"
        if row.seq - 1 == self._last_good or not self._is_known(row):
            return row.seq, "changed: it was written after another record than the one before it"
        return row.seq - 1, "changed: the record after it was written after another one"

    def _is_known(self, row: Row) -> bool:
        """Whether anything else stands for the row's hash."""
        after = next(iter(self._rows(row.seq + 1)), None)
        known = [self._head, *self._anchors.items(), *(one[:2] for one in self._checkpoints)]
        return (after is not None and after.previous == row.hash) or (row.seq, row.hash) in known

    def _missing(self, expected: int, previous: str, how: str) -> str:
        if any(other.previous == previous and _fits(other, expected) for other in self._rows(LOWEST)):
            return "reordered: it has another number"
        return f"dropped: {how}"


def _place_of(row: Row, expected: int) -> int | None:
    """The number with which the row was written, if it is not far from the one that it has or should have."""
    near = range(max(1, expected - SHIFTS), expected + SHIFTS)
    return next((n for n in (row.seq, *near) if _fits(row, n)), None)


def _fits(row: Row, seq: int) -> bool:
    try:
        return link(row.previous, seq, row.record) == row.hash
    except (ValueError, TypeError, AttributeError, OverflowError):  # somebody stored something else than text there
        return False


def is_signed(public_key: bytes, one: Checkpoint) -> bool:
    """Whether the key made the checkpoint's signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(base64.b64decode(one.signature, validate=True), statement(one.seq, one.hash, one.time))
    except (InvalidSignature, binascii.Error, ValueError, TypeError):
        return False
    return True


def chained(texts: Iterable[str], seq: int, head: str) -> Iterator[Row]:
    """Rows for new records after the record `seq` with the hash `head`."""
    for text in texts:
        seq += 1
        previous, head = head, link(head, seq, text)
        yield Row(seq, text, previous, head)
