"""One turn of the queue: everything that was asked of it since the last one, as one transaction in the making.

A turn knows the jobs, steps and attempts that it has read or changed, in their present form, so that a job may go
through several transitions and be written once. What it wrote nobody sees before the commit, and a commit that fails
leaves nothing behind, since a turn is thrown away afterwards. It runs in the writer's thread and touches nothing but
its connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from sysadmd.errors import NotFound
from sysadmd.events.record import Draft
from sysadmd.jobs import queue_table as table
from sysadmd.jobs.counts import Counts, load_sums
from sysadmd.jobs.ids import JobIds
from sysadmd.jobs.lifecycle import Change, QueuedJob, QueuedStep
from sysadmd.jobs.queue_events import STATE_EVENTS, queue_draft, transfer_draft
from sysadmd.jobs.queue_table import OpenAttempt, Rows
from sysadmd.jobs.spec import KINDS
from sysadmd.store.tables import job as jobs
from sysadmd.store.tables import lane as lanes
from sysadmd.store.tables import step as steps


class Lane(msgspec.Struct, frozen=True):
    """A lane: jobs that run at once in it (None: any number), and whether it is paused."""

    max_running: int | None
    paused: bool


class Turn:
    """Changes on top of what is stored. `now` is one time for all of them; `most` jobs may be in the queue."""

    def __init__(
        self, connection: Connection, *, now: float, ids: JobIds, lease_seconds: float, most: int = 1_000_000
    ) -> None:
        self.connection, self.now, self.lease_seconds, self.most = connection, now, lease_seconds, most
        self._ids = ids
        self.counts = Counts(load_sums(connection))
        self.rows = Rows()
        self.drafts: list[Draft] = []
        self.readied: set[str] = set()
        """Kinds of jobs that became ready."""
        self.next_due: float | None = None
        """The earliest time that a job of this turn is to be looked at again."""
        self.killed: set[str] = set()
        """Jobs that run and whose end was asked for."""
        self.outcomes: Counter[str] = Counter()
        """How the attempts ended that ended in this turn."""
        self._jobs: dict[str, QueuedJob] = {}
        self._held: dict[str, tuple[OpenAttempt, QueuedStep]] = {}
        self._steps: dict[tuple[str, int], QueuedStep] = {}
        self._seq: int | None = None
        self._lanes: dict[str, Lane] | None = None

    # ---- what is there

    def preload(self, *, ids: Iterable[str] = (), leases: Iterable[str] = ()) -> None:
        """Read what the turn will ask for, in few statements. What is not there stays unknown."""
        new = [lease for lease in leases if lease not in self._held]
        if new:
            self._held.update(table.load_held(self.connection, new))
        wanted = {one for one in ids if one not in self._jobs}
        wanted.update(self._held[lease][0].job_id for lease in new if lease in self._held)
        if wanted:
            self._jobs.update(table.load_jobs(self.connection, wanted - self._jobs.keys()))

    def find(self, job_id: str) -> QueuedJob | None:
        """The job as it is now, or None."""
        if job_id not in self._jobs:
            self.preload(ids=[job_id])
        return self._jobs.get(job_id)

    def seen(self, job: QueuedJob) -> QueuedJob:
        """A job that was read in another way; the form that this turn has of it, if it has one."""
        return self._jobs.setdefault(job.id, job)

    def job(self, job_id: str) -> QueuedJob:
        """The job as it is now. Raises NotFound."""
        found = self.find(job_id)
        if found is None:
            raise NotFound(f"there is no job {job_id!r} in the queue", path="args.id")
        return found

    def held(self, lease: str) -> tuple[OpenAttempt, QueuedStep] | None:
        """The open attempt under a lease, and its step; None when nothing runs under it."""
        if lease not in self._held:
            self.preload(leases=[lease])
        found = self._held.get(lease)
        if found is None or found[0].lease_until is None:
            return None
        attempt, step = found
        return attempt, self._steps.get((step.job_id, step.idx), step)

    def lanes(self) -> Mapping[str, Lane]:
        """All lanes by name."""
        if self._lanes is None:
            rows = self.connection.execute(select(lanes.c.name, lanes.c.max_running, lanes.c.paused_at))
            self._lanes = {row.name: Lane(row.max_running, row.paused_at is not None) for row in rows}
        return self._lanes

    def forget_lanes(self) -> None:
        """Read them again: they have changed."""
        self._lanes = None

    def first_due(self, job: QueuedJob) -> float:
        """When the first waiting step of a job is due."""
        self.flush()
        due = table.first_due(self.connection, job)
        return self.now if due is None else due

    def new_id(self) -> str:
        """An id for a new job."""
        return self._ids(self.now)

    def next_seq(self) -> int:
        """The number of a new job: one more than the last."""
        if self._seq is None:
            self._seq = self.connection.execute(select(func.max(jobs.c.seq))).scalar() or 0
        self._seq += 1
        return self._seq

    # ---- changes

    def add(self, job: QueuedJob, args: Any, new_steps: Iterable[tuple[QueuedStep, Any]]) -> None:
        """A new job with its steps and their specs."""
        self._jobs[job.id] = job
        self.counts.move(None, job)
        self.rows.insert_job(job, args)
        self.add_steps(job, new_steps)
        self._watch(job)

    def add_steps(self, job: QueuedJob, new_steps: Iterable[tuple[QueuedStep, Any]]) -> None:
        """New steps of a job, which knows of them already."""
        for step, spec in new_steps:
            self.rows.insert_step(job, step, spec)

    def add_attempt(self, attempt: OpenAttempt, step: QueuedStep) -> None:
        """A step is in the hands of a worker."""
        self.rows.insert_attempt(attempt)
        self._held[attempt.lease_id] = attempt, step

    def put_attempt(self, attempt: OpenAttempt) -> None:
        """The new form of an attempt."""
        self._held[attempt.lease_id] = attempt, self._held[attempt.lease_id][1]
        self.rows.attempts[attempt.lease_id] = attempt

    def put(self, change: Change, *, event: str | None = None, detail: Mapping[str, Any] | None = None) -> QueuedJob:
        """The new form of a job and its step, and the events that tell of it.

        A new state is told by its own event; `event` takes its place.
        """
        job, step, rest = change
        old = self._jobs[job.id]
        if job is not old:
            self._jobs[job.id] = job
            self.counts.move(old, job)
            self.rows.update_job(old, job)
            self._watch(job)
        if step is not None:
            self._steps[step.job_id, step.idx] = step
            self.rows.steps[step.job_id, step.idx] = job, step
        if rest is not None:
            self.rows.rest.append((job.id, rest))
        if job.state != old.state and (event or job.state in STATE_EVENTS):
            self.tell(event or STATE_EVENTS[job.state], job, detail)
        if job.archived_at is not None and old.archived_at is None and job.remove_requested_at is not None:
            self.tell("remove_job", job)
        if job.kill_requested_at is not None and job.counters.live:
            self.killed.add(job.id)
        if old.state == "running" != job.state and self.lanes()[job.lane].max_running is not None:
            self.readied |= KINDS  # another job of this lane may begin, of whatever kind
        return job

    def tell(self, event: str, job: QueuedJob, detail: Mapping[str, Any] | None = None) -> None:
        """An event of a job, with the counts as they are now."""
        self.drafts.append(queue_draft(event, job, self.counts.told(), detail))
        if job.kind == "transfer":
            self.drafts.append(transfer_draft(job, None))

    def tell_step(self, job: QueuedJob, step: QueuedStep, *, durable: bool = True) -> None:
        """An event of a transfer's element."""
        if job.kind == "transfer":
            self.drafts.append(transfer_draft(job, step, durable=durable))

    def due_now(self, job_id: str) -> None:
        """Make all waiting steps of a job due."""
        self.rows.due_now.append((job_id, 0.0))

    def flush(self) -> None:
        """Write what has changed so far, so that statements see it. The steps are forgotten: some may have changed
        with all of their job.
        """
        self.rows.write(self.connection)
        for lease, (attempt, step) in self._held.items():
            self._held[lease] = attempt, self._steps.get((step.job_id, step.idx), step)
        self._steps.clear()

    def finish(self) -> None:
        """Write everything."""
        self.rows.write(self.connection)
        self.counts.write(self.connection)

    def _watch(self, job: QueuedJob) -> None:
        if job.ready:
            self.readied.add(job.kind)
        elif job.due_at is not None:
            self.next_due = job.due_at if self.next_due is None else min(self.next_due, job.due_at)


def waiting_counts(connection: Connection, job_id: str) -> dict[tuple[int, str], int]:
    """Steps of a job by stage and state: for the rare case that its counters are made anew."""
    wanted = select(steps.c.stage, steps.c.state, func.count().label("n")).where(steps.c.job_id == job_id)
    rows = connection.execute(wanted.group_by(steps.c.stage, steps.c.state))
    return {(row.stage, row.state): row.n for row in rows}
