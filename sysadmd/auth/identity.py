"""Where somebody comes from, for everything that judges and records log-ins."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a session: the address text (`unix` for the Unix socket), and the kind of listener (tcp, unix,
    rest, upgrade, bridge).

    `link`: the name of the bridge that it came through, whose peers' addresses are `key:` and what the bridge knows
    them by, or the link and their id there. `insecure`: somebody between us can read and change what is said.
    """

    address: str
    kind: str
    link: str = ""
    insecure: bool = False
