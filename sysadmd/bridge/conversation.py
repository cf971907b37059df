"""What a peer behind a bridge and this server say to each other: a session whose connection is a place in relay frames.

A conversation is the outlet of its session. It writes relay payloads in one of two ways. An *open* one is that of the
original programs: plain JSON or base64, whichever the peer used last, readable and forgeable for the bridge. A *sealed*
one is TLS inside the payloads (sysadmd.keys.seal).

Nothing here waits. What a peer does not read stays behind the window of its seal, and while its answers pile up its
messages are neither looked at nor credited, so that it stops itself; the link goes on reading for the others. An open
peer has no window, so only the link as a whole can be slow for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from sysadmd.auth.identity import Peer
from sysadmd.errors import SealError
from sysadmd.events.subscription import Framing
from sysadmd.keys.seal import Seal, SealingContext
from sysadmd.listen.measured import measured, messages
from sysadmd.listen.websocket import CLOSE_TRY_LATER
from sysadmd.rpc.engine import Engine
from sysadmd.wire.relay import sealed_close, wrapped

CLOSE_TOO_BIG = 1009
"""RFC 6455 §7.4.1: more than the peer may send, or than it reads."""


class Way(Protocol):
    """What a conversation needs of the link that it goes through."""

    def writable(self) -> bool:
        """Whether the link takes more now."""
        ...

    def relay(self, peer: str, payload: bytes) -> None:
        """Send a payload to a peer."""
        ...

    def drop(self, reason: str) -> None:
        """Count something that was not handed on."""
        ...

    def forget(self, conversation: Conversation) -> None:
        """A conversation is over."""
        ...


class Conversation:
    """The part that both kinds share. `peer_id` is the peer's id on the bridge."""

    framing: Framing = staticmethod(measured)

    def __init__(self, way: Way, engine: Engine, peer_id: str, peer: Peer, *, classic: bool) -> None:
        self._way, self._engine, self.peer_id = way, engine, peer_id
        self.limit = engine.limits.frame_unauthenticated
        """Bytes of a message that the peer may send now."""
        self.closing = False
        self._stalled = False
        self.session = engine.open(self, peer, classic=classic)

    def receive(self, payload: bytes) -> None:
        """Take one payload of the peer."""
        raise NotImplementedError

    def writable(self) -> bool:
        """Whether the peer keeps up; once it did not, `resume` is due."""
        free = self._is_free()
        self._stalled = self._stalled or not free
        return free

    def write(self, data: bytes) -> None:
        """Write finished frames."""
        if not self.closing:
            self._deliver(messages(data))

    def send(self, payload: bytes) -> None:
        """Write one message, unless the conversation is over."""
        if payload and not self.closing:
            self._deliver((payload,))

    def limit_frames(self, size: int) -> None:
        """From now on refuse messages above `size` bytes."""
        self.limit = size

    def close(self, code: int, reason: str) -> None:
        """End it. A peer of a sealed conversation is told the reason; the original programs have no word for that, and
        learn from their next request that they are not logged in.
        """
        if not self.closing:
            self._say_goodbye(reason)
            self.vanish()

    def overflow_close(self, reason: str) -> None:
        """A subscription with the policy `close` overflowed."""
        self.close(CLOSE_TRY_LATER, reason)

    def vanish(self) -> None:
        """End it without a word: the peer is gone, or has begun anew."""
        if not self.closing:
            self.closing = True
            self._way.forget(self)
            # Not now: the log may be in the middle of writing to this session's subscriptions.
            asyncio.get_running_loop().call_soon(self.session.close)

    def resume(self) -> None:
        """Write what waited, if something did and may go now."""
        if self._stalled and self._is_free():
            self._stalled = False
            self.session.subscriptions.resume()

    def _is_free(self) -> bool:
        return not self.closing and self._way.writable()

    def _deliver(self, frames: Iterable[bytes]) -> None:
        raise NotImplementedError

    def _say_goodbye(self, reason: str) -> None:
        """Tell the peer that this is the end."""


class OpenConversation(Conversation):
    """Plain JSON and base64 of it. `receive` takes the message, and `in_base64` says how it came."""

    in_base64 = False
    asks_only = False
    """The peer has asked nothing but who is here, and is gone once that is answered."""

    def receive(self, payload: bytes) -> None:
        """Take one message, out of its payload already."""
        self.session.receive(payload)

    def _deliver(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            if self.closing:
                return  # the one before was too much
            self._way.relay(self.peer_id, wrapped(frame) if self.in_base64 else frame)
        if self.asks_only:
            # The call that is answered here still counts as running.
            asyncio.get_running_loop().call_soon(self._leave)

    def _leave(self) -> None:
        if self.asks_only and not self.session.calls:
            self.vanish()


class SealedConversation(Conversation):
    """TLS inside the payloads. Messages wait while answers do, and their room in the window with them."""

    def __init__(self, way: Way, engine: Engine, peer_id: str, peer: Peer, context: SealingContext) -> None:
        self._seal = Seal.server(context, max_message=engine.limits.frame_unauthenticated)
        self._inbox: deque[bytes] = deque()
        self._working = False
        super().__init__(way, engine, peer_id, peer, classic=False)
        self.session.binding = context.binding

    def receive(self, payload: bytes) -> None:
        """Take one payload, which may bring several messages, or credit, or the end."""
        try:
            self._inbox += self._seal.receive(payload)
        except SealError as error:
            self._fail(error)
        self._work()

    def limit_frames(self, size: int) -> None:
        """From now on refuse messages above `size` bytes."""
        self.limit = self._seal.max_message = size

    def resume(self) -> None:
        """Write what waited, if something did and may go now."""
        self._work()
        super().resume()

    def _is_free(self) -> bool:
        return super()._is_free() and self._seal.writable

    def _deliver(self, frames: Iterable[bytes]) -> None:
        bound = self._engine.limits.bridge_output
        if self._seal.pending > bound:
            self._way.drop("overflow")
            self.close(CLOSE_TOO_BIG, f"more than {bound} bytes unread")
            return
        try:
            for frame in frames:
                self._seal.send(frame)
        except SealError as error:
            self._fail(error)
        self._work()

    def _work(self) -> None:
        """Relay what the window has room for, and take messages as long as their answers find room."""
        if self._working or self.closing:
            return  # the one that works writes what this call would
        self._working = True
        try:
            self._relay()
            while self._inbox and self._keeps_up():
                self.session.receive(self._inbox.popleft())
                if not self._inbox or not self._keeps_up():
                    self._relay()
            if not self._inbox and self._keeps_up():
                self._seal.release()
                self._relay()
        except SealError as error:
            self._fail(error)
        finally:
            self._working = False
        if self._stalled and self._is_free():
            # Not now: the log may be in the middle of writing to this session's subscriptions.
            asyncio.get_running_loop().call_soon(super().resume)

    def _keeps_up(self) -> bool:
        """Whether the peer reads what it is told."""
        return not self.closing and self._seal.pending < self._engine.limits.write_buffer

    def _relay(self) -> None:
        for payload in self._seal.outgoing():
            self._way.relay(self.peer_id, payload)

    def _say_goodbye(self, reason: str) -> None:
        self._way.relay(self.peer_id, sealed_close(reason))

    def _fail(self, error: SealError) -> None:
        self._way.drop(f"sealed: {error.code}")
        if error.code == "closed":
            self.vanish()
        else:
            self.close(CLOSE_TOO_BIG if error.code in ("size", "window") else CLOSE_TRY_LATER, str(error))
