"""What is asked of stored jobs: one, many, their steps, attempts and history. For a reader's connection."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

import msgspec
from sqlalchemy import Connection, Select, func, select

from sysadmd.jobs import queue_table as table
from sysadmd.jobs.model import QUEUE_STATES
from sysadmd.jobs.queue_events import QUEUE
from sysadmd.jobs.queue_rows import attempt_view, job_view, step_view
from sysadmd.jobs.views import AttemptView, HistoryPage, HistoryRow, JobView, StepView
from sysadmd.store import Store
from sysadmd.store.tables import attempt as attempts
from sysadmd.store.tables import event as events
from sysadmd.store.tables import job as jobs
from sysadmd.store.tables import job_count
from sysadmd.store.tables import step as steps

ROWS_MAX = 1000
"""Rows of one answer; whoever wants more asks for the next page."""

Sort: TypeAlias = Literal["seq", "state", "priority", "started_at", "finished_at"]

LIVE_STATES = frozenset(QUEUE_STATES)


class Wanted(TypedDict, total=False):
    """Which jobs a listing has; what is left out bounds nothing.

    `archived`: those that left the queue (default False; None: both). `after`: the `seq` of the last one of the page
    before.
    """

    states: Collection[str] | None
    name: str | None
    owner: str | None
    kinds: Collection[str] | None
    archived: bool | None
    after: int | None


_MINE = jobs.c.counters.is_not(None)
"""A job of the queue, and not the dispatcher's."""


def detail(connection: Connection, key: str | int) -> JobView | None:
    """A job by its id or its number."""
    column = jobs.c.seq if isinstance(key, int) else jobs.c.id
    found = _jobs(connection, _select().where(column == key))
    return found[0] if found else None


def by_ext_id(connection: Connection, ext_id: str) -> JobView | None:
    """The newest job of that name of its owner's."""
    found = _jobs(connection, _select().where(jobs.c.ext_id == ext_id).order_by(jobs.c.seq.desc()).limit(1))
    return found[0] if found else None


def beginning_with(connection: Connection, prefix: str, limit: int = 2) -> list[str]:
    """Ids that begin with these hexadecimal digits, oldest first."""
    # No digit comes after `f`, and `g` is the character that does.
    wanted = select(jobs.c.id).where(_MINE, jobs.c.id >= prefix, jobs.c.id < f"{prefix}g")
    return list(connection.execute(wanted.order_by(jobs.c.id).limit(_rows(limit))).scalars())


def listing(
    connection: Connection,
    *,
    states: Collection[str] | None = None,
    name: str | None = None,
    owner: str | None = None,
    kinds: Collection[str] | None = None,
    archived: bool | None = False,
    after: int | None = None,
    limit: int = 100,
) -> list[JobView]:
    """Jobs, newest first; `after` is the number of the last one of the page before."""
    wanted, size = _select(), _rows(limit)
    if kinds is not None:
        wanted = wanted.where(jobs.c.kind.in_(sorted(kinds)))
    if name is not None:
        wanted = wanted.where(jobs.c.name == name)
    if owner is not None:
        wanted = wanted.where(jobs.c.owner == owner)
    if after is not None:
        wanted = wanted.where(jobs.c.seq < after)
    wanted = wanted.order_by(jobs.c.seq.desc()).limit(size)
    if archived is False:
        # State by state: so each part is read in the order of the index of what is in the queue.
        parts = LIVE_STATES if states is None else LIVE_STATES & set(states)
        if name is not None:
            parts = parts & _states_of(connection, name)
        found = [
            job for state in parts for job in _jobs(connection, wanted.where(jobs.c.live == 1, jobs.c.state == state))
        ]
        return sorted(found, key=lambda job: -job.seq)[:size]
    if archived:
        wanted = wanted.where(jobs.c.archived_at.is_not(None))
    if states is not None:
        wanted = wanted.where(jobs.c.state.in_(sorted(states)))
    return _jobs(connection, wanted)


def page(
    connection: Connection,
    span: Callable[[int], tuple[int, int]],
    *,
    states: Collection[str] | None = None,
    names: Collection[str] | None = None,
    sort: Sort = "seq",
    descending: bool = False,
) -> tuple[list[JobView], int]:
    """A part of the jobs in the queue, and how many there are. `span` gives the first row and the number of rows, once
    it knows how many; it is for those who count pages, and slower than `listing` far from the beginning.
    """
    total = _counted(connection, states, names)
    mine = _MINE & (jobs.c.live == 1)
    if states is not None:
        mine &= jobs.c.state.in_(sorted(states))
    if names is not None:
        mine &= jobs.c.name.in_(sorted(names))
    start, limit = span(total)
    order = [column.desc() if descending else column for column in (jobs.c[sort], jobs.c.seq)]
    wanted = _select().where(mine).order_by(*order).offset(start).limit(_rows(limit))
    return (_jobs(connection, wanted) if limit > 0 else []), total


def _states_of(connection: Connection, name: str) -> set[str]:
    """The states that jobs of this name in the queue are in: among those of others none needs to be looked for."""
    kept = select(job_count.c.state).where(job_count.c.name == name, job_count.c.n > 0)
    return set(connection.execute(kept).scalars())


