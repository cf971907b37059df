"""Jobs in the store: the difference of old and new values as a few statements, and rows back into values.

All functions take a SQLAlchemy Core connection and run in the caller's transaction. `save` takes every job that one
turn of the dispatcher changed; rows of one kind go out in one executemany. Several transitions of a job between two
saves cost one row each.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, bindparam, func, insert, literal_column, select, update

from sysadmd.jobs.model import Attempt, Job, Step
from sysadmd.jobs.transitions import StaleTransition
from sysadmd.store.prepared import Prepared, encode
from sysadmd.store.tables import FINAL_STATES
from sysadmd.store.tables import attempt as attempts
from sysadmd.store.tables import job as jobs
from sysadmd.store.tables import lane as lanes
from sysadmd.store.tables import step as steps

KIND = "command"
HISTORY_ROWS = 1000
"""Finished processes in one listing."""

_HOST = platform.node()

Values = tuple[Any, ...]
"""One row, in the order of its statement's names."""

_JOB_UPDATED = (
    "state",
    "tries_used",
    "kill_requested_at",
    "kill_requested_by",
    "started_at",
    "finished_at",
    "last_error",
)
_STEP_UPDATED = ("state", "tries_used")
_ATTEMPT_UPDATED = (
    "pid",
    "pid_start",
    "started_at",
    "finished_at",
    "outcome",
    "exit_code",
    "signal",
    "error",
    "usage",
    "output_bytes",
)

_JOB_INSERTED = (
    "id",
    "ext_id",
    "kind",
    "name",
    "lane",
    "owner",
    "args",
    "event_system",
    "extra",
    "priority",
    "tries_max",
    "retry_delay",
    "timeout",
    "on_lost",
    "log_uid",
    "created_at",
    "rev",
    *_JOB_UPDATED,
)
_STEP_INSERTED = ("job_id", "idx", "stage", "type", "spec", "tries_max", *_STEP_UPDATED)
_ATTEMPT_INSERTED = (
    "job_id",
    "idx",
    "n",
    "worker_id",
    "host",
    "lease_id",
    "created_at",
    "output_path",
    *_ATTEMPT_UPDATED,
)


def _named(names: Iterable[str]) -> Mapping[str, Any]:
    return {name: bindparam(name) for name in names}


def _bound(names: Iterable[str]) -> Mapping[str, Any]:
    return {name: bindparam(f"new_{name}") for name in names}


# One more than the last, found by each row's own insert: a select before it would cost a statement in every turn.
_NEXT_SEQ = select(func.coalesce(func.max(jobs.c.seq), literal_column("0")) + literal_column("1")).scalar_subquery()
_INSERT_JOB = Prepared(insert(jobs).values(seq=_NEXT_SEQ, **_named(_JOB_INSERTED)), _JOB_INSERTED)
_INSERT_STEP = Prepared(insert(steps).values(_named(_STEP_INSERTED)), _STEP_INSERTED)
_INSERT_ATTEMPT = Prepared(insert(attempts).values(_named(_ATTEMPT_INSERTED)), _ATTEMPT_INSERTED)
_UPDATE_JOB = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("old_id"))
    .values(rev=jobs.c.rev + literal_column("1"), **_bound(_JOB_UPDATED)),
    ("old_id", *(f"new_{name}" for name in _JOB_UPDATED)),
)
_UPDATE_STEP = Prepared(
    update(steps)
    .where(steps.c.job_id == bindparam("old_job"), steps.c.idx == bindparam("old_idx"))
    .values(_bound(_STEP_UPDATED)),
    ("old_job", "old_idx", *(f"new_{name}" for name in _STEP_UPDATED)),
)
# The lease is the fence: what comes under another one changes nothing.
_UPDATE_ATTEMPT = Prepared(
    update(attempts)
    .where(
        attempts.c.job_id == bindparam("old_job"),
        attempts.c.idx == bindparam("old_idx"),
        attempts.c.n == bindparam("old_n"),
        attempts.c.lease_id == bindparam("old_lease"),
    )
    .values(_bound(_ATTEMPT_UPDATED)),
    ("old_job", "old_idx", "old_n", "old_lease", *(f"new_{name}" for name in _ATTEMPT_UPDATED)),
)


