"""What a bridge has counted since its start."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Figures:
    """Counters that only rise. `refused` is by reason: challenge, proof, rate, busy, connections; so are `dropped`
    (frames that went nowhere), `paused` (peers that were not read for a while: rate, slow) and `cut` (connections that
    the bridge ended).
    """

    connections: int = 0
    logins: int = 0
    announcements: int = 0
    messages: int = 0
    bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    paused: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
