"""Giving due steps to a worker: a few looks into an index, whatever waits or is finished (ready.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from sysadmd.jobs import lifecycle
from sysadmd.jobs import queue_table as table
from sysadmd.jobs.ids import new_lease
from sysadmd.jobs.lifecycle import QueuedJob, QueuedStep
from sysadmd.jobs.queue_rows import job_view, step_view
from sysadmd.jobs.ready import ReadyKey, parse
from sysadmd.jobs.turn import Turn
from sysadmd.jobs.views import Claim, Worker
from sysadmd.store.tables import job as jobs
from sysadmd.store.tables import step as steps

_Candidate = tuple[int, int, str]
"""Rank, number and id of a job: their order is that of claims."""
OUTPUT_HOUR = 5
"""Digits of a job's id that name the directory of its output, as the dispatcher has it."""


@dataclass(slots=True)
class ClaimRequest:
    """A worker that has room for `limit` steps of these kinds; `running` counts what it runs by the name of the job."""

    worker: Worker
    limit: int
    kinds: frozenset[str]
    running: Mapping[str, int] = field(default_factory=dict)


class _Room:
    """What one claim may still take, of each name and in each lane."""

    def __init__(self, turn: Turn, request: ClaimRequest) -> None:
        self._turn, self._request = turn, request
        self.left = request.limit
        self._names: dict[str, int] = {}
        self._lanes: dict[str, int | None] = {}

    def of(self, key: ReadyKey) -> int:
        """Steps of a key that the worker may take, before its lane's limit."""
        if key.kind not in self._request.kinds or key.worker not in (None, self._request.worker.id):
            return 0
        lane = self._turn.lanes().get(key.lane)
        if lane is None or lane.paused:
            return 0
        if key.max_parallel is None:
            return self.left
        return min(self.left, key.max_parallel - self.running(key.name))

    def running(self, name: str) -> int:
        """What this worker runs of a name."""
        return self._request.running.get(name, 0) + self._names.get(name, 0)

    def lane(self, name: str) -> int | None:
        """Further jobs that may begin to run in a lane; None: any number."""
        if name not in self._lanes:
            most = self._turn.lanes()[name].max_running
            running = 0 if most is None else _running(self._turn.connection, name)
            self._lanes[name] = None if most is None else max(0, most - running)
        return self._lanes[name]

    def take(self, job: QueuedJob, *, begins: bool) -> None:
        """One step is taken."""
        self.left -= 1
        self._names[job.name] = self._names.get(job.name, 0) + 1
        room = self._lanes.get(job.lane)
        if begins and room is not None:
            self._lanes[job.lane] = room - 1


def claim(turn: Turn, request: ClaimRequest) -> list[Claim]:
    """Lease what the worker may take, best first."""
    turn.flush()
    room = _Room(turn, request)
    found: list[_Candidate] = []
    for text in _ready_keys(turn.connection):
        key = parse(text)
        most = room.of(key)
        if most > 0:
            found += _candidates(turn.connection, text, room.lane(key.lane), most)
    found.sort()
    taken = _take(turn, request, room, [job_id for _, _, job_id in found[: 4 * request.limit]])
    return _claims(turn, taken)


def _take(
    turn: Turn, request: ClaimRequest, room: _Room, ids: Sequence[str]
) -> list[tuple[str, table.OpenAttempt, QueuedStep]]:
    turn.preload(ids=ids)
    chosen = [job for job_id in ids if (job := turn.find(job_id)) is not None and job.ready]
    only = _only_steps(turn.connection, [job.id for job in chosen if job.single])
    taken = []
    for job in chosen:
        if room.left <= 0:
            break
        begins, lane = job.state != "running", room.lane(job.lane)
        most = room.left if job.max_parallel is None else min(room.left, job.max_parallel - room.running(job.name))
        if most <= 0 or (begins and lane is not None and lane <= 0):
            continue
        due = _due_steps(turn, job, only, most)
        if not due:
            turn.put(lifecycle.due(job, turn.first_due(job), turn.now))
            continue
        for step in due:
            taken.append(_lease(turn, job.id, step, request.worker))
            room.take(job, begins=begins)
            begins = False
    return taken


def _lease(turn: Turn, job_id: str, step: QueuedStep, worker: Worker) -> tuple[str, table.OpenAttempt, QueuedStep]:
    job, leased, _ = change = lifecycle.lease(turn.job(job_id), step, worker=worker.id, now=turn.now)
    assert leased is not None
    attempt = table.OpenAttempt(
        job_id=job.id,
        idx=step.idx,
        n=leased.starts,
        worker_id=worker.id,
        host=worker.host,
        lease_id=new_lease(),
        lease_until=turn.now + turn.lease_seconds,
        created_at=turn.now,
        output_path=f"{job.id[:OUTPUT_HOUR]}/{job.id}.{step.idx}.{leased.starts}.log",
    )
    turn.put(change, detail={"worker": worker.id, "trial": job.trial})
    turn.add_attempt(attempt, leased)
    return job.id, attempt, leased


