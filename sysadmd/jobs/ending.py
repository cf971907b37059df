"""What a worker says of a step that it holds: begun, still there, so far, ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sysadmd.errors import RpcError
from sysadmd.jobs import lifecycle
from sysadmd.jobs.enqueueing import new_steps
from sysadmd.jobs.lifecycle import QueuedJob, QueuedStep
from sysadmd.jobs.queue_table import OpenAttempt
from sysadmd.jobs.spec import STEPS_MAX, check_steps
from sysadmd.jobs.turn import Turn
from sysadmd.jobs.views import End

_replace = msgspec.structs.replace


@dataclass(slots=True)
class Progress:
    """The latest that an attempt reported: `value` 0 to 1, a message, and JSON of its own."""

    at: float
    value: float | None = None
    message: str | None = None
    data: Mapping[str, Any] | None = None


def started(turn: Turn, lease: str, pid: int | None, pid_start: str | None) -> bool:
    """The process of an attempt is there; False: nothing runs under that lease."""
    found = turn.held(lease)
    if found is None:
        return False
    attempt, step = found
    turn.put_attempt(_replace(attempt, pid=pid, pid_start=pid_start, started_at=turn.now))
    old = turn.job(step.job_id)
    change = lifecycle.started(old, step)
    job = turn.put(change)
    if old.counters.starting:
        turn.tell("start_job", job)
    if change.step is not None and change.step is not step:
        turn.tell_step(job, change.step, durable=False)
    return True


def renew(turn: Turn, lease: str) -> bool:
    """Hold a lease for longer; False: it is not held any more, or its job was asked to end. Such a lease is not cut
    short: its worker needs the time to end what runs.
    """
    found = turn.held(lease)
    if found is None:
        return False
    attempt, step = found
    turn.put_attempt(_replace(attempt, lease_until=turn.now + turn.lease_seconds))
    return turn.job(step.job_id).kill_requested_at is None


def adopt(turn: Turn, leases: Iterable[str]) -> dict[str, tuple[QueuedJob, str, bool]]:
    """Renew leases that this process did not give out; of those that hold: the job, the worker, and whether the job was
    asked to end.
    """
    found = {}
    for lease in leases:
        holds = renew(turn, lease)
        held = turn.held(lease)
        if held is not None:
            found[lease] = turn.job(held[1].job_id), held[0].worker_id, not holds
    return found


def progress(turn: Turn, lease: str, said: Progress) -> bool:
    """Store what an attempt reported; False: nothing runs under that lease."""
    found = turn.held(lease)
    if found is None:
        return False
    attempt, step = found
    turn.put_attempt(_replace(attempt, heartbeat_at=said.at))
    job = _replace(turn.job(step.job_id), heartbeat_at=said.at)
    if job.single and said.value is not None:
        job = _replace(job, progress=said.value)
    if said.message is not None:
        job = _replace(job, progress_msg=said.message)
    known: dict[str, Any] = {} if said.value is None else {"value": said.value}
    told = {**(step.progress or {}), **known, **(said.data or {})}
    step = _replace(step, progress=told or None)
    turn.put(lifecycle.Change(job, step))
    turn.tell_step(job, step, durable=False)
    return True


def finish(turn: Turn, lease: str, end: End) -> bool:
    """An attempt has ended; False: it is not open under that lease, so its result comes too late or twice."""
    found = turn.held(lease)
    if found is None:
        return False
    attempt, step = found
    job = turn.job(step.job_id)
    end = _checked(job, step, end)
    first = job.counters.total
    change = lifecycle.finish(job, step, end, turn.now)
    done = change.job
    if not done.single:
        done = _replace(done, progress=done.counters.ok / done.counters.total)
        change = change._replace(job=done)
    turn.put_attempt(_ended(attempt, end, turn.now))
    turn.outcomes[end.outcome] += 1
    if end.expand:
        turn.add_steps(done, new_steps(done, end.expand, first))
    detail = {"outcome": end.outcome, "error": _told(job, end)} if end.outcome != "ok" else None
    event = "failed_start" if end.outcome == "start_failed" and done.state == "error" else None
    turn.put(change, event=event, detail=detail)
    assert change.step is not None
    turn.tell_step(done, change.step)
    return True


def reap(turn: Turn, leases: Iterable[str]) -> int:
    """End attempts whose worker did not renew its lease; how many there were."""
    error = {"exception": "WorkerLost", "message": "the worker did not say in time that it still runs this"}
    return sum(finish(turn, lease, End(outcome="lost", error=error)) for lease in leases)


def _checked(job: QueuedJob, step: QueuedStep, end: End) -> End:
    """The end itself, or a failure when it makes steps that cannot be."""
    if not end.expand:
        return end
    try:
        if end.outcome != "ok":
            raise ValueError("only a step that is ok makes others")
        check_steps(end.expand, job.kind, "expand", above=step.stage, room=STEPS_MAX - job.counters.total)
    except (RpcError, ValueError) as error:
        told = {"exception": type(error).__name__, "message": f"the new steps were refused: {error}"}
        return _replace(end, outcome="fail" if end.outcome == "ok" else end.outcome, error=told, expand=())
    return end


def _told(job: QueuedJob, end: End) -> dict[str, Any]:
    """What an event says of an error: its traceback is for those who ask for it. The message of a transfer names files
    of its owner's, and its events are for all who may read jobs of its name.
    """
    kept = ("exception",) if job.kind == "transfer" else ("exception", "message")
    return {key: value for key, value in (end.error or {}).items() if key in kept}


def _ended(attempt: OpenAttempt, end: End, now: float) -> OpenAttempt:
    return _replace(
        attempt,
        lease_until=None,
        finished_at=now,
        outcome=end.outcome,
        exit_code=end.exit_code,
        signal=end.signal,
        error=end.error,
        usage=end.usage,
        output_bytes=end.output_bytes,
    )