@dataclass(slots=True)
class _Changes:
    new_jobs: list[Values] = field(default_factory=list)
    new_steps: list[Values] = field(default_factory=list)
    new_attempts: list[Values] = field(default_factory=list)
    jobs: list[Values] = field(default_factory=list)
    steps: list[Values] = field(default_factory=list)
    attempts: list[Values] = field(default_factory=list)


def save(connection: Connection, changes: Iterable[tuple[Job | None, Job]]) -> None:
    """Write what differs between the old (None: not stored yet) and new values of jobs, whose lanes must be stored.

    Raises StaleTransition when an attempt is stored under another lease.
    """
    found = _Changes()
    for old, new in changes:
        _difference(found, old, new)
    _INSERT_JOB.run(connection, found.new_jobs)
    _INSERT_STEP.run(connection, found.new_steps)
    _INSERT_ATTEMPT.run(connection, found.new_attempts)
    _UPDATE_JOB.run(connection, found.jobs)
    _UPDATE_STEP.run(connection, found.steps)
    if _UPDATE_ATTEMPT.run(connection, found.attempts) != len(found.attempts):
        raise StaleTransition("an attempt is stored under another lease")


def _difference(found: _Changes, old: Job | None, new: Job) -> None:
    if old is None:
        found.new_jobs.append(_new_job(new))
    elif new is not old:
        found.jobs.append((new.id, *_job_state(new)))
    for step in new.steps:
        before = old.steps[step.idx] if old else None
        if step is before:
            continue
        if before is None:
            found.new_steps.append(_new_step(new, step))
        elif (before.state, before.tries_used) != (step.state, step.tries_used):
            found.steps.append((new.id, step.idx, step.state, step.tries_used))
        _attempt_difference(found, before.attempt if before else None, step.attempt)


def _attempt_difference(found: _Changes, old: Attempt | None, new: Attempt | None) -> None:
    if new is None or new is old:
        return
    if old is None or old.n != new.n:
        found.new_attempts.append(_new_attempt(new))
    else:
        found.attempts.append((new.job_id, new.idx, new.n, new.lease, *_attempt_state(new)))


def store_lanes(connection: Connection, configured: Mapping[str, int | None]) -> None:
    """Make the rows of the configured lanes what the configuration says; lanes that it no longer names stay for their
    old jobs.
    """
    known = set(connection.execute(select(lanes.c.name)).scalars())
    for name, parallel in configured.items():
        if name in known:
            connection.execute(update(lanes).where(lanes.c.name == name).values(max_running=parallel))
        else:
            connection.execute(insert(lanes).values(name=name, max_running=parallel))


def load_live(connection: Connection) -> list[Job]:
    """Every command job that is not final, oldest first, with its steps and their latest attempts."""
    # Word for word the condition of a partial index, or a million finished jobs would be read to find the live ones.
    final: BindParameter[Any] = bindparam("final", FINAL_STATES, expanding=True, literal_execute=True)
    return _load(connection, jobs.c.kind == KIND, jobs.c.state.not_in(final))


def load_finished(connection: Connection, lane: str | None = None, rows: int = HISTORY_ROWS) -> list[Job]:
    """The newest finished command jobs of a lane (None: of all), oldest first."""
    newest = select(jobs.c.seq).where(jobs.c.kind == KIND, jobs.c.state.in_(FINAL_STATES))
    if lane is not None:
        newest = newest.where(jobs.c.lane == lane)
    return _load(connection, jobs.c.seq.in_(newest.order_by(jobs.c.seq.desc()).limit(rows)))


def find_process(connection: Connection, ext_id: str) -> Job | None:
    """The newest job of that process_id, live or finished."""
    newest = select(jobs.c.seq).where(jobs.c.kind == KIND, jobs.c.ext_id == ext_id)
    found = _load(connection, jobs.c.seq == newest.order_by(jobs.c.seq.desc()).limit(1).scalar_subquery())
    return found[0] if found else None


