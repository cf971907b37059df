"""Jobs of the queue in the store: rows into values, and the difference of old and new values as a few statements.

All functions take a SQLAlchemy Core connection and run in the caller's transaction. What a turn of the queue changed
goes out in one executemany for each table (store.prepared), however many jobs it was. A row that is read to be changed
is locked where the database can.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Text,
    bindparam,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    type_coerce,
    update,
)

from sysadmd.jobs.counters import REASONS, Counters
from sysadmd.jobs.lifecycle import QueuedJob, QueuedStep
from sysadmd.jobs.ready import ready_key
from sysadmd.store.prepared import Prepared, encode
from sysadmd.store.tables import attempt as attempts
from sysadmd.store.tables import job as jobs
from sysadmd.store.tables import step as steps

Values = tuple[Any, ...]
"""One row, in the order of its statement's names."""

IN_LIST = 500
"""Values of one IN list: SQLite takes some 32,000 parameters, and a statement is made for each length."""


class OpenAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt under a lease; the fields are the columns of `attempt`. Without `lease_until` it is at its end."""

    job_id: str
    idx: int
    n: int
    worker_id: str
    host: str
    lease_id: str
    lease_until: float | None
    created_at: float
    output_path: str
    heartbeat_at: float | None = None
    pid: int | None = None
    pid_start: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    outcome: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: Any = None
    usage: Any = None
    output_bytes: int | None = None


JOB_FIXED = (
    "id", "seq", "kind", "name", "lane", "owner", "created_at", "ext_id", "unique_key", "priority", "force",
    "tries_max", "run_after", "retry_delay", "defer_delay", "defer_max", "wall_time", "zombie_time", "timeout",
    "max_parallel", "on_lost", "worker_selector", "parent_id",
)  # fmt: skip
JOB_MOVING = (
    "state", "due_at", "tries_used", "trial", "defer_deadline", "worker", "started_at", "finished_at", "archived_at",
    "runtime", "heartbeat_at", "progress", "progress_msg", "child_id", "zombie_at", "wall_at", "kill_requested_at",
    "kill_requested_by", "remove_requested_at", "remove_requested_by",
)  # fmt: skip
STEP_MOVING = ("state", "tries_max", "tries_used", "starts", "run_after", "claim", "result", "progress")
STEP_FIXED = ("job_id", "idx", "stage", "type", "size")
ATTEMPT_KEY = ("job_id", "idx", "n", "lease_id")
ATTEMPT_FIXED = ("worker_id", "host", "created_at", "output_path")
ATTEMPT_MOVING = (
    "lease_until", "heartbeat_at", "pid", "pid_start", "started_at", "finished_at", "outcome", "exit_code", "signal",
    "output_bytes", "error", "usage",
)  # fmt: skip

_DERIVED = ("counters", "last_error", "ready_key", "live")
_JOB_INSERTED = (*JOB_FIXED, *JOB_MOVING, *_DERIVED, "rank", "args", "log_uid", "rev")
_STEP_INSERTED = (*STEP_FIXED, *STEP_MOVING, "spec")
_ATTEMPT_INSERTED = (*ATTEMPT_KEY, *ATTEMPT_FIXED, *ATTEMPT_MOVING)


def _named(names: Iterable[str]) -> Mapping[str, Any]:
    return {name: bindparam(name) for name in names}


def _bound(names: Iterable[str]) -> Mapping[str, Any]:
    return {name: bindparam(f"new_{name}") for name in names}


def _old(names: Iterable[str], table: Any) -> list[Any]:
    return [table.c[name] == bindparam(f"old_{name}") for name in names]


def _names(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    return (*(f"old_{name}" for name in old), *(f"new_{name}" for name in new))


_JOB_UPDATED = (*JOB_MOVING, *_DERIVED)
_INSERT_JOB = Prepared(insert(jobs).values(_named(_JOB_INSERTED)), _JOB_INSERTED)
_INSERT_STEP = Prepared(insert(steps).values(_named(_STEP_INSERTED)), _STEP_INSERTED)
_INSERT_ATTEMPT = Prepared(insert(attempts).values(_named(_ATTEMPT_INSERTED)), _ATTEMPT_INSERTED)
_UPDATE_JOB = Prepared(
    update(jobs).where(*_old(["id"], jobs)).values(rev=jobs.c.rev + literal_column("1"), **_bound(_JOB_UPDATED)),
    _names(["id"], _JOB_UPDATED),
)
# SQLite writes the entry of each index anew whose column is named in an update, changed or not.
_INDEXED = {"state", "due_at", "archived_at", "ready_key", "live"}
_JOB_QUIET = tuple(name for name in _JOB_UPDATED if name not in _INDEXED)
_UPDATE_QUIET = Prepared(
    update(jobs).where(*_old(["id"], jobs)).values(rev=jobs.c.rev + literal_column("1"), **_bound(_JOB_QUIET)),
    _names(["id"], _JOB_QUIET),
)
_UPDATE_STEP = Prepared(
    update(steps).where(*_old(["job_id", "idx"], steps)).values(_bound(STEP_MOVING)),
    _names(["job_id", "idx"], STEP_MOVING),
)
# The lease is the fence: what comes under another one changes nothing.
_UPDATE_ATTEMPT = Prepared(
    update(attempts).where(*_old(ATTEMPT_KEY, attempts)).values(_bound(ATTEMPT_MOVING)),
    _names(ATTEMPT_KEY, ATTEMPT_MOVING),
)
_WAITS = or_(*(steps.c.state == literal_column(f"'{state}'") for state in REASONS))
_REST_STEPS = Prepared(
    update(steps)
    .where(steps.c.job_id == bindparam("old_job_id"), _WAITS)
    .values(state=bindparam("new_state"), claim=null()),
    ("old_job_id", "new_state"),
)
_DUE_NOW = Prepared(
    update(steps).where(steps.c.job_id == bindparam("old_job_id"), _WAITS).values(run_after=bindparam("new_run_after")),
    ("old_job_id", "new_run_after"),
)
_SPECIAL = {"counters": type_coerce(jobs.c.counters, Text).label("counters"), "ready": jobs.c.ready_key}
_JOB_FIELDS = QueuedJob.__struct_fields__
_JOB_COLUMNS = tuple(_SPECIAL[name] if name in _SPECIAL else jobs.c[name] for name in _JOB_FIELDS)
_COUNTERS_AT, _READY_AT, _FORCE_AT = (_JOB_FIELDS.index(name) for name in ("counters", "ready", "force"))
_ZEROES = [QueuedStep.__struct_fields__.index(name) for name in ("run_after", "starts", "size")]
_STEP_COLUMNS = tuple(steps.c[name] for name in QueuedStep.__struct_fields__)
_ATTEMPT_COLUMNS = tuple(attempts.c[name] for name in OpenAttempt.__struct_fields__)
_COUNTERS = msgspec.json.Decoder(Counters)
_SELECT_JOBS = (
    select(*_JOB_COLUMNS)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), jobs.c.counters.is_not(None))
    .order_by(jobs.c.id)
    .with_for_update()
)
_SELECT_HELD = (
    select(*_ATTEMPT_COLUMNS, *_STEP_COLUMNS)
    .select_from(attempts.join(steps, (steps.c.job_id == attempts.c.job_id) & (steps.c.idx == attempts.c.idx)))
    .where(attempts.c.lease_id.in_(bindparam("leases", expanding=True)), attempts.c.lease_until.is_not(None))
)


def _lists(values: Iterable[str]) -> Iterator[list[str]]:
    """The values in order, a list for each statement."""
    ordered = sorted(values)
    return (ordered[start : start + IN_LIST] for start in range(0, len(ordered), IN_LIST))


def job_of(row: Sequence[Any]) -> QueuedJob:
    """The value of a row of `job_columns`."""
    values = list(row)
    values[_COUNTERS_AT] = _COUNTERS.decode(values[_COUNTERS_AT])
    values[_READY_AT] = values[_READY_AT] is not None
    values[_FORCE_AT] = bool(values[_FORCE_AT])
    return QueuedJob(*values)


def job_columns() -> tuple[Any, ...]:
    """The columns of a job that decide."""
    return _JOB_COLUMNS


def step_columns() -> tuple[Any, ...]:
    """The columns of a step that decide."""
    return _STEP_COLUMNS


def load_jobs(connection: Connection, ids: Iterable[str]) -> dict[str, QueuedJob]:
    """Jobs of the queue by id, locked for this transaction."""
    found: dict[str, QueuedJob] = {}
    for some in _lists(ids):
        for row in connection.execute(_SELECT_JOBS, {"ids": some}):
            job = job_of(row)
            found[job.id] = job
    return found


def load_held(connection: Connection, leases: Iterable[str]) -> dict[str, tuple[OpenAttempt, QueuedStep]]:
    """Open attempts and their steps, by lease."""
    found: dict[str, tuple[OpenAttempt, QueuedStep]] = {}
    count = len(_ATTEMPT_COLUMNS)
    for some in _lists(leases):
        for row in connection.execute(_SELECT_HELD, {"leases": some}):
            attempt = OpenAttempt(*row[:count])
            found[attempt.lease_id] = attempt, step_of(row[count:])
    return found


def step_of(row: Sequence[Any]) -> QueuedStep:
    """The value of a row of `step_columns`. The dispatcher's steps leave three of them out."""
    if row[_ZEROES[0]] is None:
        values = list(row)
        for at in _ZEROES:
            values[at] = values[at] or 0
        return QueuedStep(*values)
    return QueuedStep(*row)


