"""What the objects of the clients need besides the queue's views, in one statement for many jobs or elements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection, func, select

from sysadmd.jobs.views import AttemptView
from sysadmd.store.tables import attempt as attempts
from sysadmd.store.tables import step as steps

IN_LIST = 500
"""Values of one IN list."""
_FIELDS = tuple(name for name in AttemptView.__struct_fields__ if name != "worker")
_COLUMNS = [attempts.c.worker_id.label("worker"), *(attempts.c[name] for name in _FIELDS)]


def running(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of the jobs of which a step runs, by the open attempts, which are few and have an index."""
    found: set[str] = set()
    for some in _lists(ids):
        wanted = select(attempts.c.job_id).distinct()
        live = (attempts.c.outcome.is_(None), attempts.c.started_at.is_not(None), attempts.c.job_id.in_(some))
        found.update(connection.execute(wanted.where(*live)).scalars())
    return found


def attempts_of(connection: Connection, job_id: str, idxs: Sequence[int]) -> dict[int, list[AttemptView]]:
    """The attempts of some steps of a job that began, in order, by step."""
    found: dict[int, list[AttemptView]] = {}
    for some in _lists(idxs):
        wanted = select(*_COLUMNS).where(attempts.c.job_id == job_id, attempts.c.idx.in_(some))
        for row in connection.execute(wanted.order_by(attempts.c.idx, attempts.c.n)).mappings():
            found.setdefault(row["idx"], []).append(AttemptView(**{str(key): value for key, value in row.items()}))
    return found


def counts(connection: Connection, ids: Sequence[str]) -> dict[str, dict[tuple[str, bool], int]]:
    """How many steps of each job are in each state, and whether they were attempted."""
    found: dict[str, dict[tuple[str, bool], int]] = {}
    attempted = func.coalesce(steps.c.starts, 0) > 0
    for some in _lists(ids):
        wanted = select(steps.c.job_id, steps.c.state, attempted, func.count()).where(steps.c.job_id.in_(some))
        for job_id, state, begun, n in connection.execute(wanted.group_by(steps.c.job_id, steps.c.state, attempted)):
            found.setdefault(job_id, {})[state, bool(begun)] = n
    return found


def _lists(values: Iterable[str | int]) -> Iterator[list[str | int]]:
    """The values, a list for each statement."""
    ordered = list(values)
    return (ordered[start : start + IN_LIST] for start in range(0, len(ordered), IN_LIST))
