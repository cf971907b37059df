"""Connections that are not logged in have a bound, and it is reached gradually.

A stranger's connection costs a socket and some KiB until the grace for its log-in is over. A plain bound would let a
flood that holds all places turn away everybody else. So from half of the bound on, a new connection is dropped with a
probability that rises to 1 at the bound (random early drop, as sshd's MaxStartups): a flood that connects a hundred
times as often as an honest client is also dropped a hundred times as often, and the honest one gets in by trying again.
One address prefix has a share, which is below where the dropping begins for the others.

A connection has a place from its first byte above TCP and TLS until it logs in or goes; whoever logged in is not
affected. It is dropped by a reset, which costs less than an answer. The TLS handshake before it has a deadline of its
own (`handshake_timeout`).
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import structlog

from sysadmd.auth.prefix import is_loopback, prefix_of
from sysadmd.limits import Limits

log = structlog.get_logger(__name__)

TELL_INTERVAL = 60.0
"""Seconds between two lines in the log about connections that were dropped."""

Leave = Callable[[], None]


class Pending:
    """The places of one server. `exempt` says which addresses need none; `draw` gives a number from 0 to below 1."""

    def __init__(
        self,
        limits: Callable[[], Limits],
        *,
        exempt: Callable[[str], bool] = is_loopback,
        draw: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self.exempt, self.draw, self._monotonic = limits, exempt, draw, monotonic
        self.waiting = 0
        self.dropped = 0
        self._of_prefix: Counter[str] = Counter()
        self._tell_at = float("-inf")

    def admit(self, address: str) -> Leave | None:
        """A place for a connection, which it gives back by calling the result, once or more; None: drop it."""
        if self.exempt(address):
            return _nothing
        limits, prefix = self._limits(), prefix_of(address)
        share = self._of_prefix.get(prefix, 0)
        full = self._drops(self.waiting, limits.pending_connections)
        if full or self._drops(share, limits.pending_connections_prefix):
            self._tell(prefix)
            return None
        return self._place(prefix)

    def _drops(self, waiting: int, bound: int) -> bool:
        early = bound / 2
        return waiting >= early and self.draw() < (waiting - early) / (bound - early)

    def _place(self, prefix: str) -> Leave:
        self.waiting += 1
        self._of_prefix[prefix] += 1
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self.waiting -= 1
                self._of_prefix[prefix] -= 1
                if not self._of_prefix[prefix]:
                    del self._of_prefix[prefix]

        return leave

    def _tell(self, prefix: str) -> None:
        self.dropped += 1
        now = self._monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_INTERVAL
            log.warning("too many connections that are not logged in", last=prefix, dropped=self.dropped)


def _nothing() -> None:
    """Who has no place gives none back."""
