"""A bridge without its sockets: what becomes of that which connections read, and how they end.

What a peer says to the bridge is answered by `dialogue`, who is paired with whom is known to `roster`, and `switch`
moves everything else. Here they are put together, and here is what bounds a peer's reading.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from sysadmd.bridge.allowance import Meter
from sysadmd.bridge.dialogue import CLOSE_POLICY, STRANGER_FRAMES, Dialogue
from sysadmd.bridge.figures import Figures
from sysadmd.bridge.login import Desk, Keys
from sysadmd.bridge.peer import Peer, PeerInfo, Wire
from sysadmd.bridge.roster import Roster
from sysadmd.bridge.switch import Switch
from sysadmd.limits import Limits

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 10.0
"""Seconds for which a peer that sent too much is not read, whatever it owes."""
COST, COST_BYTES = 20, 50
"""A frame to the bridge itself, or a control frame, counts for so many relayed ones, and so do its bytes: it is parsed
and answered, and a list of keys is compared with everybody's."""


class Exchange:
    """The peers of one bridge, and what goes on between them."""

    def __init__(self, keyring: Keys, *, hostname: str, limits: Callable[[], Limits]) -> None:
        self.limits, self.figures = limits, Figures()
        self._desk = Desk(keyring)
        self.roster = Roster(limits, self.figures, tell=self._tell, write=self._write)
        self.switch = Switch(
            limits,
            self.figures,
            converse=self._converse,
            known=self.roster.__contains__,
            announce=self.roster.announce,
            hasten=self.roster.hasten,
            lost=self.lost,
        )
        self.dialogue = Dialogue(limits, self.figures, self._desk, self.roster, self.switch, hostname=hostname)

    def open(self, wire: Wire, address: str, *, classic: bool) -> Peer:
        """A new connection."""
        now = asyncio.get_running_loop().time()
        peer = Peer(wire, address, classic, Meter(self.limits(), now), time.time(), now)
        self.figures.connections += 1
        self.roster.add(peer)
        return peer

    def peers(self) -> list[PeerInfo]:
        """Those who are logged in, the one that came first in front."""
        return [peer.info() for peer in self.roster if peer.key]

    def keys_changed(self) -> None:
        """The keyring changed: end the connections of keys that are gone."""
        keys = self._desk.changed()
        for peer in self.roster:
            if peer.key and peer.key not in keys:
                self.switch.end(peer, CLOSE_POLICY, "its key is no longer known to this bridge", why="key")

    def look_around(self) -> None:
        """Ask whoever was silent for a sign of life, and drop whoever gave none.

        On a slow line the question waits behind what was relayed before, so whoever took some of that lately is not
        silent.
        """
        limits, now = self.limits(), asyncio.get_running_loop().time()
        for peer in self.roster:
            silent = now - peer.heard
            if peer.held or silent < limits.ping_interval:
                continue
            if (seen := peer.wire.progress()) != peer.seen:
                peer.seen, peer.taking = seen, now
            if silent >= limits.ping_interval + limits.ping_timeout:
                if now - peer.taking >= limits.ping_timeout:
                    self.switch.cut(peer, "silent")
            elif peer.pinged < peer.heard:
                peer.pinged = now
                peer.wire.beat()

    async def drain(self, code: int, reason: str) -> None:
        """Read no more, write what waits, for `drain` seconds at most, and begin to close every connection."""
        for peer in self.roster:
            self.switch.hold(peer, "stop")
        try:
            async with asyncio.timeout(self.limits().drain):
                await self.switch.drained()
        except TimeoutError:
            log.warning("some peers did not read to the end")
        for peer in self.roster:
            self.switch.release(peer)  # its closing handshake is to be read
            self.switch.end(peer, code, reason, why="stop")

    # What connections tell

    def received(self, peer: Peer, payloads: list[bytes], size: int) -> None:
        """Messages came, or parts of one: `size` bytes together."""
        if peer.gone:
            return
        if payloads:
            self.switch.relay(peer, payloads)
        loop = asyncio.get_running_loop()
        now = loop.time()
        peer.heard = now
        cost, peer.cost = peer.cost + len(payloads), 0
        pause = peer.meter.take(cost, size, self.limits(), now)
        if pause > 0 and not peer.gone:
            self.switch.hold(peer, "rate")
            loop.call_later(min(pause, LONGEST_PAUSE), self.switch.release, peer)

    def bears(self, peer: Peer) -> bool:
        """Whether one more frame that is no plain message is handled, or dropped with all that comes behind it. They
        are answered past the queue, so they have bounds of their own: a number before the log-in and after the end, and
        between them that the peer reads.
        """
        peer.cost += COST
        if not peer.key or peer.gone:
            peer.frames += 1
            if peer.frames > 2 * STRANGER_FRAMES:
                self.switch.cut(peer, "stranger")
                peer.wire.abort()
                return False
        elif peer.wire.paused:
            self.switch.choke(peer)
        return True

    def resumed(self, peer: Peer) -> None:
        """The socket takes more."""
        self.switch.resumed(peer)

    def late(self, peer: Peer) -> None:
        """The peer did not log in in time."""
        self.switch.end(peer, CLOSE_POLICY, "log in first", why="late")

    def lost(self, peer: Peer) -> None:
        """The connection is gone, or as good as gone."""
        if not peer.gone:
            peer.gone = True
            self.switch.forget(peer)
            self.roster.remove(peer)
            if peer.key:
                log.info("left", peer=peer.nick, address=peer.address, id=peer.id)

    def hasty(self, address: str) -> None:
        """Somebody spoke before its handshake was answered, and was dropped."""
        self.figures.cut["hasty"] += 1
        log.info("connection cut", reason="hasty", address=address)

    def _tell(self, peer: Peer, message: bytes | None) -> None:
        self.switch.announced(peer, message)

    def _write(self, peer: Peer) -> None:
        self.switch.write(peer)

    def _converse(self, peer: Peer, payload: bytes) -> None:
        peer.cost += COST + len(payload) // COST_BYTES
        self.dialogue.receive(peer, payload)
