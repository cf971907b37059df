"""Where somebody comes from, for everything that judges and records log-ins."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a session: the address text (`unix` for the Unix socket), and the kind of listener (tcp, unix,
    rest, upgrade).
    """

    address: str
    kind: str
