"""The ordered log.

Every record of a node, and every change of its stored state, passes one FIFO. What comes out of it has one order, the
same in the database, in the ring and on every socket.

    publish, submit -> FIFO -> batch -> writer thread: one transaction -> loop: ring, groups, futures

*One baton.* Numbers are given by whoever holds the baton: the loop, or the writer while it has a batch. One batch is in
flight at a time. While it is, everything queues behind it; when it returns, the loop first hands over the next batch
and then delivers the finished one, so that the disk and the sockets work at the same time. Changes submitted in one
turn of the loop, or while a commit runs, share the next transaction: that is the group commit, and no timer is needed
for it.

*Volatile records are free.* When nothing is before it, a volatile record is numbered and delivered in the call of
`publish`, without a thread. When a durable one is before it, it waits for that one's commit: a follower never sees the
output of a process whose start was not committed.

*A crash* loses nothing that was acknowledged: futures are resolved, and records delivered, after the commit only. It
repeats no seq: they come from blocks whose end is stored before the first of them is used (writer.py).

*Bounds.* The FIFO is bounded. When it is full, `submit` and durable drafts are refused with `Unavailable`; volatile
drafts are dropped, and one gap takes their place.

A queue for each writer, or a lock around the counter, was the alternative: both order the numbers, neither orders the
commits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import anyio
import anyio.abc
import anyio.to_thread
from sqlalchemy import Connection, func, select

from sysadmd.errors import Unavailable
from sysadmd.events.catalogue import TOPICS
from sysadmd.events.fanout import FanOut, Group
from sysadmd.events.record import Draft, Numbered, Posted, Record, number, post, record_of, row_of
from sysadmd.events.replay import Replay
from sysadmd.events.ring import Ring
from sysadmd.events.subscription import Cursor, Framing, Sink, Subscription, SubscriptionSpec
from sysadmd.events.writer import BLOCK, RESERVED, Batch, Change, Dropped, Entry, Writer
from sysadmd.limits import Limits
from sysadmd.store import Store
from sysadmd.store.rows import get_meta, put_meta
from sysadmd.store.tables import event

logger = logging.getLogger(__name__)

T = TypeVar("T")

PENDING_ENTRIES = 16_384
"""Entries of the FIFO: a second of the busiest machine while the disk is stuck."""
PENDING_BYTES = 32 * 1024 * 1024
"""Bytes of the drafts in the FIFO."""
TOP_UP_AGAIN = BLOCK // 64
"""Records until a reservation that failed is tried again: some thirty times before the numbers run out."""
BATCH_ENTRIES = 512
"""Entries of one transaction: a commit is a small part of its time already, and a turn of the loop delivers it all."""


class EventLog:
    """The log of one node. Every method belongs to the event loop's thread."""

    def __init__(self, store: Store, *, node: str, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self.limits, self.node, self.epoch = limits, node, store.epoch
        self._clock, self._store = clock, store
        started = store.write_now(_reserve)
        self._next, self._reserved = started + 1, started + BLOCK
        self._ring = Ring(started, limits.ring_events, limits.ring_bytes)
        self._fanout = FanOut(self.epoch, node)
        self._replay = Replay(store, self._ring, self._fanout, started, clock)
        self._last = store.read_now(_last_records)
        self._fifo: deque[Entry] = deque()
        self._fifo_bytes = 0
        self._writer: Writer | None = None
        self._busy = False
        self._flying: Batch | None = None
        self._top_up_at = 0
        self._kicked = False
        self._closing = False
        self._idle = asyncio.Event()

    @property
    def head(self) -> int:
        """Seq of the newest record that was delivered."""
        return self._replay.head

    @property
    def followers(self) -> int:
        """Subscriptions at the head of the log."""
        return len(self._fanout)

    def resumes(self, spec: SubscriptionSpec) -> bool:
        """Whether the spec has a resume token and it is of this history: its follower goes on and needs no snapshot."""
        return spec.since is not None and spec.since[0] == self.epoch and 0 <= spec.since[1] <= self.head

    def last(self, topic: str) -> Record | None:
        """The last record of a replayed topic, of an earlier run too."""
        return self._last.get(topic)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Own the writer thread. When cancelled, refuse what is new, write what was accepted, and end."""
        self._writer = Writer(self._store, self._clock)
        self._writer.start()
        async with anyio.create_task_group() as tasks:
            self._replay.spawn = lambda subscription: tasks.start_soon(self._replay.read_page, subscription)
            self._kick()
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                self._replay.spawn = None
                with anyio.CancelScope(shield=True):
                    await self._drain(self._writer)

    def submit(self, write: Callable[[Connection], tuple[T, Sequence[Draft]]]) -> asyncio.Future[T]:
        """Run `write` in the writer's transaction, in order, and publish the drafts that it returns with its result.

        The future has the result after the commit, when the records were delivered; or the exception that `write`
        raised, and then nothing of it was written; or Unavailable when the database cannot be written. `write` runs
        once, in another thread, and must touch nothing but its connection. A caller that no longer waits changes
        nothing. Raises Unavailable when too much is waiting, or the log ends.
        """
        if self._closing or len(self._fifo) >= PENDING_ENTRIES:
            raise Unavailable("the server is stopping" if self._closing else "too many changes wait for the disk")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._append(Change(write, future), 0)
        return future

    def publish(self, draft: Draft) -> None:
        """Publish a record that changes no stored state. Never blocks.

        Raises TypeError for data that is not JSON; Unavailable for a durable draft when too much is waiting.
        """
        posted = post(draft)
        durable = posted.durable
        if not durable and not self._busy and not self._fifo and self._next <= self._reserved:
            self._deliver(number(posted, self._next, self._clock()))
            self._next += 1
            self._top_up()
        elif self._closing or len(self._fifo) >= PENDING_ENTRIES or self._fifo_bytes >= PENDING_BYTES:
            if durable:
                raise Unavailable("the server is stopping" if self._closing else "too many records wait for the disk")
            self._drop()
        else:
            self._append(posted, len(posted.json))

    def subscribe(self, spec: SubscriptionSpec, sink: Sink) -> Subscription:
        """Follow the log. What memory holds of `since` and `replay_last` is written before this returns."""
        subscription = Subscription(spec, sink, self)
        since = self._since(spec, subscription)
        if since is not None:
            subscription.cursor, subscription.behind = Cursor(since), True
        else:
            self._fanout.join(subscription)
            if spec.replay_last:
                self._replay_last(subscription)
        subscription.resume()
        return subscription

    # What a subscription needs of the log (subscription.Hub).

    def group_of(self, spec: SubscriptionSpec, framing: Framing) -> Group:
        """The group of the followers that get the same bytes."""
        return self._fanout.group_of(spec, framing)

    def join(self, subscription: Subscription) -> None:
        """From now on, new records go to it."""
        self._fanout.join(subscription)

    def leave(self, subscription: Subscription) -> None:
        """No more records."""
        self._fanout.leave(subscription)

    def replay(self, subscription: Subscription) -> None:
        """Write older records while the sink takes them, then join."""
        self._replay.advance(subscription)

    def now(self) -> float:
        """Unix seconds."""
        return self._clock()

    def _since(self, spec: SubscriptionSpec, subscription: Subscription) -> int | None:
        """The cursor to start from; a token of another history is answered with a gap."""
        if spec.since is None:
            return None
        if self.resumes(spec):
            return spec.since[1]
        subscription.lose(1, self.head, "restart")
        return None

    def _replay_last(self, subscription: Subscription) -> None:
        records = [self._last[topic] for topic in subscription.spec.topics if topic in self._last]
        for record in sorted(records, key=lambda record: record.seq):
            if subscription.group.sees(record):
                frame = subscription.group.render(record)
                subscription.enqueue([(record.seq, frame, record.topic, record.permission)], len(frame))

    def _append(self, entry: Entry, size: int) -> None:
        self._fifo.append(entry)
        self._fifo_bytes += size
        self._kick()

    def _drop(self) -> None:
        last = self._fifo[-1] if self._fifo else None
        if isinstance(last, Dropped):
            last.count += 1
        else:
            self._fifo.append(Dropped(1))
            self._kick()

    def _kick(self) -> None:
        """Begin a batch at the end of this turn of the loop, so that all of the turn's changes share it."""
        if not self._busy and not self._kicked and self._writer is not None and self._fifo:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._kicked = False
        if not self._busy:
            self._turn(None)

    def _top_up(self) -> None:
        """Reserve seqs long before they run out: an empty batch does nothing else. One that failed is not repeated for
        each record, only for each part of what is left.
        """
        if self._next >= self._top_up_at and self._next > self._reserved - BLOCK // 2 and self._writer is not None:
            self._top_up_at = self._next + TOP_UP_AGAIN
            self._hand_over()

    def _turn(self, finished: Batch | None) -> None:
        """The baton is here: take what needs no disk, hand over what does, and deliver what is finished."""
        if finished is not None:
            self._busy, self._flying = False, None
            self._next, self._reserved = finished.next, finished.reserved
        free = self._take_volatile()
        if self._fifo:
            self._hand_over()
        if finished is not None:
            for numbered in finished.records:
                self._deliver(numbered)
            _resolve(finished)
        for numbered in free:
            self._deliver(numbered)
        if not self._busy and not self._fifo:
            self._idle.set()

    def _take_volatile(self) -> list[Numbered]:
        taken = []
        while self._fifo and self._next <= self._reserved:
            entry = self._fifo[0]
            if not isinstance(entry, Posted) or entry.durable:
                break
            self._fifo.popleft()
            self._fifo_bytes -= len(entry.json)
            taken.append(number(entry, self._next, self._clock()))
            self._next += 1
        return taken

    def _hand_over(self) -> None:
        if self._writer is None:
            return
        entries: list[Entry] = []
        while self._fifo and len(entries) < BATCH_ENTRIES:
            entry = self._fifo.popleft()
            entries.append(entry)
            if isinstance(entry, Posted):
                self._fifo_bytes -= len(entry.json)
        self._busy = True
        self._idle.clear()
        loop = asyncio.get_running_loop()
        self._flying = Batch(entries, self._next, self._reserved)
        self._writer.put(self._flying, lambda batch: _call(loop, self._turn, batch))

    def _deliver(self, numbered: Numbered) -> None:
        record = numbered[0]
        self._ring.append(row_of(numbered))
        self._replay.head = record.seq
        if record.topic in TOPICS and TOPICS[record.topic].replayed:
            self._last[record.topic] = record
        try:
            self._fanout.deliver(record)
        except Exception:
            # A scope or a sink is foreign code. Whoever waits for the rest of the batch must not pay for it.
            logger.exception("record %d of topic %s did not reach everybody", record.seq, record.topic)

    async def _drain(self, writer: Writer) -> None:
        """Wait for what was accepted, for the time of a drain at most; tell those whose change did not make it."""
        self._closing = True
        with anyio.move_on_after(self.limits.drain):
            while self._busy or self._fifo:
                self._idle.clear()
                await self._idle.wait()
        self._writer = None
        self._fanout.flush()
        _refuse(self._fifo, "the server stopped before this was written")
        self._fifo.clear()
        await anyio.to_thread.run_sync(writer.stop, self.limits.drain)
        await asyncio.sleep(0)  # what the thread has just handed back is delivered
        if self._flying is not None:
            _refuse(self._flying.entries, "the server stopped while this was written; it may be stored")


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[Batch], None], batch: Batch) -> None:
    try:
        loop.call_soon_threadsafe(function, batch)
    except RuntimeError:
        logger.warning("the loop ended before a batch of %d entries was delivered", len(batch.entries))


