"""Older records for a follower that resumes: no hole, no duplicate, no memory.

A follower that comes with `since` has a *cursor*, the seq of the last record it has. It is not in any group yet, so no
new record is queued for it; it pulls. While its sink takes more, it gets the records after its cursor: from the ring
while the ring reaches back that far, else a page from the store. When the cursor has reached the head of the log it
joins its group, in the same step of the loop, so nothing can come between. A follower that pauses for an hour in the
middle costs nothing meanwhile: it goes on from the store.

The store has the durable records only. If the topics that are asked for have others, those that left the ring are lost;
one gap tells so before the older records. Pages never go beyond what is published: the store may hold records that are
committed and not delivered yet, and they come from the ring in their turn.

A queue of live records beside the reading of old ones was the alternative; it overflows exactly when somebody has much
to catch up with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, func, literal_column, select

from sysadmd.events.catalogue import is_resumable
from sysadmd.events.fanout import FanOut
from sysadmd.events.record import Record, gap, record_of
from sysadmd.events.ring import Ring
from sysadmd.events.subscription import PIECE, Cursor, Subscription
from sysadmd.store import Store
from sysadmd.store.tables import event

logger = logging.getLogger(__name__)

PAGE_ROWS = 512
PAGE_BYTES = 1024 * 1024
"""A page of the store ends at whichever comes first."""


class Replay:
    """Serves the followers that are not at the head yet. `started` is the last seq of the previous run."""

    def __init__(self, store: Store, ring: Ring, fanout: FanOut, started: int, clock: Callable[[], float]) -> None:
        self._store, self._ring, self._fanout, self._started, self._clock = store, ring, fanout, started, clock
        self.head = started
        """Seq of the newest record that was delivered."""
        self.spawn: Callable[[Subscription], object] | None = None
        """Starts `read_page` in a task that has an owner; None while the log does not run."""

    def advance(self, subscription: Subscription) -> None:
        """Write older records while the sink takes them; join the group at the head."""
        while (cursor := subscription.cursor) is not None and subscription.sink.writable():
            if cursor.reading:
                return
            if cursor.seq >= self.head:
                subscription.cursor = None
                self._fanout.join(subscription)
                subscription.resume()
            elif cursor.seq >= self._ring.floor:
                # Records that are numbered and not delivered yet are not in the ring either, so its end is the head.
                self._write(subscription, map(record_of, self._ring.after(cursor.seq)), self.head)
            elif self.spawn is None:
                subscription.fail("the log does not run, so that stored records cannot be read")
            else:
                cursor.end, cursor.reading = self._ring.floor, True
                self._tell_lost(subscription, cursor)
                self.spawn(subscription)
                return

    async def read_page(self, subscription: Subscription) -> None:
        """Write one page of the store, then go on."""
        cursor = subscription.cursor
        if cursor is None:
            return
        start, end, topics = cursor.seq, cursor.end, subscription.group.topics
        try:
            rows = await self._store.read(lambda connection: _page(connection, start, end, topics))
        except Exception as error:
            logger.exception("stored records cannot be read")
            subscription.fail(f"stored records cannot be read: {error}")
            return
        cursor.reading = False
        if not subscription.closed:
            self._write(subscription, map(record_of, rows), rows[-1][0] if rows else end)
            self.advance(subscription)

    def _tell_lost(self, subscription: Subscription, cursor: Cursor) -> None:
        """A gap for the volatile records between the cursor and the ring, unless it was told already."""
        first = max(cursor.seq, cursor.told) + 1
        if cursor.end >= first and not all(map(is_resumable, subscription.spec.topics)):
            cause = "restart" if first <= self._started else "expired"
            cursor.told = cursor.end
            subscription.write(subscription.group.render(gap(first, cursor.end, cause, self._clock())))

    def _write(self, subscription: Subscription, records: Iterable[Record], end: int) -> None:
        """Write records in pieces while the sink takes them; `end` is where the cursor stands after all of them."""
        cursor = subscription.cursor
        if cursor is None or not subscription.sink.writable():
            return  # a page that cannot be written is read again after the next `resume`
        frames: list[bytes] = []
        size = 0
        for record in records:
            if subscription.group.sees(record):
                frame = subscription.group.render(record)
                frames.append(frame)
                size += len(frame)
            if size >= PIECE:
                cursor.seq = record.seq
                subscription.write(b"".join(frames))
                frames, size = [], 0
                if subscription.closed or not subscription.sink.writable():
                    return
        cursor.seq = end
        subscription.write(b"".join(frames))


def _page(connection: Connection, cursor: int, end: int, topics: frozenset[str]) -> Sequence[Sequence[Any]]:
    """Stored rows after `cursor` up to `end`; none when the store has no more of them."""
    columns = (event.c.seq, event.c.time, event.c.topic, event.c.permission, event.c.data)
    # Several topics are read by seq, whatever the planner thinks of the topics' index: by that it would sort all that
    # is left for each page.
    topic = event.c.topic if len(topics) == 1 else func.coalesce(event.c.topic, literal_column("''"))
    wanted = (event.c.seq > cursor) & (event.c.seq <= end) & topic.in_(topics)
    rows: list[Sequence[Any]] = []
    size = 0
    for row in connection.execute(select(*columns).where(wanted).order_by(event.c.seq).limit(PAGE_ROWS)):
        rows.append(row)
        size += len(row[4])
        if size > PAGE_BYTES:
            break
    return rows