def load_step(connection: Connection, job_id: str, idx: int) -> QueuedStep | None:
    """One step."""
    row = connection.execute(select(*_STEP_COLUMNS).where(steps.c.job_id == job_id, steps.c.idx == idx)).first()
    return None if row is None else step_of(row)


def first_due(connection: Connection, job: QueuedJob) -> float | None:
    """When the first step of the open stage that waits is due; None: none waits."""
    if job.single:
        step = load_step(connection, job.id, 0)
        return step.run_after if step is not None and step.state in REASONS else None
    wanted = select(func.min(steps.c.run_after)).where(steps.c.job_id == job.id, steps.c.claim == job.counters.stage)
    return connection.execute(wanted).scalar()


class Rows:
    """Rows that one turn writes, until it does."""

    def __init__(self) -> None:
        self.new_jobs: list[Values] = []
        self.new_steps: list[Values] = []
        self.jobs: dict[str, QueuedJob] = {}
        self.quiet: dict[str, QueuedJob] = {}
        """Jobs that changed in nothing that an index has."""
        self.steps: dict[tuple[str, int], tuple[QueuedJob, QueuedStep]] = {}
        self.new_attempts: list[Values] = []
        self.attempts: dict[str, OpenAttempt] = {}
        self.rest: list[Values] = []
        """(job id, state that its waiting steps get)"""
        self.due_now: list[Values] = []
        """(job id, time from which its waiting steps are due)"""

    def insert_job(self, job: QueuedJob, args: Any) -> None:
        """A new job; its steps follow."""
        self.new_jobs.append((*_job_fixed(job), *_job_moving(job), rank_of(job), encode(args), job.id, 0))

    def update_job(self, old: QueuedJob, job: QueuedJob) -> None:
        """The new form of a job."""
        if job.id not in self.jobs and _job_indexed(old) == _job_indexed(job):
            self.quiet[job.id] = job
        else:
            self.quiet.pop(job.id, None)
            self.jobs[job.id] = job

    def insert_step(self, job: QueuedJob, step: QueuedStep, spec: Any) -> None:
        """A new step of a job."""
        self.new_steps.append((*_step_fixed(step), *_step_moving(job, step), encode(spec)))

    def insert_attempt(self, attempt: OpenAttempt) -> None:
        """A new attempt of a step."""
        self.new_attempts.append((*_attempt_key(attempt), *_attempt_fixed(attempt), *_attempt_moving(attempt)))

    def write(self, connection: Connection) -> None:
        """Write and forget them."""
        _INSERT_JOB.run(connection, self.new_jobs)
        _INSERT_STEP.run(connection, self.new_steps)
        _INSERT_ATTEMPT.run(connection, self.new_attempts)
        _UPDATE_JOB.run(connection, [(job.id, *_job_moving(job)) for job in self.jobs.values()])
        _UPDATE_QUIET.run(connection, [(job.id, *_job_quiet(job)) for job in self.quiet.values()])
        changed = [(step.job_id, step.idx, *_step_moving(job, step)) for job, step in self.steps.values()]
        _UPDATE_STEP.run(connection, changed)
        keyed = [
            (*(getattr(one, name) for name in ATTEMPT_KEY), *_attempt_moving(one)) for one in self.attempts.values()
        ]
        _UPDATE_ATTEMPT.run(connection, keyed)
        _DUE_NOW.run(connection, self.due_now)
        _REST_STEPS.run(connection, self.rest)
        self.__init__()  # type: ignore[misc]


