"""What is forgotten: jobs that left the queue, finished processes of the dispatcher, their output, and old events.

A pass looks for what may go on a reader's connection, and deletes a bounded number of rows in each transaction, so that
a queue of a million finished jobs that gets its first limit is busy for minutes and slow never. Files go after their
rows are gone: the other way round, a crash would leave a job whose output is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec
from sqlalchemy import Connection, delete, func, select

from sysadmd.config import RetentionConfig
from sysadmd.errors import SysadmdError
from sysadmd.events.log import EventLog
from sysadmd.events.record import Draft
from sysadmd.jobs.counters import Counters
from sysadmd.jobs.enqueueing import REQUEST_KEY_LIFE
from sysadmd.store import Store
from sysadmd.store.tables import FINAL_STATES
from sysadmd.store.tables import attempt as attempts
from sysadmd.store.tables import event as events
from sysadmd.store.tables import job as jobs
from sysadmd.store.tables import request_key as request_keys

log = logging.getLogger(__name__)

T = TypeVar("T")

ROWS = 500
"""Jobs or events of one transaction: some ten milliseconds."""
STEPS = 20_000
"""Steps of these jobs: a large transfer has a transaction of its own."""
SCANNED = 20_000
"""Jobs that one look for old ones passes over: those that stay, because somebody has yet to deal with them."""
EVERY = 600.0
"""Seconds between two passes."""
BREATH = 0.02
"""Seconds between two transactions of a pass, for others to come in."""


class Pruning:
    """The passes. `retention` may be replaced at any time."""

    def __init__(
        self, store: Store, events: EventLog, *, retention: RetentionConfig, output: Path, clock: Callable[[], float]
    ) -> None:
        self.retention = retention
        self._store, self._events, self._output, self._clock = store, events, output, clock

    async def run(self) -> None:
        """A pass now and then, for ever; one that fails is tried again at its next time."""
        while True:
            await anyio.sleep(EVERY)
            try:
                await self.look()
            except SysadmdError as error:
                log.error("old jobs and events are not deleted now, that is tried again: %s", error)
            except Exception:
                log.exception("old jobs and events are not deleted now, that is tried again")

    async def look(self) -> tuple[int, int]:
        """One pass: how many jobs and events are gone."""
        gone = 0
        after: int | None = 0
        while after is not None:
            look = partial(old_jobs, retention=self.retention, now=self._clock(), after=after)
            ids, after = await self._store.read(look)
            if ids:
                paths = await self._submit(partial(delete_jobs, ids=ids))
                await anyio.to_thread.run_sync(remove_files, self._output, paths)
                gone += len(ids)
                await anyio.sleep(BREATH)
        return gone, await self._prune_events()

    async def _prune_events(self) -> int:
        last = await self._store.read(partial(last_old_event, retention=self.retention, now=self._clock()))
        gone = 0
        while last is not None and (some := await self._submit(partial(delete_events, last=last))):
            gone += some
            await anyio.sleep(BREATH)
        before = self._clock() - REQUEST_KEY_LIFE
        if await self._store.read(partial(any_request_key, before=before)):
            await self._submit(partial(delete_request_keys, before=before))
        return gone

    async def _submit(self, write: Callable[[Connection], T]) -> T:
        def run(connection: Connection) -> tuple[T, Sequence[Draft]]:
            return write(connection), ()

        return await self._events.submit(run)


def old_jobs(
    connection: Connection, retention: RetentionConfig, now: float, after: int
) -> tuple[list[str], int | None]:
    """Some of the oldest jobs that may go, from the one after number `after` on, and where to go on; None: that is all.

    A job of the queue goes when it has left it, one of the dispatcher when it is finished.
    """
    newest = connection.execute(select(func.max(jobs.c.seq))).scalar() or 0
    last_old = 0 if retention.jobs_count is None else newest - retention.jobs_count
    columns = (jobs.c.seq, jobs.c.id, jobs.c.counters, jobs.c.state, jobs.c.finished_at, jobs.c.archived_at)
    found = select(*columns).where(jobs.c.seq > after).order_by(jobs.c.seq).limit(SCANNED)
    rows = connection.execute(found).all()
    gone: list[str] = []
    size = 0
    for seq, job_id, counters, state, finished_at, archived_at in rows:
        left = archived_at if counters is not None else finished_at if state in FINAL_STATES else None
        if left is None:
            continue
        if seq <= last_old or (retention.jobs_age is not None and left < now - retention.jobs_age):
            gone.append(job_id)
            size += 1 if counters is None else msgspec.convert(counters, Counters).total
            if len(gone) >= ROWS or size >= STEPS:
                return gone, seq
    return gone, rows[-1].seq if len(rows) == SCANNED else None


def delete_jobs(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Delete jobs with all that belongs to them; the paths of their output files."""
    found = select(attempts.c.output_path).where(attempts.c.job_id.in_(ids), attempts.c.output_path.is_not(None))
    paths = list(connection.execute(found).scalars())
    connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
    return paths


def last_old_event(connection: Connection, retention: RetentionConfig, now: float) -> int | None:
    """Seq of the newest event that may go; None: none may."""
    found: list[int] = []
    if retention.events_count is not None:
        surplus = select(events.c.seq).order_by(events.c.seq.desc()).offset(retention.events_count).limit(1)
        found += connection.execute(surplus).scalars()
    if retention.events_age is not None:
        # Times go up with the numbers: the first event that is young enough ends the old ones.
        young = select(func.min(events.c.seq)).where(events.c.time >= now - retention.events_age)
        first = connection.execute(young).scalar()
        older = select(func.max(events.c.seq))
        seq = connection.execute(older if first is None else older.where(events.c.seq < first)).scalar()
        found += [] if seq is None else [seq]
    return max(found, default=None)


def delete_events(connection: Connection, last: int) -> int:
    """Delete some of the events up to `last`; how many there were."""
    some = connection.execute(select(events.c.seq).where(events.c.seq <= last).order_by(events.c.seq).limit(ROWS))
    upto = max(some.scalars(), default=None)
    if upto is None:
        return 0
    return connection.execute(delete(events).where(events.c.seq <= upto)).rowcount


def any_request_key(connection: Connection, before: float) -> bool:
    """Whether a request key is forgotten."""
    forgotten = select(request_keys.c.key).where(request_keys.c.created_at < before).limit(1)
    return connection.execute(forgotten).first() is not None


def delete_request_keys(connection: Connection, before: float) -> int:
    """Delete the request keys that are forgotten."""
    return connection.execute(delete(request_keys).where(request_keys.c.created_at < before)).rowcount


def remove_files(root: Path, paths: Iterable[str]) -> int:
    """Delete output files below `root`, and the directories that are empty then; how many files there were."""
    removed = 0
    directories = set()
    for path in paths:
        file = root / path
        if ".." in file.parts or not file.is_relative_to(root):
            log.error("an output path of the store leads out of %s and is left alone", root)
            continue
        try:
            file.unlink()
            removed += 1
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("an output file cannot be removed: %s", error)
        directories.add(file.parent)
    for directory in directories - {root}:
        try:
            directory.rmdir()
        except OSError:
            continue  # others are in it
    return removed
