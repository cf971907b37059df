"""The audit trail as a file: enough to verify it on another machine, by us or by a few lines of any language.

JSON lines, in this order::

    {"sysadmd_audit": 1, "node": …, "public_key": base64 or null, "head": [number, hash]}
    {"checkpoint": {"seq": …, "hash": …, "time": …, "key": …, "signature": …}}      each signed head
    {"seq": …, "previous": …, "hash": …, "record": "…"}                             each record, as text
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from sysadmd.auth import audit_table
from sysadmd.auth.audit_key import PUBLIC_FILE, read_public_key
from sysadmd.auth.chain import LOWEST, Checkpoint, Row, Verdict, verify
from sysadmd.errors import StateError
from sysadmd.store import Store

FORMAT = 1


class _Head(msgspec.Struct):
    sysadmd_audit: int
    node: str
    public_key: str | None
    head: tuple[int, str]


class _Signed(msgspec.Struct):
    seq: int
    hash: str
    time: float
    key: str
    signature: str


class _Line(msgspec.Struct):
    """A checkpoint or a record."""

    checkpoint: _Signed | None = None
    seq: int = 0
    previous: str = ""
    hash: str = ""
    record: str = ""


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def export(store: Store, state_dir: Path, node: str, out: IO[bytes]) -> int:
    """Write the whole trail as it is at one moment; the number of records. Raises StateError."""
    public = read_public_key(state_dir / PUBLIC_FILE)

    def line(value: Any) -> None:
        out.write(msgspec.json.encode(value) + b"\n")

    def write(connection: Any) -> int:
        key = None if public is None else base64.b64encode(public).decode()
        line(_Head(FORMAT, node, key, audit_table.read_head(connection)))
        for one in audit_table.read_checkpoints(connection):
            line({"checkpoint": one._asdict()})
        count = 0
        for row in audit_table.read_rows(connection, LOWEST):
            line(row._asdict())
            count += 1
        return count

    return store.read_now(write)


def verify_export(path: Path, public_key: bytes | None = None, anchors: dict[int, str] | None = None) -> Verdict:
    """Look at an exported trail. `public_key` None: the one in the file, which proves nothing to whoever does not know
    it. Raises StateError for a file that is none.
    """
    lines = _lines(path)
    head = next(lines, None)
    if not isinstance(head, _Head):
        raise StateError(f"{path}: is no exported audit trail")
    if public_key is None and head.public_key is not None:
        public_key = _key(path, head.public_key)
    checkpoints = []
    for line in lines:
        if not isinstance(line, _Line) or line.checkpoint is None:
            break
        one = line.checkpoint
        checkpoints.append(Checkpoint(one.seq, one.hash, one.time, one.key, one.signature))
    if checkpoints and public_key is None:
        raise StateError(f"{path}: has no public key, so that no signature can be checked; --public-key names one")
    return verify(lambda start: _rows(path, start), checkpoints, public_key=public_key, head=head.head, anchors=anchors)


def _key(path: Path, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise StateError(f"{path}: its public key is not base64") from error


def _rows(path: Path, start: int) -> Iterator[Row]:
    """The records of the file, in its order."""
    for line in _lines(path):
        if isinstance(line, _Line) and line.checkpoint is None and line.seq >= start:
            yield Row(line.seq, line.record, line.previous, line.hash)


def _lines(path: Path) -> Iterator[_Head | _Line]:
    number = 0
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                yield _decode_head(text) if number == 1 else _decode_line(text)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"{path}, line {number}: is no line of an exported audit trail: {error}") from error
