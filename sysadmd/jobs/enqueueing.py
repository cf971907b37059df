"""New jobs: from a spec to rows, and a stopped job made anew.

A unique key is taken while a job that has it is not final, so an old error never stands in the way of a schedule. A
request key is remembered for a day: a client whose connection broke asks again and gets the job that it made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BindParameter, bindparam, delete, insert, select

from sysadmd.errors import BadRequest, Conflict, NotFound, TooManyRequests
from sysadmd.jobs import counters, lifecycle
from sysadmd.jobs.lifecycle import QueuedJob, QueuedStep
from sysadmd.jobs.queue_rows import job_view
from sysadmd.jobs.spec import LANES, JobSpec, StepSpec
from sysadmd.jobs.transitions import StaleTransition
from sysadmd.jobs.turn import Turn
from sysadmd.jobs.views import JobView
from sysadmd.store.rows import LANES as STORED_LANES
from sysadmd.store.tables import FINAL_STATES
from sysadmd.store.tables import job as jobs
from sysadmd.store.tables import request_key as request_keys
from sysadmd.store.tables import step as steps

REQUEST_KEY_LIFE = 86_400.0
"""Seconds that a request key is remembered."""
DISPATCHER_LANES = frozenset(STORED_LANES) - frozenset(LANES.values())
"""Lanes whose slots are the dispatcher's to give."""

_DEFAULT_ON_LOST = "retry"
_FIELDS = (
    "kind", "name", "ext_id", "unique_key", "priority", "force", "run_after", "retry_delay", "defer_delay", "defer_max",
    "wall_time", "zombie_time", "timeout", "max_parallel", "parent_id",
)  # fmt: skip


class TakenKeys:
    """Unique keys and ext_ids that are taken, read in one statement for all new jobs of a turn."""

    def __init__(self, turn: Turn, specs: Iterable[JobSpec]) -> None:
        self._taken: dict[str, dict[str, str]] = {"unique_key": {}, "ext_id": {}}
        wanted = list(specs)
        # Word for word the condition of the partial indexes.
        final: BindParameter[Any] = bindparam("final", FINAL_STATES, expanding=True, literal_execute=True)
        for key, taken in self._taken.items():
            values = {value for spec in wanted if (value := getattr(spec, key)) is not None}
            if values:
                column = jobs.c[key]
                mine = column.in_(values) & jobs.c.counters.is_not(None)
                found = select(column, jobs.c.id).where(mine, jobs.c.state.not_in(final))
                taken.update((value, job_id) for value, job_id in turn.connection.execute(found))

    def take(self, jobs: Iterable[tuple[JobSpec, str]]) -> None:
        """Take the keys of new jobs, all or none. Raises Conflict naming the job that has one of them."""
        mine: dict[str, dict[str, str]] = {key: {} for key in self._taken}
        for spec, job_id in jobs:
            for key, taken in self._taken.items():
                value = getattr(spec, key)
                holder = None if value is None else taken.get(value) or mine[key].get(value)
                if holder is not None:
                    text = f"a job with the {key} {value!r} waits or runs already: {holder}"
                    raise Conflict(text, path=f"args.{key}", rule=f"unique {key}")
                if value is not None:
                    mine[key][value] = job_id
        for key, values in mine.items():
            self._taken[key].update(values)


def enqueue(
    turn: Turn, taken: TakenKeys, specs: Sequence[JobSpec], owner: str, request_key: str | None = None
) -> list[JobView]:
    """Store checked specs as jobs, all or none. With a request key that came before, the job that it made then.

    Raises Conflict for a key that is taken, BadRequest for a lane that there is not.
    """
    if request_key is not None and (known := _known_request(turn, owner, request_key)) is not None:
        return [known]
    if sum(turn.counts.sums.values()) + len(specs) > turn.most:
        raise TooManyRequests(f"there are {turn.most} jobs in the queue, or nearly so; remove or finish some first")
    ids = [turn.new_id() for _ in specs]
    for spec in specs:
        _check_lane(turn, spec)
    taken.take(zip(specs, ids, strict=True))
    views = []
    for spec, job_id in zip(specs, ids, strict=True):
        job = lifecycle.placed(_queued(turn, spec, job_id, owner), turn.now)
        turn.add(job, spec.args, new_steps(job, spec.steps, 0))
        turn.tell("enqueue_job", job)
        views.append(job_view(job, spec.args))
    if request_key is not None:
        values = {"owner": owner, "key": request_key, "job_id": ids[0], "created_at": turn.now}
        turn.flush()
        turn.connection.execute(insert(request_keys).values(values))
    return views


