"""What may happen to a job of the queue, as pure functions over the job and one of its steps.

::

    enqueue ─► pending ─lease─► running ─finish─► complete | error | killed
                  ▲                │  ▲
                  │ due            ▼  │ lease
                  └─────── failed | deferred ──(budget spent)──► inactive

A job is looked at with one step at a time and with its counters (counters.py), never with all of its steps; what must
happen to all steps that wait is said as a word, the `rest` of a `Change`, and done by one statement. Values are
immutable; who calls decides in which transaction old and new are compared and stored (turn.py).

A call that does not fit raises `StaleTransition`. A job whose end was asked for ends as killed, whatever its attempt
made of it, so that nobody who saw the request sees the job go on.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from sysadmd.jobs import counters as count
from sysadmd.jobs.counters import Counters
from sysadmd.jobs.model import FINAL_STATES
from sysadmd.jobs.transitions import StaleTransition
from sysadmd.jobs.views import End

_replace = msgspec.structs.replace

Rest: TypeAlias = Literal["skipped", "killed"]

LIVE_STEPS = frozenset({"leased", "running"})
STOPPED = frozenset({"error", "inactive", "killed"})
"""States of a job that a restart replaces by a new one."""
LOST_DELAY = 5.0
"""Seconds until a step whose worker vanished is tried again; doubled with each try, its `retry_delay` at most."""
DEFER_LEAST = 1.0
"""Seconds of the shortest deferral. It costs no try, so a job might else begin a thousand times a second."""


class QueuedJob(msgspec.Struct, frozen=True, gc=False):
    """The part of a job that decides, without its arguments; the fields are the columns of `job` (store.tables).

    `ready`: a step is due and may be claimed. `due_at`: otherwise, when to look again.
    """

    id: str
    seq: int
    kind: str
    name: str
    lane: str
    owner: str
    created_at: float
    counters: Counters
    ext_id: str | None = None
    unique_key: str | None = None
    priority: int = 0
    force: bool = False
    tries_max: int = 1
    run_after: float | None = None
    retry_delay: float = 0.0
    defer_delay: float = 0.0
    defer_max: float = 0.0
    wall_time: float | None = None
    zombie_time: float | None = None
    timeout: float | None = None
    max_parallel: int | None = None
    on_lost: str = "retry"
    worker_selector: str | None = None
    parent_id: str | None = None
    rev: int = 0
    state: str = "pending"
    ready: bool = False
    due_at: float | None = None
    tries_used: int = 0
    trial: int = 0
    defer_deadline: float | None = None
    worker: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    archived_at: float | None = None
    runtime: float = 0.0
    heartbeat_at: float | None = None
    progress: float | None = None
    progress_msg: str | None = None
    last_error: Any = None
    child_id: str | None = None
    zombie_at: float | None = None
    wall_at: float | None = None
    kill_requested_at: float | None = None
    kill_requested_by: str | None = None
    remove_requested_at: float | None = None
    remove_requested_by: str | None = None

    @property
    def final(self) -> bool:
        """Whether it runs no more, unless somebody wants it to."""
        return self.state in FINAL_STATES

    @property
    def single(self) -> bool:
        """Whether its only step is number 0."""
        return self.counters.total == 1

    @property
    def attempts_left(self) -> int:
        """Executions that it still has."""
        return max(0, self.tries_max - self.tries_used)


class QueuedStep(msgspec.Struct, frozen=True, gc=False):
    """The part of a step that decides, without its spec. `run_after` is 0 for one that is due from the beginning."""

    job_id: str
    idx: int
    stage: int
    type: str
    state: str = "waiting"
    tries_max: int = 1
    tries_used: int = 0
    starts: int = 0
    run_after: float = 0.0
    size: int = 0
    result: Any = None
    progress: Any = None


class Change(NamedTuple):
    """A job and its step as they are after a transition. `rest`: what becomes of all steps that wait."""

    job: QueuedJob
    step: QueuedStep | None = None
    rest: Rest | None = None


def placed(job: QueuedJob, now: float) -> QueuedJob:
    """A new job, ready when it is due."""
    due = job.run_after is None or job.run_after <= now
    return _replace(job, ready=due, due_at=None if due else job.run_after)


def lease(job: QueuedJob, step: QueuedStep, *, worker: str, now: float) -> Change:
    """Give a step that is due to a worker."""
    reason = count.REASONS.get(step.state)
    if reason is None or job.final or job.kill_requested_at is not None or step.stage != job.counters.stage:
        raise StaleTransition(f"job {job.id}: step {step.idx} cannot be leased in state {step.state}")
    if step.run_after > now or step.tries_used >= step.tries_max:
        raise StaleTransition(f"job {job.id}: step {step.idx} is not due, or has no try left")
    begins = job.state != "running"
    counters = count.leased(job.counters, reason, starting=begins)
    step = _replace(step, state="leased", tries_used=step.tries_used + 1, starts=step.starts + 1)
    if begins:
        deadline = now + job.defer_max if job.defer_deadline is None else job.defer_deadline
        job = _replace(
            job, started_at=now, defer_deadline=deadline, progress=None, progress_msg=None, heartbeat_at=None,
            zombie_at=None, wall_at=None,
        )  # fmt: skip
    used = max(job.tries_used, step.tries_used)
    job = _replace(job, state="running", counters=counters, worker=worker, trial=job.trial + 1, tries_used=used)
    return Change(_timed(job, now, None), step)


def started(job: QueuedJob, step: QueuedStep) -> Change:
    """The process of a leased step is there. Saying it twice changes nothing."""
    if step.state != "leased":
        return Change(job, step)
    if job.counters.starting:
        job = _replace(job, counters=_replace(job.counters, starting=False))
    return Change(job, _replace(step, state="running"))


def finish(job: QueuedJob, step: QueuedStep, end: End, now: float) -> Change:
    """The attempt has ended: the step is at its end or waits again, and the job goes on or is final."""
    if step.state not in LIVE_STEPS:
        raise StaleTransition(f"job {job.id}: step {step.idx} does not run")
    if end.expand:
        job = _replace(job, counters=count.added(job.counters, (new.stage for new in end.expand)))
    if end.error is not None or end.outcome != "ok":
        job = _replace(job, last_error={"outcome": end.outcome, "step": step.idx, "time": now, **(end.error or {})})
    step = _replace(step, result=step.result if end.result is None else end.result)
    if job.kill_requested_at is not None or end.outcome == "killed":
        return _killed_step(job, step, end, now)
    if end.outcome == "ok":
        job, skip = _closed(job, ok=True)
        return _settled(job, _replace(step, state="ok"), now, rest="skipped" if skip else None)
    if end.outcome == "deferred":
        after = now + max(DEFER_LEAST, job.defer_delay if end.delay is None else end.delay)
        step = _replace(step, state="deferred", tries_used=step.tries_used - 1, run_after=after)
        counters = count.back(job.counters, "deferred")
        used = step.tries_used if job.single else job.tries_used
        return _settled(_replace(job, counters=counters, tries_used=used), step, now, due=after)
    delay = _retry_delay(job, step, end)
    if delay is not None:
        step = _replace(step, state="retry", run_after=now + delay)
        job = _replace(job, counters=count.back(job.counters, "retry"))
        return _settled(job, step, now, due=step.run_after)
    job, skip = _closed(job, ok=False)
    return _settled(job, _replace(step, state="failed"), now, rest="skipped" if skip else None)


def due(job: QueuedJob, first: float, now: float) -> Change:
    """Look at a job that waits, whose first step is due at `first`."""
    if job.final or not job.counters.waiting:
        return Change(_replace(job, ready=False, due_at=None))
    only_deferred = job.counters.deferred == job.counters.open
    if first <= now and only_deferred and job.defer_deadline is not None and job.defer_deadline <= now:
        job = _replace(job, counters=count.emptied(job.counters))
        return _settled(job, None, now, rest="skipped", inactive=True)
    ready = first <= now and job.kill_requested_at is None
    return Change(_replace(job, ready=ready, due_at=None if ready else first))


def kill(job: QueuedJob, *, by: str, now: float) -> Change:
    """Ask for the end of a job. Without a live step it is killed at once."""
    if job.final:
        raise StaleTransition(f"job {job.id} is {job.state} already")
    if job.kill_requested_at is None:
        job = _replace(job, kill_requested_at=now, kill_requested_by=by, ready=False, due_at=None)
    if job.counters.live:
        return Change(job)
    job = _replace(job, counters=count.emptied(job.counters))
    return _settled(job, None, now, rest="killed")


def remove(job: QueuedJob, *, by: str, now: float) -> Change:
    """Ask for a job to leave the queue: at once, or when it runs no more. What waits will never run."""
    if job.archived_at is not None:
        raise StaleTransition(f"job {job.id} is removed already")
    if job.remove_requested_at is None:
        job = _replace(job, remove_requested_at=now, remove_requested_by=by)
    return _settled(job, None, now) if job.state != "running" else Change(job)


def restart(job: QueuedJob) -> Change:
    """Make a job that waits due now."""
    if job.final or job.state == "running" or job.kill_requested_at is not None:
        raise StaleTransition(f"job {job.id} does not wait, it is {job.state}")
    return Change(_replace(job, ready=True, due_at=None))


def replaced(job: QueuedJob, child_id: str, now: float) -> Change:
    """A stopped job leaves the queue for the new one that restarts it."""
    if job.state not in STOPPED or job.archived_at is not None:
        raise StaleTransition(f"job {job.id} cannot be restarted, it is {job.state}")
    return Change(_replace(job, archived_at=now, child_id=child_id))


def retried(job: QueuedJob, counters: Counters, now: float) -> Change:
    """The failed steps of a stopped job wait again, as `counters` say."""
    if job.state not in STOPPED or job.archived_at is not None:
        raise StaleTransition(f"job {job.id} cannot be tried again, it is {job.state}")
    state = count.state_of(counters)
    begun = now if state == "running" else job.started_at
    job = _replace(
        job, counters=counters, state=state, started_at=begun, ready=True, due_at=None, finished_at=None,
        kill_requested_at=None, kill_requested_by=None, defer_deadline=None, tries_used=0,
    )  # fmt: skip
    return Change(job)


def _killed_step(job: QueuedJob, step: QueuedStep, end: End, now: float) -> Change:
    """The end of a step of a job that was to end; the job ends with its last one."""
    step = _replace(step, state="ok" if end.outcome == "ok" else "killed")
    job = _replace(job, counters=count.ended(job.counters, ok=end.outcome == "ok"))
    if job.kill_requested_at is None:
        job = _replace(job, kill_requested_at=now, ready=False, due_at=None)
    if job.counters.live:
        return Change(job, step)
    job = _replace(job, counters=count.emptied(job.counters))
    return _settled(job, step, now, rest="killed")


def _closed(job: QueuedJob, *, ok: bool) -> tuple[QueuedJob, bool]:
    counters, skip = count.advanced(count.ended(job.counters, ok=ok))
    return _replace(job, counters=counters), skip


def _retry_delay(job: QueuedJob, step: QueuedStep, end: End) -> float | None:
    """Seconds until the step is tried again; None: never."""
    if step.tries_used >= step.tries_max or end.outcome == "start_failed":
        return None
    if end.outcome == "lost":
        return min(job.retry_delay, LOST_DELAY * 2 ** min(step.tries_used - 1, 16)) if job.on_lost == "retry" else None
    return job.retry_delay


def _settled(
    job: QueuedJob,
    step: QueuedStep | None,
    now: float,
    *,
    rest: Rest | None = None,
    due: float | None = None,
    inactive: bool = False,
) -> Change:
    """The job with the state that its counters give, and all that follows from it."""
    stopped = job.kill_requested_at is not None or job.state == "killed"
    state = job.state if job.final else count.state_of(job.counters, killed=stopped, inactive=inactive)
    if job.state == "running" and state != "running" and job.started_at is not None:
        job = _replace(job, runtime=job.runtime + max(0.0, now - job.started_at))
    if job.remove_requested_at is not None and state != "running" and state not in FINAL_STATES:
        # What waits in a job that leaves the queue would wait for ever.
        job, state, rest = _replace(job, counters=count.emptied(job.counters)), "killed", "killed"
    job = _replace(job, state=state)
    if not job.final:
        return Change(_timed(job, now, due), step, rest)
    archived = job.archived_at
    if archived is None and (state == "complete" or job.remove_requested_at is not None):
        archived = now
    finished = now if job.finished_at is None else job.finished_at
    progress = 1.0 if state == "complete" else job.progress
    job = _replace(job, ready=False, due_at=None, finished_at=finished, archived_at=archived, progress=progress)
    return Change(job, step, rest)


def _timed(job: QueuedJob, now: float, due: float | None) -> QueuedJob:
    """When the job is to be looked at for a claim. Unknown times are `now`: who looks then reads the real one."""
    if job.kill_requested_at is not None or not job.counters.waiting:
        return _replace(job, ready=False, due_at=None)
    if job.counters.fresh:
        return _replace(job, ready=True, due_at=None)
    others = job.counters.waiting - (due is not None)
    if others and job.due_at is None:
        return _replace(job, ready=False, due_at=now)
    known = [time for time in (job.due_at if others else None, due) if time is not None]
    return _replace(job, ready=False, due_at=min(known, default=now))
