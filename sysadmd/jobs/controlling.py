"""What people ask of jobs and lanes: kill, remove, try again, pause. Each asks once, and is told what it changed."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import update

from sysadmd.errors import Conflict, NotFound
from sysadmd.jobs import lifecycle
from sysadmd.jobs.counters import Counters
from sysadmd.jobs.enqueueing import TakenKeys
from sysadmd.jobs.spec import JobSpec
from sysadmd.jobs.transitions import StaleTransition
from sysadmd.jobs.turn import Turn, waiting_counts
from sysadmd.store.tables import lane as lanes
from sysadmd.store.tables import step as steps


def kill(turn: Turn, ids: Iterable[str], by: str) -> list[str]:
    """Ask for the end of jobs; those that waited or ran. Asking again for one that runs changes nothing."""
    found = []
    for job_id in dict.fromkeys(ids):
        job = turn.find(job_id)
        if job is None or job.final or job.archived_at is not None:
            continue
        found.append(job_id)
        if job.kill_requested_at is not None:
            continue
        change = lifecycle.kill(job, by=by, now=turn.now)
        # The request is told before its effect, in the state that the job had.
        turn.tell("request_kill_job", job, {"by": by})
        turn.put(change, detail={"by": by})
    return found


def remove(turn: Turn, ids: Iterable[str], by: str) -> list[str]:
    """Ask for jobs to leave the queue; those that were in it. One that runs leaves when it ends."""
    found = []
    for job_id in dict.fromkeys(ids):
        job = turn.find(job_id)
        if job is None or job.archived_at is not None:
            continue
        found.append(job_id)
        if job.remove_requested_at is not None:
            continue
        turn.tell("request_remove_job", job, {"by": by})
        turn.put(lifecycle.remove(job, by=by, now=turn.now))
    return found


def retry(turn: Turn, job_id: str, by: str) -> str:
    """Let the failed steps of a stopped job wait again. Raises NotFound, and Conflict for a job that is not stopped."""
    job = turn.job(job_id)
    if job.state not in lifecycle.STOPPED or job.archived_at is not None:
        raise Conflict(f"job {job.id} is {job.state}, only a stopped one can be tried again")
    turn.flush()
    keys = JobSpec(kind="task", name=job.name, unique_key=job.unique_key, ext_id=job.ext_id)
    TakenKeys(turn, [keys]).take([(keys, job.id)])
    again = steps.c.state.in_(["failed", "skipped", "killed", "waiting", "retry", "deferred"])
    claim = None if job.single else steps.c.stage
    values = {"state": "waiting", "claim": claim, "tries_used": 0, "run_after": 0.0}
    turn.connection.execute(update(steps).where(steps.c.job_id == job.id, again).values(**values))
    counters = counted_again(waiting_counts(turn.connection, job.id))
    if not counters.left:
        raise Conflict(f"job {job.id} has no step to be tried again")
    try:
        turn.put(lifecycle.retried(job, counters, turn.now), event="restart_waiting", detail={"by": by})
    except StaleTransition as error:
        raise Conflict(str(error)) from error
    return job.id


def counted_again(found: dict[tuple[int, str], int]) -> Counters:
    """The counters of a job, from the number of its steps by stage and state; none of them runs."""
    waiting: dict[int, int] = {}
    for (stage, state), n in found.items():
        if state == "waiting":
            waiting[stage] = waiting.get(stage, 0) + n
    ok = sum(n for (_, state), n in found.items() if state == "ok")
    total = sum(found.values())
    if not waiting:
        return Counters(ok=ok, total=total, ran=True)
    (stage, fresh), *later = sorted(waiting.items())
    return Counters(stage=stage, fresh=fresh, ok=ok, total=total, later=tuple(later), ran=ok > 0)


def pause(turn: Turn, lane: str | None, by: str | None) -> list[str]:
    """Let nothing new start in a lane, or in all lanes of the queue; `by` None lets it go on. The lanes it is about.

    What runs goes on. Raises NotFound for a lane that there is not.
    """
    wanted = [name for name in turn.lanes() if lane in (None, name)]
    if not wanted:
        raise NotFound(f"there is no lane {lane!r}", path="args.lane", rule=f"one of {', '.join(turn.lanes())}")
    at = None if by is None else turn.now
    turn.connection.execute(update(lanes).where(lanes.c.name.in_(wanted)).values(paused_at=at, paused_by=by))
    turn.forget_lanes()
    return wanted
