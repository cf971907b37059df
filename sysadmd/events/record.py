"""What is published, before (`Draft`) and after (`Record`) it has its place in the order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sysadmd.events.catalogue import GAP, is_durable

Row = tuple[int, float, str, str | None, bytes]
"""A record as the ring and the store keep it: seq, time, topic, permission, data as JSON.

JSON is several times smaller than the objects it describes, and nobody can change it afterwards.
"""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A record to be.

    `data` is the topic's canonical payload (wire/topics.py); it must not be changed once handed over. `permission`
    names the job that a reader must be allowed to read, besides the topic itself. `time` is in Unix seconds; None
    means now.
    """

    topic: str
    data: Any
    durable: bool
    permission: str | None = None
    time: float | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record in its place: `seq` is its number in the order of this node's epoch."""

    seq: int
    topic: str
    data: Any
    time: float
    permission: str | None = None


class Posted(msgspec.Struct, frozen=True, gc=False):
    """A draft with its JSON, which is what the ring, the store and the bounds of memory count."""

    draft: Draft
    json: bytes

    @property
    def durable(self) -> bool:
        """Whether it is stored: its draft or its topic says so."""
        return self.draft.durable or is_durable(self.draft.topic)


Numbered = tuple[Record, bytes]
"""A record and its JSON."""


def post(draft: Draft) -> Posted:
    """Encode a draft. Raises TypeError for data that is not JSON."""
    return Posted(draft, msgspec.json.encode(draft.data))


def number(posted: Posted, seq: int, now: float) -> Numbered:
    """Give a draft its place."""
    draft = posted.draft
    time = now if draft.time is None else draft.time
    return Record(seq, draft.topic, draft.data, time, draft.permission), posted.json


def gap(first: int, last: int, cause: str, now: float) -> Record:
    """The record that stands for those from `first` to `last`, inclusive. Its own seq is `last`: resume after it."""
    return Record(last, GAP, {"from": first, "to": last, "cause": cause}, now)


def row_of(numbered: Numbered) -> Row:
    """The compact form of a record."""
    record, json = numbered
    return record.seq, record.time, record.topic, record.permission, json


def record_of(row: Row | Sequence[Any]) -> Record:
    """The record of a compact form, or of a row of the `event` table."""
    seq, time, topic, permission, json = row
    return Record(seq, topic, msgspec.json.decode(json), time, permission)
