"""Messages joined with their lengths before them, for what writes one message at a time."""

from __future__ import annotations

from collections.abc import Iterator

from sysadmd.events.record import Record

LENGTH_BYTES = 4


def measured(message: bytes, record: Record | None = None) -> bytes:
    """A message behind its length. A plain function: whoever shares it shares the framed bytes of a record too."""
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


def messages(data: bytes) -> Iterator[bytes]:
    """The messages in joined `measured` ones."""
    start = 0
    while start < len(data):
        end = start + LENGTH_BYTES + int.from_bytes(data[start : start + LENGTH_BYTES], "big")
        yield data[start + LENGTH_BYTES : end]
        start = end
