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
SHIFTS = 100_000
"""Numbers that a displaced record is tried with, to tell whether it was moved or changed."""


class Row(NamedTuple):
    """One stored record."""

    seq: int
    record: str
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
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
    run = _Run(rows, sorted(checkpoints, key=lambda one: one.seq), public_key, dict(anchors or {}))
    return run.verdict(head)


class _Run:
    def __init__(
        self,
        rows: Callable[[int], Iterable[Row]],
        checkpoints: list[Checkpoint],
        public_key: bytes | None,
        anchors: dict[int, str],
    ) -> None:
        self._rows, self._checkpoints, self._anchors = rows, checkpoints, anchors
        self._key = public_key
        self._seen, self._vouched, self._last_good = 0, 0, 0

    def verdict(self, head: tuple[int, str] | None) -> Verdict:
        for one in self._checkpoints:
            if (reason := self._signature_fault(one)) is not None:
                return self._bad(one.seq, reason)
        pending = iter(self._checkpoints)
        due = next(pending, None)
        previous = GENESIS
        for row in self._rows(1):
            if (fault := self._row_fault(row, previous)) is not None:
                return self._bad(*fault)
            self._seen, previous = row.seq, row.hash
            if (fault := self._anchor_fault(row)) is not None:
                return self._bad(*fault)
            while due is not None and due.seq <= row.seq:
                if due.hash != row.hash:
                    return self._bad(row.seq, self._rewritten("the one that was signed"))
                self._vouched, self._last_good = self._vouched + 1, row.seq
                due = next(pending, None)
        return self._end(previous, head, due)

    def _end(self, last: str, head: tuple[int, str] | None, due: Checkpoint | None) -> Verdict:
        """What comes after the last row: nothing may be known of any later one."""
        beyond = [one for one in self._anchors if one > self._seen]
        if due is not None or beyond or (head is not None and head[0] > self._seen):
            known = max([*beyond, *(one.seq for one in self._checkpoints[-1:]), head[0] if head else 0])
            return self._bad(self._seen + 1, f"cut: the trail ends here, and there were at least {known} records")
        if head is not None and head != (self._seen, last):
            return self._bad(max(self._seen, 1), f"changed: the stored head is that of record {head[0]}")
        return Verdict(self._seen, self._vouched)

    def _bad(self, seq: int, reason: str) -> Verdict:
        return Verdict(self._seen, self._vouched, seq, reason)

    def _rewritten(self, what: str) -> str:
        return f"changed: not {what}; the trail was written anew from some record after {self._last_good} on"

    def _anchor_fault(self, row: Row) -> tuple[int, str] | None:
        wanted = self._anchors.get(row.seq)
        if wanted is None or wanted == row.hash:
            return None
        return row.seq, self._rewritten("the one that was noted elsewhere")

    def _signature_fault(self, one: Checkpoint) -> str | None:
        if self._key is None:
            return None
        if one.key != key_id(self._key):
            return f"changed: its checkpoint is signed by another key, {one.key[:16]}…"
        return None if is_signed(self._key, one) else "changed: the signature of its checkpoint is false"

    def _row_fault(self, row: Row, previous: str) -> tuple[int, str] | None:
        """What is wrong with the row that has to come after the hash `previous`."""
        expected = self._seen + 1
        if row.seq != expected:
            return expected, "dropped: its number is missing"
        if _fits(row, row.seq):
            if row.previous == previous:
                return None
            # Its own text, number and predecessor belong together: it is the predecessor that is another now.
            return max(expected - 1, 1), "changed: the record after it was written after another one"
        if not any(_fits(row, n) for n in range(max(1, expected - SHIFTS), expected + SHIFTS)):
            return expected, "changed: its text does not give its hash"
        if any(_fits(other, expected) and other.previous == previous for other in self._rows(expected)):
            return expected, "reordered: it has another record's number"
        return expected, "dropped: a later record has its number"


def _fits(row: Row, seq: int) -> bool:
    try:
        return link(row.previous, seq, row.record) == row.hash
    except (ValueError, UnicodeEncodeError):
        return False


def is_signed(public_key: bytes, one: Checkpoint) -> bool:
    """Whether the key made the checkpoint's signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(base64.b64decode(one.signature, validate=True), statement(one.seq, one.hash, one.time))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def chained(texts: Iterable[str], seq: int, head: str) -> Iterator[Row]:
    """Rows for new records after the record `seq` with the hash `head`."""
    for text in texts:
        seq += 1
        previous, head = head, link(head, seq, text)
        yield Row(seq, text, previous, head)