def _claims(turn: Turn, taken: list[tuple[str, table.OpenAttempt, QueuedStep]]) -> list[Claim]:
    """What the worker needs to run them: arguments and specs, read for those that were taken only."""
    if not taken:
        return []
    by_idx: dict[int, list[str]] = {}
    by_job: dict[str, list[int]] = {}
    for job_id, _, step in taken:
        by_idx.setdefault(step.idx, []).append(job_id)
        by_job.setdefault(job_id, []).append(step.idx)
    wanted = [{"ids": ids, "numbers": [idx]} for idx, ids in by_idx.items()]
    if len(by_job) < len(by_idx):
        wanted = [{"ids": [job_id], "numbers": numbers} for job_id, numbers in by_job.items()]
    args: dict[str, Any] = {}
    specs: dict[tuple[str, int], Any] = {}
    for some in wanted:
        for job_id, idx, given, spec in turn.connection.execute(_WORK, some):
            args[job_id], specs[job_id, idx] = given, spec
    return [
        Claim(
            job_view(turn.job(job_id), args[job_id]),
            step_view(step, specs[job_id, step.idx]),
            attempt.lease_id,
            attempt.n,
            attempt.output_path,
            turn.lease_seconds,
        )
        for job_id, attempt, step in taken
    ]


def _keys_statement() -> Any:
    """The keys that jobs are ready under, each found by one look into the index."""
    least = select(func.min(jobs.c.ready_key).label("key")).where(jobs.c.ready_key.is_not(None))
    keys = least.cte("keys", recursive=True)
    following = select(func.min(jobs.c.ready_key)).where(jobs.c.ready_key > keys.c.key).scalar_subquery()
    keys = keys.union_all(select(following).where(keys.c.key.is_not(None)))
    return select(keys.c.key).where(keys.c.key.is_not(None))


_KEYS = _keys_statement()
_READY = (
    select(jobs.c.rank, jobs.c.seq, jobs.c.id)
    .where(jobs.c.ready_key == bindparam("key"))
    .order_by(jobs.c.rank, jobs.c.seq)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_ONLY = select(*table.step_columns()).where(steps.c.job_id.in_(bindparam("ids", expanding=True)), steps.c.idx == 0)
_WORK = (
    select(jobs.c.id, steps.c.idx, jobs.c.args, steps.c.spec)
    .select_from(jobs.join(steps, steps.c.job_id == jobs.c.id))
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), steps.c.idx.in_(bindparam("numbers", expanding=True)))
)
_RUNNING = _READY.where(jobs.c.lane == bindparam("lane"), jobs.c.state == "running")
_BEGINNING = _READY.where(jobs.c.state != "running")


def _ready_keys(connection: Connection) -> list[str]:
    return list(connection.execute(_KEYS).scalars())


def _candidates(connection: Connection, key: str, lane_room: int | None, most: int) -> list[_Candidate]:
    """The best jobs of a key; in a full lane those that run already and have more steps."""
    if lane_room is None:
        return [tuple(row) for row in connection.execute(_READY, {"key": key, "most": most})]
    found = connection.execute(_RUNNING, {"key": key, "most": most, "lane": parse(key).lane}).all()
    fresh = connection.execute(_BEGINNING, {"key": key, "most": min(most, lane_room)}).all()
    return [tuple(row) for row in (*found, *fresh)]


def _only_steps(connection: Connection, ids: list[str]) -> dict[str, QueuedStep]:
    """The steps of jobs that have one."""
    found: dict[str, QueuedStep] = {}
    if ids:
        found.update((row[0], table.step_of(row)) for row in connection.execute(_ONLY, {"ids": ids}))
    return found


def _due_steps(turn: Turn, job: QueuedJob, only: Mapping[str, QueuedStep], most: int) -> list[QueuedStep]:
    if job.single:
        step = only.get(job.id)
        return [step] if step is not None and step.run_after <= turn.now else []
    mine = (steps.c.job_id == job.id) & (steps.c.claim == job.counters.stage) & (steps.c.run_after <= turn.now)
    wanted = select(*table.step_columns()).where(mine).order_by(steps.c.run_after, steps.c.idx).limit(most)
    return [table.step_of(row) for row in turn.connection.execute(wanted)]


def _running(connection: Connection, lane: str) -> int:
    wanted = select(func.count()).where(jobs.c.lane == lane, jobs.c.state == "running")
    return connection.execute(wanted).scalar() or 0
