"""The thread that commits: one batch, one transaction, one flush to the disk.

A change that fails must not take its neighbours with it. Two ways were measured, in changes a second and batches of
512: a savepoint around each change (41,000 through the driver's cursor, 8,400 through SQLAlchemy's `begin_nested`), and
running the batch without them and, after a failure, again one by one (57,000). The second saves 7 us of a change, and
it runs functions twice, which their authors would have to know; so each change has its savepoint, by the cursor. Drafts
without a change need none.

A disk error is not one change's failure: SQLite may have rolled back everything. Releasing the savepoint then fails,
the batch fails as a whole, each caller is told, and volatile records, which owe nothing to the disk, go out all the
same.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert
from sqlalchemy.engine.interfaces import DBAPICursor

from sysadmd.events.record import Draft, Numbered, Posted, gap, number, post
from sysadmd.store import Store
from sysadmd.store.faults import explain
from sysadmd.store.prepared import Prepared
from sysadmd.store.rows import put_meta
from sysadmd.store.tables import event

logger = logging.getLogger(__name__)

BLOCK = 65_536
"""Seqs reserved at once. After a crash the log goes on after the block, so none is ever used twice; writing the
reservation with each volatile record would make it a durable one."""
COMPLAIN_EVERY = 10.0
"""Seconds between two lines about batches that fail."""
RESERVED = "seq_reserved"
"""Key of the reservation in the table `meta`."""

WriteFunction = Callable[[Connection], tuple[Any, Sequence[Draft]]]


@dataclass(slots=True, eq=False)
class Change:
    """A write function in the FIFO, and who waits for it."""

    write: WriteFunction
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class Dropped:
    """Volatile records that found the FIFO full."""

    count: int


_INSERT_EVENT = Prepared(insert(event), [column.name for column in event.columns])

Entry = Change | Posted | Dropped


@dataclass(slots=True, eq=False)
class Batch:
    """Entries that share a transaction. The writer moves `next` and `reserved` on and fills `records`."""

    entries: Sequence[Entry]
    next: int
    reserved: int
    records: list[Numbered] = field(default_factory=list)


class Complaint:
    """Says that batches fail: the first time with its traceback, then at most one line in `COMPLAIN_EVERY` seconds. A
    full disk fails every batch, and the log may be on that disk too.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed = self._entries = 0
        self._next = 0.0

    def about(self, error: Exception, entries: int) -> None:
        """A batch of so many entries has failed."""
        self._failed, self._entries = self._failed + 1, self._entries + entries
        now = self._clock()
        if self._failed == 1:
            logger.error("a batch of %d entries was not written", entries, exc_info=error)
        elif now >= self._next:
            logger.error("%d batches of %d entries were not written: %s", self._failed, self._entries, error)
        else:
            return
        self._next = now + COMPLAIN_EVERY

    def ended(self) -> None:
        """A batch was written."""
        if self._failed:
            logger.warning("the database is written again, after %d batches that were not", self._failed)
            self._failed = self._entries = 0


class Writer:
    """Runs batches, one after the other, in a thread of its own."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._owed = 0
        """Lost records that no gap has told of yet, because no number was left for it."""
        self._complaint = Complaint()
        self._batches: queue.SimpleQueue[tuple[Batch, Callable[[Batch], None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sysadmd-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread after the batches that it has; blocks for `timeout` seconds at most."""
        self._batches.put(None)
        self._thread.join(timeout)

    def put(self, batch: Batch, done: Callable[[Batch], None]) -> None:
        """Run a batch; `done` is called in the writer's thread."""
        self._batches.put((batch, done))

    def _run(self) -> None:
        while (work := self._batches.get()) is not None:
            batch, done = work
            self.commit(batch)
            done(batch)

    def commit(self, batch: Batch) -> None:
        """Run a batch in the calling thread. Never raises: what failed is said in its changes."""
        reserved = batch.reserved
        try:
            with self._store.transaction() as connection:
                self._apply(connection, batch)
            self._owed = 0
            self._complaint.ended()
        except Exception as error:  # noqa: BLE001 - it goes to everybody who waits, and into the log
            self._complaint.about(error, len(batch.entries))
            batch.reserved = reserved
            self._fail(batch, explain(error))

    def _apply(self, connection: Connection, batch: Batch) -> None:
        rows: list[tuple[Any, ...]] = []
        savepoints = connection.connection.cursor()
        if self._owed:
            _drop(batch, self._owed, self._clock())
        for entry in batch.entries:
            if isinstance(entry, Posted):
                self._number(batch, entry, rows)
            elif isinstance(entry, Change):
                for posted in _run_change(connection, savepoints, entry):
                    self._number(batch, posted, rows)
            else:
                _drop(batch, entry.count, self._clock())
        _INSERT_EVENT.run(connection, rows)
        if batch.next > batch.reserved - BLOCK // 2:
            batch.reserved = batch.next + BLOCK
            put_meta(connection, RESERVED, str(batch.reserved))

    def _number(self, batch: Batch, posted: Posted, rows: list[tuple[Any, ...]]) -> None:
        numbered = number(posted, batch.next, self._clock())
        batch.next += 1
        batch.records.append(numbered)
        if posted.durable:
            record, json = numbered
            rows.append((record.seq, record.time, record.topic, record.permission, json.decode()))

    def _fail(self, batch: Batch, error: Exception) -> None:
        """Volatile records go out, under new seqs, since a commit that failed may have left its own behind.

        They have numbers as long as the last reservation lasts. After that they are lost, and the gap that tells so
        waits for the next reservation: a number that is not reserved could be given again after a crash.
        """
        batch.records.clear()
        lost = self._owed
        for entry in batch.entries:
            if isinstance(entry, Change):
                entry.error = entry.error or error
            elif isinstance(entry, Dropped):
                lost += entry.count
            elif entry.durable or batch.next > batch.reserved:
                lost += 1
            else:
                batch.records.append(number(entry, batch.next, self._clock()))
                batch.next += 1
        self._owed = 0 if batch.next + lost <= batch.reserved + 1 else lost
        if lost and not self._owed:
            _drop(batch, lost, self._clock())


def _run_change(connection: Connection, savepoints: DBAPICursor, change: Change) -> Sequence[Posted]:
    """Run one change inside its savepoint; its own failure ends here, that of the transaction does not."""
    savepoints.execute("SAVEPOINT change")
    try:
        change.result, drafts = change.write(connection)
        posted = [post(draft) for draft in drafts]
    except Exception as error:  # noqa: BLE001 - it goes to the future of the change
        change.error = explain(error)
        savepoints.execute("ROLLBACK TO change")
        posted = []
    savepoints.execute("RELEASE change")
    return posted


def _drop(batch: Batch, count: int, now: float) -> None:
    """One gap in place of `count` records, which keep their seqs so that the hole can be seen."""
    record = gap(batch.next, batch.next + count - 1, "overflow", now)
    batch.next += count
    posted = post(Draft(record.topic, record.data, durable=False))
    batch.records.append((record, posted.json))