def _refuse(entries: Iterable[Entry], reason: str) -> None:
    for entry in entries:
        if isinstance(entry, Change) and not entry.future.done():
            entry.future.set_exception(Unavailable(reason))


def _resolve(batch: Batch) -> None:
    for entry in batch.entries:
        if isinstance(entry, Change) and not entry.future.done():
            if entry.error is None:
                entry.future.set_result(entry.result)
            else:
                entry.future.set_exception(entry.error)


def _reserve(connection: Connection) -> int:
    """The last seq that earlier runs may have used; the block after it is ours when this is committed."""
    used = int(get_meta(connection, RESERVED) or 0)
    newest = connection.execute(select(func.max(event.c.seq))).scalar() or 0
    started = max(used, newest)
    put_meta(connection, RESERVED, str(started + BLOCK))
    return started


def _last_records(connection: Connection) -> dict[str, Record]:
    columns = (event.c.seq, event.c.time, event.c.topic, event.c.permission, event.c.data)
    found: dict[str, Any] = {}
    for topic in TOPICS.values():
        if topic.replayed:
            query = select(*columns).where(event.c.topic == topic.name).order_by(event.c.seq.desc()).limit(1)
            row = connection.execute(query).first()
            if row is not None:
                found[topic.name] = record_of(row)
    return found
