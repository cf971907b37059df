"""The way of a frame through the bridge, and of what waits for a peer.

A frame goes from the chunk in which it was read into the list of its destination, and at the end of the loop's turn all
that a destination got is one `write`. What its socket does not take waits in order. Nothing that was read is dropped
for want of room; instead, whoever writes to a peer that has more than `bridge_queue` waiting is not read until that
peer is below half of it. The pause ends in any case: a peer that takes nothing for `bridge_patience`, or is too slow to
get there in time, is cut. So one that stalls holds up for that long those who write to it, and nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from sysadmd.bridge.figures import Figures
from sysadmd.bridge.framing import LARGE
from sysadmd.bridge.peer import ADDRESS_BYTES, Peer
from sysadmd.bridge.speech import undelivered
from sysadmd.errors import BadRequest, NotFound
from sysadmd.limits import Limits
from sysadmd.listen.websocket import text_frame
from sysadmd.wire.relay import MAX_HEADER, split

log = structlog.get_logger(__name__)

LOOKS = 4
"""How often within `bridge_patience` a slow peer is looked at."""
EAGER = 64 * 1024
"""Bytes to one peer that are written before the turn ends: what is still in the processor's cache costs a third less to
encrypt, and one turn may read megabytes from a fast peer."""
_SHORT = [bytes((0x81, length)) for length in range(126)]


class Switch:
    """Relays. `converse` gets what is for the bridge itself, `known` says whether a connection has this id. `announce`
    tells a peer whose list is due whom it can reach, and `hasten` does if that was not just now. `lost` is told of a
    peer that was cut.
    """

    def __init__(
        self,
        limits: Callable[[], Limits],
        figures: Figures,
        *,
        converse: Callable[[Peer, bytes], None],
        known: Callable[[str], bool],
        announce: Callable[[Peer], None],
        hasten: Callable[[Peer], None],
        lost: Callable[[Peer], None],
    ) -> None:
        self._limits, self._figures = limits, figures
        self._converse, self._known, self._announce, self._lost = converse, known, announce, lost
        self._hasten = hasten
        self._dirty: list[Peer] = []
        self._flushing = False
        self._blocked: set[Peer] = set()
        self._drained: asyncio.Event | None = None

    # In

    def relay(self, sender: Peer, payloads: list[bytes]) -> None:
        """Pass on what was read from one peer: this is the hot path, and what is not on it is in `_other`."""
        find, head, limit = sender.partners.get, sender.head, self._limits().bridge_queue
        messages = size = 0
        for payload in payloads:
            target = find(payload[:ADDRESS_BYTES])
            if target is None:
                self._other(sender, payload)
                if sender.gone:
                    break  # what it said ended its connection
                continue
            if not payload.isascii() and not _is_utf8(payload):
                self._undelivered(sender, "utf8", payload)
                continue
            if not target.dirty:
                self._touch(target)
            length = len(payload)
            target.parts += (
                _SHORT[length] if length < 126 else _frame_head(length),
                head,
                payload[ADDRESS_BYTES:] if length < LARGE else memoryview(payload)[ADDRESS_BYTES:],
            )
            target.messages_out += 1
            target.queued += length
            messages += 1
            size += length
            if target.queued > EAGER:
                if target.queued > limit:
                    self._crowded(target, sender)
                elif not target.wire.paused:
                    self.write(target)  # with its announcement, if that is due
        sender.messages_in += messages
        sender.bytes_in += size
        self._figures.messages += messages
        self._figures.bytes += size

    def _other(self, sender: Peer, payload: bytes) -> None:
        """What is for the bridge itself, or for nobody."""
        if not sender.key or payload.startswith(b"{"):
            self._converse(sender, payload)
            return
        found = split(payload)
        if found is None:
            self._undelivered(sender, "header" if b"\n" in payload else "no_header", payload)
        elif b" " in found[0]:
            self._undelivered(sender, "header", found[0])
        else:
            known = self._known(found[0].decode("utf-8", "replace"))
            self._undelivered(sender, "unpaired" if known else "unknown", found[0])

    def _undelivered(self, sender: Peer, reason: str, header: bytes) -> None:
        self._figures.dropped[reason] += 1
        if sender.classic:
            return
        if reason == "utf8":
            self.say(sender, undelivered(BadRequest("the frame is not UTF-8"), header[: ADDRESS_BYTES - 1]))
        elif reason in ("unknown", "unpaired"):  # told alike: nobody learns which ids others have
            self.say(sender, undelivered(NotFound("you are not paired with this connection"), header))
        else:
            text = f"expected a connection's id of at most {MAX_HEADER} bytes without blanks, and a newline"
            self.say(sender, undelivered(BadRequest(text), header))

    # Out

    def say(self, peer: Peer, message: bytes) -> None:
        """Send a message of the bridge's own."""
        if peer.gone:
            return
        if not peer.dirty:
            self._touch(peer)
        frame = text_frame(message)
        peer.parts.append(frame)
        peer.queued += len(frame)
        if peer.queued > self._limits().bridge_queue:
            self._crowded(peer, peer)

    def announced(self, peer: Peer, message: bytes | None) -> None:
        """What was due is told, or need not be: it goes before all that waited for it."""
        peer.dirty = False
        if message is not None:
            frame = text_frame(message)
            peer.parts.insert(0, frame)
            peer.queued += len(frame)
        if peer.parts:
            self._touch(peer)

    def _touch(self, peer: Peer) -> None:
        """There is something for a peer: it is written when the turn ends, or with the announcement that is due."""
        if peer.due:
            self._hasten(peer)
        if peer.dirty:
            return
        peer.dirty = True
        if not peer.due:
            self._dirty.append(peer)
            if not self._flushing:
                self._flushing = True
                asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        self._flushing = False
        for peer in dirty:
            if not peer.due:
                peer.dirty = False
                self.write(peer)

    def write(self, peer: Peer) -> None:
        """Write what this turn gave, as far as the socket takes it."""
        parts = peer.parts
        if not parts:
            return
        if peer.due:
            self._announce(peer)
        data = b"".join(parts)
        parts.clear()
        if peer.gone or not peer.wire.writes():
            return
        size = len(data)
        peer.bytes_out += size
        if peer.backlog or peer.wire.paused:
            peer.backlog.append(data)
            peer.backlogged += size
            self._blocked.add(peer)
        else:
            self._hand_over(peer, data)
        peer.queued = peer.handed + peer.backlogged
        if peer.holding:
            self._relieve(peer)

    def _hand_over(self, peer: Peer, data: bytes) -> None:
        peer.handed = 0
        peer.wire.write(data)
        if peer.wire.paused:
            peer.handed = len(data)
            self._blocked.add(peer)

    def resumed(self, peer: Peer) -> None:
        """The peer's socket takes more."""
        if not peer.wire.paused:
            peer.handed = 0
        while peer.backlog and not peer.wire.paused and peer.wire.writes():
            data = peer.backlog.popleft()
            peer.backlogged -= len(data)
            self._hand_over(peer, data)
        peer.queued = peer.handed + peer.backlogged + sum(map(len, peer.parts))
        if peer.holding:
            self._relieve(peer)
        if not peer.wire.paused:
            self._unblock(peer)

    # Slow peers

    def hold(self, peer: Peer, reason: str) -> None:
        """Do not read a peer, for one more reason."""
        self._figures.paused[reason] += 1
        peer.held += 1
        if peer.held == 1 and not peer.gone:
            peer.wire.read_on(wanted=False)

    def release(self, peer: Peer) -> None:
        """One reason less."""
        peer.held -= 1
        if not peer.held and not peer.gone:
            peer.heard = asyncio.get_running_loop().time()  # its pongs were not read either
            peer.wire.read_on(wanted=True)

    def choke(self, peer: Peer) -> None:
        """Do not read a peer that does not read the answers to its control frames, until it does."""
        self._crowded(peer, peer)

    def _crowded(self, target: Peer, sender: Peer) -> None:
        if target.gone:
            return
        limits = self._limits()
        if sender not in target.holding:
            target.holding.add(sender)
            self.hold(sender, "slow")
        if target.watch is None:
            loop = asyncio.get_running_loop()
            now = loop.time()
            deadline = now + limits.ping_timeout * max(1.0, target.queued / limits.bridge_queue)
            step = limits.bridge_patience / LOOKS
            target.watch = loop.call_later(step, self._look, target, target.wire.progress(), now, deadline)
        if target.queued > limits.bridge_queue + 2 * limits.frame_bridge:
            self.cut(target, "slow")  # more than its senders can have had under way: too many of them

    def _look(self, target: Peer, before: tuple[int, int], since: float, deadline: float) -> None:
        limits, now, seen = self._limits(), asyncio.get_running_loop().time(), target.wire.progress()
        if seen != before:
            since = now
        if now - since >= limits.bridge_patience or now >= deadline:
            self.cut(target, "slow")
        else:
            step = limits.bridge_patience / LOOKS
            target.watch = asyncio.get_running_loop().call_later(step, self._look, target, seen, since, deadline)

    def _relieve(self, target: Peer) -> None:
        """Read its senders again, if it is below half."""
        if 2 * target.queued < self._limits().bridge_queue:
            self._let_go(target)

    def _let_go(self, target: Peer) -> None:
        if target.watch is not None:
            target.watch.cancel()
            target.watch = None
        holding, target.holding = target.holding, set()
        for sender in holding:
            self.release(sender)

    # Ends

    def cut(self, peer: Peer, reason: str) -> None:
        """Drop a connection at once."""
        if not peer.gone:
            self._figures.cut[reason] += 1
            log.warning("connection cut", reason=reason, peer=peer.nick, address=peer.address, queued=peer.queued)
            peer.wire.abort()
            self._lost(peer)

    def end(self, peer: Peer, code: int, reason: str, *, why: str) -> None:
        """Write what waits and close a connection."""
        if not peer.gone:
            self._figures.cut[why] += 1
            self.write(peer)
            peer.wire.end(code, reason)
            self._lost(peer)

    def forget(self, peer: Peer) -> None:
        """The peer is gone: nothing waits for it, and nobody waits because of it."""
        peer.parts.clear()
        peer.backlog.clear()
        peer.queued = peer.handed = peer.backlogged = 0
        self._let_go(peer)
        self._unblock(peer)

    async def drained(self) -> None:
        """Wait until nothing waits for anybody. The caller has a deadline."""
        self._flush()
        while self._blocked:
            self._drained = asyncio.Event()
            await self._drained.wait()

    def _unblock(self, peer: Peer) -> None:
        self._blocked.discard(peer)
        if self._drained is not None and not self._blocked:
            self._drained.set()


def _frame_head(length: int) -> bytes:
    """Head of an unmasked text message of 126 bytes and more (RFC 6455 §5.2)."""
    return b"\x81\x7e" + length.to_bytes(2, "big") if length < 65536 else b"\x81\x7f" + length.to_bytes(8, "big")


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