def _counted(connection: Connection, states: Collection[str] | None, names: Collection[str] | None) -> int:
    """How many jobs are in the queue, by what is kept of that: the jobs themselves may be a million (counts.py)."""
    kept = select(func.sum(job_count.c.n)).where(job_count.c.name != "")
    if states is not None:
        kept = kept.where(job_count.c.state.in_(sorted(states)))
    if names is not None:
        kept = kept.where(job_count.c.name.in_(sorted(names)))
    return int(connection.execute(kept).scalar() or 0)


def list_steps(connection: Connection, job_id: str, after: int | None = None, limit: int = 100) -> list[StepView]:
    """Steps of a job in order, from the one after number `after` on."""
    wanted = select(*table.step_columns(), steps.c.spec).where(steps.c.job_id == job_id)
    if after is not None:
        wanted = wanted.where(steps.c.idx > after)
    rows = connection.execute(wanted.order_by(steps.c.idx).limit(_rows(limit)))
    return [step_view(table.step_of(row[:-1]), row[-1]) for row in rows]


def list_attempts(connection: Connection, job_id: str, idx: int | None = None) -> list[AttemptView]:
    """Attempts of a step (None: of all steps) in order; of many, the latest ROWS_MAX."""
    names = table.OpenAttempt.__struct_fields__
    wanted = select(*(attempts.c[name] for name in names)).where(attempts.c.job_id == job_id)
    if idx is not None:
        wanted = wanted.where(attempts.c.idx == idx)
    latest = wanted.order_by(attempts.c.idx.desc(), attempts.c.n.desc()).limit(ROWS_MAX)
    rows = connection.execute(latest).mappings().all()
    return [attempt_view(table.OpenAttempt(**{name: row[name] for name in names})) for row in reversed(rows)]


def history(
    connection: Connection,
    *,
    page: int = 0,
    per_page: int = 10,
    newest_first: bool = True,
    start: float | None = None,
    end: float | None = None,
) -> HistoryPage:
    """How many jobs there were after each change of the queue, as its events tell; pages count from 0."""
    mine = events.c.topic == QUEUE
    if start is not None:
        mine &= events.c.time >= start
    if end is not None:
        mine &= events.c.time <= end
    total = connection.execute(select(func.count()).select_from(events).where(mine)).scalar() or 0
    order = events.c.seq.desc() if newest_first else events.c.seq
    size = _rows(per_page)
    wanted = select(events.c.seq, events.c.time, events.c.data).where(mine).order_by(order)
    rows = connection.execute(wanted.limit(size).offset(max(0, page) * size))
    return HistoryPage([_history_row(row.seq, row.time, row.data) for row in rows], total)


def _history_row(seq: int, time: float, data: str) -> HistoryRow:
    found: dict[str, Any] = msgspec.json.decode(data)
    counts = found.get("counts") or {}
    return HistoryRow(seq, time, found.get("event", ""), counts, sum(counts.values()))


def _select() -> Select[Any]:
    return select(*table.job_columns(), jobs.c.args).where(_MINE)


def _jobs(connection: Connection, wanted: Select[Any]) -> list[JobView]:
    return [job_view(table.job_of(row[:-1]), row[-1]) for row in connection.execute(wanted)]


def _rows(limit: int) -> int:
    return max(1, min(limit, ROWS_MAX))


class JobReader:
    """The reading half of the queue. Every method belongs to the event loop's thread; threads read."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def detail(self, key: str | int) -> JobView | None:
        """A job by its id or its number."""
        return await self._store.read(lambda connection: detail(connection, key))

    async def by_ext_id(self, ext_id: str) -> JobView | None:
        """The newest job with that name of its owner's."""
        return await self._store.read(lambda connection: by_ext_id(connection, ext_id))

    async def beginning_with(self, prefix: str, limit: int = 2) -> list[str]:
        """Ids of jobs that begin with these hexadecimal digits, oldest first."""
        return await self._store.read(lambda connection: beginning_with(connection, prefix, limit))

    async def listing(self, *, limit: int = 100, **wanted: Unpack[Wanted]) -> list[JobView]:
        """Jobs, newest first, 1000 at most."""
        return await self._store.read(lambda connection: listing(connection, limit=limit, **wanted))

    async def page(
        self,
        span: Callable[[int], tuple[int, int]],
        *,
        states: Collection[str] | None = None,
        names: Collection[str] | None = None,
        sort: Sort = "seq",
        descending: bool = False,
    ) -> tuple[list[JobView], int]:
        """A part of the jobs in the queue by number of row, and how many there are (`page`)."""
        return await self._store.read(
            lambda connection: page(connection, span, states=states, names=names, sort=sort, descending=descending)
        )

    async def steps(self, job_id: str, after: int | None = None, limit: int = 100) -> list[StepView]:
        """Steps of a job in order, 1000 at most, from the one after `after` on."""
        return await self._store.read(lambda connection: list_steps(connection, job_id, after, limit))

    async def attempts(self, job_id: str, idx: int | None = None) -> list[AttemptView]:
        """Attempts of a step (None: of all steps) in order; of many, the latest 1000."""
        return await self._store.read(lambda connection: list_attempts(connection, job_id, idx))

    async def history(
        self,
        page: int = 0,
        per_page: int = 10,
        sort: int = -1,
        start: float | None = None,
        end: float | None = None,
    ) -> HistoryPage:
        """Counts after each change, newest first (`sort` 1: oldest first); pages count from 0, times are inclusive."""
        return await self._store.read(
            lambda connection: history(
                connection, page=page, per_page=per_page, newest_first=sort < 0, start=start, end=end
            )
        )
