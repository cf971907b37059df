"""The outlet of a session that lives for one request, whose result is returned and not written."""

from __future__ import annotations

from sysadmd.events.record import Record
from sysadmd.events.subscription import Framing


def unframed(message: bytes, record: Record) -> bytes:
    """The dialect's text is what is written."""
    return message


class DiscardOutlet:
    """Takes everything and writes nothing."""

    framing: Framing = staticmethod(unframed)

    def writable(self) -> bool:
        """Events are dropped: nothing subscribes in one request (spec sysadm §2.6)."""
        return True

    def write(self, data: bytes) -> None:
        """Drop."""

    def send(self, payload: bytes) -> None:
        """Drop."""

    def limit_frames(self, size: int) -> None:
        """Nothing to do: the request is here already."""

    def close(self, code: int, reason: str) -> None:
        """Nothing to close."""

    def overflow_close(self, reason: str) -> None:
        """Nothing to close."""
