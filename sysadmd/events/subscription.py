"""One follower of the log: what it wants, what it may see, and the bounded queue of what it has not read yet."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from sysadmd.events.filter import Filter
from sysadmd.events.record import Record, gap
from sysadmd.limits import Limits
from sysadmd.wire.messages import Dialect

if TYPE_CHECKING:
    from sysadmd.events.fanout import Group, Item

Framing = Callable[[bytes, Record], bytes]
"""Message and record in, bytes for the socket out."""

logger = logging.getLogger(__name__)

PIECE = 64 * 1024
"""Bytes joined into one write: enough to make a system call cheap, little enough to notice a slow reader in time."""


class Visible(Hashable, Protocol):
    """What auth.Scope says about records. Immutable; equal scopes answer equally, so their followers share the work."""

    def may_see(self, topic: str) -> bool:
        """May records of this topic be seen?"""
        ...

    def may_job(self, name: str, right: str) -> bool:
        """May jobs of this name be read (`right` is "read")?"""
        ...


class Sink(Protocol):
    """What a connection gives to the log.

    Whenever `writable` was False, the connection later calls `Subscription.resume` on each subscription of this sink.
    """

    @property
    def framing(self) -> Framing:
        """How messages are wrapped for this kind of connection, such as a WebSocket header or an SSE field.

        One plain function for all sinks of a kind, since a record is framed once for all followers that share it.
        """
        ...

    def writable(self) -> bool:
        """Whether the transport takes more now: open, and its buffer below the limit."""
        ...

    def write(self, data: bytes) -> None:
        """Write whole framed messages, at once and in order. Must neither block nor call back into the log."""
        ...

    def overflow_close(self, reason: str) -> None:
        """The subscription ended because this sink did not read, or because it could not be served."""
        ...


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """What a follower asks for.

    `since` is (epoch, seq) of the last record it has. `replay_last` gives the last record of each replayed topic first;
    with a `since` that can be served it adds nothing. `policy` says what a full queue does: `gap` drops what is queued
    and tells so, `coalesce` keeps the newest record of each topic besides, `close` ends the subscription.
    """

    topics: frozenset[str]
    dialect: Dialect
    scope: Visible
    extended: bool = False
    filter: Filter | None = None
    policy: Literal["gap", "close", "coalesce"] = "gap"
    since: tuple[str, int] | None = None
    replay_last: bool = False


@dataclass(slots=True)
class Cursor:
    """A follower's place among older records: `seq` is the last it has, `told` how far a gap has told of lost ones.

    `reading` is True while a page of the store is on its way, which goes up to `end`: the gap before it tells of what
    is lost up to there, and the ring may lose more before the page comes.
    """

    seq: int
    told: int = 0
    end: int = 0
    reading: bool = False


class Hub(Protocol):
    """What a subscription needs of the log."""

    limits: Limits

    def group_of(self, spec: SubscriptionSpec, framing: Framing) -> Group:
        """The group of the followers that get the same bytes."""
        ...

    def join(self, subscription: Subscription) -> None:
        """From now on, new records go to it."""
        ...

    def leave(self, subscription: Subscription) -> None:
        """No more records."""
        ...

    def replay(self, subscription: Subscription) -> None:
        """Write older records while the sink takes them, then join."""
        ...

    def now(self) -> float:
        """Unix seconds."""
        ...


class Subscription:
    """A follower. Made by `EventLog.subscribe`; every method belongs to the event loop's thread."""

    def __init__(self, spec: SubscriptionSpec, sink: Sink, hub: Hub) -> None:
        self.spec, self.sink = spec, sink
        self.group = hub.group_of(spec, sink.framing)
        self.closed = False
        self.dropped = 0
        """Records that this follower lost to its full queue."""
        self.behind = False
        """Not at the head of the log: records are queued, being replayed, or no longer wanted."""
        self.cursor: Cursor | None = None
        """Where it stands while older records are replayed."""
        self._hub = hub
        self._queue: deque[Item] = deque()
        self._bytes = 0
        self._gap: tuple[int, int, str] | None = None

    @property
    def queued(self) -> tuple[int, int]:
        """Events and bytes that wait for the sink."""
        return len(self._queue), self._bytes

    def close(self) -> None:
        """End it; nothing is written any more. Idempotent."""
        if not self.closed:
            self.closed = self.behind = True
            self._hub.leave(self)
            self._queue.clear()
            self._bytes = 0
            self._gap = self.cursor = None

    def rescope(self, scope: Visible) -> None:
        """Apply changed permissions, to what is queued as well."""
        if self.closed:
            return
        self._hub.leave(self)
        self.spec = replace(self.spec, scope=scope)
        self.group = self._hub.group_of(self.spec, self.sink.framing)
        kept = [item for item in self._queue if self.group.permits(item[2], item[3])]
        self._queue, self._bytes = deque(kept), sum(len(item[1]) for item in kept)
        if self.cursor is None:
            self._hub.join(self)

    def resume(self) -> None:
        """Write what waits, as far as the sink takes it. Called when the transport has drained."""
        writable = self.sink.writable
        while self.behind and not self.closed and writable():
            if self._gap is not None:
                first, last, cause = self._gap
                self._gap = None
                self.write(self.group.render(gap(first, last, cause, self._hub.now())))
            elif self._queue:
                self.write(self._next_piece())
            elif self.cursor is not None:
                self._hub.replay(self)
                return
            else:
                self.behind = False

    def write(self, data: bytes) -> None:
        """Give framed messages to the sink; a sink that fails is not asked again."""
        try:
            if data:
                self.sink.write(data)
        except Exception as error:  # noqa: BLE001 - a sink is foreign code, and its failure is its own
            self.fail(f"the sink failed: {error}")

    def fail(self, reason: str) -> None:
        """End it and tell the connection why."""
        if not self.closed:
            self.close()
            try:
                self.sink.overflow_close(reason)
            except Exception:
                logger.exception("a connection could not be told that its subscription ended")

    def enqueue(self, items: Sequence[Item], size: int) -> None:
        """Keep records for later; `size` is the bytes of their frames. A full queue meets its policy."""
        if self.closed:
            return
        self.behind = True
        self._queue.extend(items)
        self._bytes += size
        limits = self._hub.limits
        if len(self._queue) > limits.queue_events or self._bytes > limits.queue_bytes:
            self._overflow()

    def lose(self, first: int, last: int, cause: str) -> None:
        """Remember that records are missing; one frame will tell, before anything that is queued."""
        self.behind = True
        self._gap = (first, last, cause) if self._gap is None else (self._gap[0], last, self._gap[2])

    def _overflow(self) -> None:
        if self.spec.policy == "close":
            self.fail(
                f"more than {self._hub.limits.queue_events} events or {self._hub.limits.queue_bytes} bytes unread"
            )
            return
        kept = self._newest() if self.spec.policy == "coalesce" else []
        lost = (
            [item[0] for item in self._queue if item not in kept] if kept else [self._queue[0][0], self._queue[-1][0]]
        )
        self.dropped += len(self._queue) - len(kept)
        self._queue.clear()
        self._queue.extend(kept)
        self._bytes = sum(len(item[1]) for item in kept)
        self.lose(lost[0], lost[-1], "overflow")

    def _newest(self) -> list[Item]:
        """The newest item of each topic; none when even these are too much."""
        newest = sorted({item[2]: item for item in self._queue}.values())
        limits = self._hub.limits
        if len(newest) > limits.queue_events or sum(len(item[1]) for item in newest) > limits.queue_bytes:
            return []
        return newest

    def _next_piece(self) -> bytes:
        frames, size = [], 0
        while self._queue and size < PIECE:
            frame = self._queue.popleft()[1]
            frames.append(frame)
            size += len(frame)
        self._bytes -= size
        return b"".join(frames)
