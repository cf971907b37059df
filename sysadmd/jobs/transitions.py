"""What may happen to a job, as pure functions: value in, value out (the table of spec job-queues §3.4 for command
jobs).

::

    new ──► pending ──lease──► running ──finish──► running (next step waits) ──lease──► …
               │                  │                    └─► complete | error | killed
               └──────kill────────┴─(kill requested)────► killed

A call that does not fit the present state raises `StaleTransition`: the caller holds an outdated value, or somebody
answers twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from sysadmd.errors import SysadmdError
from sysadmd.jobs.model import STEP_FINAL, STEP_LIVE, Attempt, Job, JobState, Outcome, Step, StepState

_replace = msgspec.structs.replace
_STEP_ENDS: Mapping[Outcome, StepState] = MappingProxyType({"ok": "ok", "killed": "killed"})


class StaleTransition(SysadmdError):
    """A transition that does not fit the job's present state."""


class End(msgspec.Struct, frozen=True):
    """How an attempt ended, as the executor or the server found it; the fields are those of `Attempt`."""

    outcome: Outcome
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    usage: Mapping[str, Any] | None = None
    output_bytes: int = 0


def new_job(  # one parameter for each column that its maker knows
    *,
    id: str,
    ext_id: str,
    lane: str,
    owner: str,
    commands: Iterable[tuple[str, tuple[str, ...]]],
    now: float,
    **options: object,
) -> Job:
    """A pending job with one step and one stage for each (text, argv). `options` are further fields of `Job`."""
    steps = tuple(Step(idx=idx, text=text, argv=argv) for idx, (text, argv) in enumerate(commands))
    return Job(id=id, ext_id=ext_id, lane=lane, owner=owner, steps=steps, created_at=now, **options)  # type: ignore[arg-type]


def claimable(job: Job) -> int | None:
    """The step that may be leased now: the first waiting one, when all before it are ok and nothing runs or asked for
    an end.
    """
    if job.final or job.kill_requested_at is not None:
        return None
    for step in job.steps:
        if step.state == "waiting":
            return step.idx
        if step.state != "ok":
            return None
    return None


def lease(job: Job, *, lease: str, instance: str, output_path: str, now: float) -> Job:
    """Give the claimable step to the executor `instance`. Commit this before anything is started."""
    idx = claimable(job)
    if idx is None:
        raise StaleTransition(f"job {job.id}: no step can be leased in state {job.state}")
    step = job.steps[idx]
    attempt = Attempt(
        job_id=job.id,
        idx=idx,
        n=step.tries_used + 1,
        lease=lease,
        instance=instance,
        created_at=now,
        output_path=output_path,
    )
    leased = _replace(step, state="leased", tries_used=attempt.n, attempt=attempt)
    started = now if job.started_at is None else job.started_at
    return _replace(job, state="running", started_at=started, steps=_with(job.steps, leased))


def started(job: Job, *, lease: str, pid: int, pid_start: str | None, at: float) -> Job:
    """The executor says that the attempt runs. Saying it twice changes nothing."""
    step, attempt = _held(job, lease)
    attempt = _replace(attempt, pid=pid, pid_start=pid_start, started_at=at)
    running = _replace(step, state="running", attempt=attempt)
    return _replace(job, steps=_with(job.steps, running))


def reported(job: Job, *, lease: str, output_bytes: int) -> Job:
    """So much of the running attempt's output has been told in events; a later server goes on from there."""
    step, attempt = _held(job, lease)
    if attempt.output_bytes == output_bytes:
        return job
    return _replace(job, steps=_with(job.steps, _replace(step, attempt=_replace(attempt, output_bytes=output_bytes))))


def finish(job: Job, end: End, *, lease: str, now: float) -> Job:
    """The attempt has ended: the next step may go on, or the rest is skipped and the job is final.

    A job whose kill was asked for ends as killed, whatever the attempt made of it.
    """
    step, attempt = _held(job, lease)
    ended = _replace(
        attempt,
        outcome=end.outcome,
        exit_code=end.exit_code,
        signal=end.signal,
        message=end.message,
        usage=end.usage,
        output_bytes=end.output_bytes,
        started_at=end.started_at or attempt.started_at,
        finished_at=end.finished_at or now,
    )
    steps = _with(job.steps, _replace(step, state=_STEP_ENDS.get(end.outcome, "failed"), attempt=ended))
    killed = end.outcome == "killed" or job.kill_requested_at is not None
    if killed or end.outcome != "ok":
        steps = _skip_rest(steps)
    error = None if end.outcome == "ok" else {"outcome": end.outcome, "step": step.idx, "message": end.message}
    return _settled(_replace(job, steps=steps, last_error=error), killed=killed, now=now)


def kill(job: Job, *, by: str, now: float) -> Job:
    """Ask for the job's end. Without a live attempt it is killed at once; else its attempt has to be signalled."""
    if job.final:
        raise StaleTransition(f"job {job.id} is {job.state} already")
    if job.kill_requested_at is None:
        job = _replace(job, kill_requested_at=now, kill_requested_by=by)
    if job.live_attempt is not None:
        return job
    return _settled(_replace(job, steps=_skip_rest(job.steps)), killed=True, now=now)


def derive_state(steps: Sequence[Step], *, killed: bool) -> JobState:
    """A job's state from its steps, first match wins (spec job-queues §3.4; command jobs neither defer nor retry)."""
    states = {step.state for step in steps}
    if states & STEP_LIVE:
        return "running"
    if killed:
        return "killed"
    if "waiting" in states:
        return "pending" if states == {"waiting"} else "running"
    return "error" if states & {"failed", "killed"} else "complete"


def _settled(job: Job, *, killed: bool, now: float) -> Job:
    state = derive_state(job.steps, killed=killed)
    done = all(step.state in STEP_FINAL for step in job.steps)
    return _replace(job, state=state, finished_at=now if done else None)


def _held(job: Job, lease: str) -> tuple[Step, Attempt]:
    attempt = job.live_attempt
    if attempt is None or attempt.lease != lease:
        raise StaleTransition(f"job {job.id}: nothing is running under that lease")
    return job.steps[attempt.idx], attempt


def _with(steps: tuple[Step, ...], step: Step) -> tuple[Step, ...]:
    if len(steps) == 1:
        return (step,)
    return (*steps[: step.idx], step, *steps[step.idx + 1 :])


def _skip_rest(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(_replace(step, state="skipped") if step.state == "waiting" else step for step in steps)