def _check_lane(turn: Turn, spec: JobSpec) -> None:
    if spec.lane not in turn.lanes() or spec.lane in DISPATCHER_LANES:
        there = ", ".join(sorted(set(turn.lanes()) - DISPATCHER_LANES))
        text = f"args.lane: there is no lane {spec.lane!r}, only {there}"
        raise BadRequest(text, path="args.lane", rule=f"one of {there}")


def _queued(turn: Turn, spec: JobSpec, job_id: str, owner: str) -> QueuedJob:
    return QueuedJob(
        id=job_id,
        seq=turn.next_seq(),
        lane=spec.lane or LANES[spec.kind],
        owner=owner,
        created_at=turn.now,
        counters=counters.counted(step.stage for step in spec.steps),
        tries_max=spec.tries,
        on_lost=spec.on_lost or _DEFAULT_ON_LOST,
        worker_selector=spec.worker,
        **{name: getattr(spec, name) for name in _FIELDS},
    )


def new_steps(job: QueuedJob, specs: Iterable[StepSpec], first: int) -> Iterable[tuple[QueuedStep, Any]]:
    """The steps of a job from number `first` on, with their specs. Only those of the open stage may have to wait."""
    waits = job.run_after or 0.0
    for idx, spec in enumerate(specs, first):
        step = QueuedStep(
            job_id=job.id,
            idx=idx,
            stage=spec.stage,
            type=spec.type,
            tries_max=spec.tries or job.tries_max,
            run_after=waits if first == 0 and spec.stage == job.counters.stage else 0.0,
            size=spec.size,
        )
        yield step, spec.spec


def restart(turn: Turn, job_id: str, by: str) -> str:
    """Make a waiting job due now, or a stopped one anew; the id of the job that goes on.

    Raises NotFound, and Conflict for a job that runs, is complete or was removed.
    """
    job = turn.job(job_id)
    try:
        if job.state not in lifecycle.STOPPED:
            change = lifecycle.restart(job)
            turn.due_now(job.id)
            turn.tell("restart_waiting", turn.put(change), {"by": by})
            return job.id
        child = turn.new_id()
        change = lifecycle.replaced(job, child, turn.now)
    except StaleTransition as error:
        raise Conflict(str(error)) from error
    turn.flush()
    spec = _spec_again(turn, job)
    TakenKeys(turn, [spec]).take([(spec, child)])
    turn.tell("restart_stopped", turn.put(change), {"child_id": child, "by": by})
    fresh = lifecycle.placed(_queued(turn, spec, child, job.owner), turn.now)
    turn.add(fresh, spec.args, new_steps(fresh, spec.steps, 0))
    turn.tell("enqueue_job", fresh)
    return child


def _spec_again(turn: Turn, old: QueuedJob) -> JobSpec:
    """What was enqueued; steps that a listing made are made again by it."""
    args = turn.connection.execute(select(jobs.c.args).where(jobs.c.id == old.id)).scalar()
    wanted = select(steps.c.stage, steps.c.type, steps.c.spec, steps.c.size, steps.c.tries_max)
    rows = turn.connection.execute(wanted.where(steps.c.job_id == old.id).order_by(steps.c.idx)).all()
    if rows[0].type == "LIST":
        rows = rows[:1]
    specs = [
        StepSpec(type=row.type, spec=row.spec, stage=row.stage, size=row.size or 0, tries=row.tries_max) for row in rows
    ]
    fields = {name: getattr(old, name) for name in _FIELDS if name not in ("parent_id", "run_after")}
    return JobSpec(
        args=args or {},
        steps=specs,
        lane=old.lane,
        tries=old.tries_max,
        worker=old.worker_selector,
        on_lost="error" if old.on_lost == "error" else "retry",
        parent_id=old.id,
        **fields,
    )


def _known_request(turn: Turn, owner: str, key: str) -> JobView | None:
    mine = (request_keys.c.owner == owner) & (request_keys.c.key == key)
    row = turn.connection.execute(select(request_keys.c.job_id, request_keys.c.created_at).where(mine)).first()
    if row is None:
        return None
    if row.created_at <= turn.now - REQUEST_KEY_LIFE:
        turn.connection.execute(delete(request_keys).where(mine))
        return None
    turn.flush()
    job = turn.find(row.job_id)
    if job is None:
        raise NotFound(f"the job of the request key {key!r} is gone", path="args.request_key")
    args = turn.connection.execute(select(jobs.c.args).where(jobs.c.id == job.id)).scalar()
    return job_view(job, args)