def rank_of(job: QueuedJob) -> int:
    """Its place among the jobs that may be claimed: lower first."""
    return (0 if job.force else 1 << 32) - job.priority


_job_fixed = attrgetter(*JOB_FIXED)
_job_same = attrgetter(*JOB_MOVING)
_job_indexed = attrgetter("state", "due_at", "archived_at", "ready")
_job_unindexed = attrgetter(*(name for name in JOB_MOVING if name not in _INDEXED))
_step_fixed = attrgetter(*STEP_FIXED)
_attempt_key = attrgetter(*ATTEMPT_KEY)
_attempt_fixed = attrgetter(*ATTEMPT_FIXED)
_attempt_same = attrgetter(*(name for name in ATTEMPT_MOVING if name not in ("error", "usage")))


def _job_moving(job: QueuedJob) -> Values:
    ready = ready_key(job) if job.ready else None
    live = None if job.archived_at else 1
    return (*_job_same(job), encode(job.counters), encode(job.last_error), ready, live)


def _job_quiet(job: QueuedJob) -> Values:
    return (*_job_unindexed(job), encode(job.counters), encode(job.last_error))


def _step_moving(job: QueuedJob, step: QueuedStep) -> Values:
    claim = step.stage if step.state in REASONS and not job.single else None
    state = (step.state, step.tries_max, step.tries_used, step.starts, step.run_after)
    return (*state, claim, encode(step.result), encode(step.progress))


def _attempt_row(attempt: OpenAttempt) -> Values:
    return (*_attempt_key(attempt), *_attempt_moving(attempt))


def _attempt_moving(attempt: OpenAttempt) -> Values:
    return (*_attempt_same(attempt), encode(attempt.error), encode(attempt.usage))