def _load(connection: Connection, *conditions: Any) -> list[Job]:
    wanted = select(jobs.c.id).where(*conditions)
    held: dict[tuple[str, int], Attempt] = {}
    # In the order of n, so that the latest attempt of a step is the one that stays.
    for row in connection.execute(select(attempts).where(attempts.c.job_id.in_(wanted)).order_by(attempts.c.n)):
        held[row.job_id, row.idx] = _attempt(row)
    by_job: dict[str, list[Step]] = {}
    for row in connection.execute(select(steps).where(steps.c.job_id.in_(wanted)).order_by(steps.c.idx)):
        by_job.setdefault(row.job_id, []).append(_step(row, held.get((row.job_id, row.idx))))
    # Sorted here: read in the order of seq, the index of seq would be taken, and all of it.
    in_order = jobs.c.seq + literal_column("0")
    rows = connection.execute(select(jobs).where(*conditions).order_by(in_order))
    return [_job(row, by_job.get(row.id, ())) for row in rows]


def _new_job(job: Job) -> Values:
    return (
        job.id,
        job.ext_id,
        KIND,
        job.name,
        job.lane,
        job.owner,
        encode({"cwd": job.cwd, "user": job.user, "no_new_privs": job.no_new_privs}),
        job.event_system,
        encode(job.extra),
        0,
        1,
        0.0,
        job.timeout,
        "error",
        job.id,
        job.created_at,
        0,
        *_job_state(job),
    )


def _job_state(job: Job) -> Values:
    return (
        job.state,
        sum([step.tries_used for step in job.steps]),
        job.kill_requested_at,
        job.kill_requested_by,
        job.started_at,
        job.finished_at,
        encode(job.last_error),
    )


def _new_step(job: Job, step: Step) -> Values:
    spec = encode({"text": step.text, "argv": step.argv})
    return (job.id, step.idx, step.stage, KIND, spec, step.tries_max, step.state, step.tries_used)


def _new_attempt(attempt: Attempt) -> Values:
    return (
        attempt.job_id,
        attempt.idx,
        attempt.n,
        attempt.instance,
        _HOST,
        attempt.lease,
        attempt.created_at,
        attempt.output_path,
        *_attempt_state(attempt),
    )


def _attempt_state(attempt: Attempt) -> Values:
    return (
        attempt.pid,
        attempt.pid_start,
        attempt.started_at,
        attempt.finished_at,
        attempt.outcome,
        attempt.exit_code,
        attempt.signal,
        encode(None if attempt.message is None else {"message": attempt.message}),
        encode(attempt.usage),
        attempt.output_bytes,
    )


def _job(row: Row[Any], its_steps: Sequence[Step]) -> Job:
    return Job(
        id=row.id,
        ext_id=row.ext_id,
        lane=row.lane,
        owner=row.owner,
        steps=tuple(its_steps),
        created_at=row.created_at,
        state=row.state,
        cwd=row.args.get("cwd"),
        user=row.args.get("user"),
        timeout=row.timeout,
        no_new_privs=row.args.get("no_new_privs"),
        event_system=row.event_system,
        extra=row.extra,
        started_at=row.started_at,
        finished_at=row.finished_at,
        kill_requested_at=row.kill_requested_at,
        kill_requested_by=row.kill_requested_by,
        last_error=row.last_error,
    )


def _step(row: Row[Any], attempt: Attempt | None) -> Step:
    return Step(
        idx=row.idx,
        text=row.spec["text"],
        argv=tuple(row.spec["argv"]),
        state=row.state,
        tries_max=row.tries_max,
        tries_used=row.tries_used,
        attempt=attempt,
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        job_id=row.job_id,
        idx=row.idx,
        n=row.n,
        lease=row.lease_id,
        instance=row.worker_id,
        created_at=row.created_at,
        output_path=row.output_path or "",
        started_at=row.started_at,
        pid=row.pid,
        pid_start=row.pid_start,
        finished_at=row.finished_at,
        outcome=row.outcome,
        exit_code=row.exit_code,
        signal=row.signal,
        message=(row.error or {}).get("message"),
        usage=row.usage,
        output_bytes=row.output_bytes or 0,
    )
