"""Who is connected, who is paired with whom, and who has to be told.

A change is told to those whose list it changed, and to them a moment later, so that a fleet that comes back is told of
once and not a thousand times. What comes for them meanwhile hastens that, or waits for it where they were told of
another change only just now: nobody hears from an id that it was not told. Nor is somebody told who does not read,
since the list may be another one by then.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator

from sysadmd.bridge.figures import Figures
from sysadmd.bridge.pairing import Change, Pairing, Role
from sysadmd.bridge.peer import Peer
from sysadmd.bridge.speech import announcement
from sysadmd.limits import Limits

DELAY, SLICE = 0.02, 0.005
"""Seconds from a change to the announcements of it, and at most so many at a time: a fifth of the loop."""
LISTS = 16
"""How many full lists all connections of one key may have together: what bounds the memory that one key can take."""


class Roster:
    """The connections of one bridge. `tell` sends one its announcement, or nothing, with all that waits behind it;
    `write` sends what waits already, before one is due.
    """

    def __init__(
        self,
        limits: Callable[[], Limits],
        figures: Figures,
        *,
        tell: Callable[[Peer, bytes | None], None],
        write: Callable[[Peer], None],
    ) -> None:
        self._limits, self._figures, self._tell, self._write = limits, figures, tell, write
        self._pairing = Pairing()
        self._peers: dict[str, Peer] = {}
        self._of_key: Counter[str] = Counter()
        self._listed: Counter[str] = Counter()
        self._due: deque[Peer] = deque()
        self._waiting = False

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, id: object) -> bool:
        return id in self._peers

    def add(self, peer: Peer) -> None:
        """A new connection."""
        self._peers[peer.id] = peer

    def admit(self, peer: Peer, key: str, nick: str) -> bool:
        """Log a peer in with a key; False when the key has all the connections that it may have."""
        if self._of_key[key] >= self._limits().bridge_connections:
            return False
        self._of_key[key] += 1
        peer.key, peer.nick = key, nick
        return True

    def role(self, peer: Peer, role: Role) -> None:
        """What a peer says that it is, before or after its list."""
        peer.role = role
        if peer.checksums is not None:
            self._apply(self._pairing.replace(peer.id, role, peer.checksums))
            self._mark(peer)

    def listed(self, peer: Peer, checksums: Collection[str]) -> bool:
        """Take the list of a peer that is logged in; False when it is too long, and the one before stays."""
        before = len(peer.checksums or ())
        wanted, limits = frozenset(checksums), self._limits()
        total = self._listed[peer.key] - before + len(wanted)
        if len(wanted) > limits.bridge_checksums or total > LISTS * limits.bridge_checksums:
            return False
        self._listed[peer.key] = total
        if peer.checksums is None:
            self._mark(peer)
        peer.checksums = wanted
        self._apply(self._pairing.replace(peer.id, peer.role, wanted))
        return True

    def remove(self, peer: Peer) -> None:
        """A connection is gone."""
        if self._peers.pop(peer.id, None) is None:
            return
        change = self._pairing.remove(peer.id)
        for _, other in change.parted:
            del self._peers[other].partners[peer.head]
            self._mark(self._peers[other])
        peer.partners.clear()
        for counter, size in ((self._of_key, 1), (self._listed, len(peer.checksums or ()))):
            counter[peer.key] -= size
            if counter[peer.key] <= 0:
                del counter[peer.key]

    def announce(self, peer: Peer) -> None:
        """Tell a peer whom it can reach, if that is another list than it knows."""
        peer.due = False
        if not peer.gone:
            self._tell(peer, self._news(peer))

    def hasten(self, peer: Peer) -> None:
        """Something waits for what is due. A peer that reads is told at once, unless that were twice within `DELAY`."""
        if not peer.wire.paused and asyncio.get_running_loop().time() - peer.told >= DELAY:
            self.announce(peer)

    def _news(self, peer: Peer) -> bytes | None:
        partners = sorted(peer.partners.values(), key=lambda partner: partner.id)
        if not partners and peer.announced is None and not peer.details:
            return None
        known = None
        if peer.details:
            known = {one.id: {"hostname": one.hostname, "nick": one.nick, "key": one.key} for one in partners}
        message = announcement([one.id for one in partners], known, classic=peer.classic)
        # Its hash is enough to tell it from the one before; Python's is keyed (PEP 456), so that nobody can aim at it.
        if hash(message) == peer.announced:
            return None
        peer.announced, peer.told = hash(message), asyncio.get_running_loop().time()
        self._figures.announcements += 1
        return message

    def _apply(self, change: Change) -> None:
        for one, other in change.parted:
            self._part(self._peers[one], self._peers[other])
        for one, other in change.paired:
            self._pair(self._peers[one], self._peers[other])

    def _pair(self, one: Peer, other: Peer) -> None:
        one.partners[other.head], other.partners[one.head] = other, one
        self._mark(one)
        self._mark(other)

    def _part(self, one: Peer, other: Peer) -> None:
        del one.partners[other.head], other.partners[one.head]
        self._mark(one)
        self._mark(other)

    def _mark(self, peer: Peer) -> None:
        if not peer.due:
            self._write(peer)
            peer.dirty, peer.due = False, True
            self._due.append(peer)
            self._announce_soon()

    def _announce_soon(self) -> None:
        if self._due and not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().call_later(DELAY, self._announce_some)

    def _announce_some(self) -> None:
        """Tell some, and leave the loop to those who talk before it goes on: lists may be long, and many."""
        self._waiting = False
        until = asyncio.get_running_loop().time() + SLICE
        for _ in range(len(self._due)):
            peer = self._due.popleft()
            if peer.due and peer.wire.paused and not peer.gone:
                self._due.append(peer)
            elif peer.due:
                self.announce(peer)
            if asyncio.get_running_loop().time() >= until:
                break
        self._announce_soon()
