"""Jobs that run for too long or say nothing, and leases that are over: looked for among what runs now only."""

from __future__ import annotations

import msgspec
from sqlalchemy import case, select, update

from sysadmd.jobs import lifecycle
from sysadmd.jobs import queue_table as table
from sysadmd.jobs.lifecycle import Change, QueuedJob
from sysadmd.jobs.turn import Turn
from sysadmd.store.tables import attempt as attempts
from sysadmd.store.tables import job as jobs

_replace = msgspec.structs.replace


def flag(turn: Turn) -> int:
    """Set `zombie_at` and `wall_at` where their time has come; how many flags were set."""
    turn.flush()
    running = (jobs.c.live == 1) & (jobs.c.state == "running")
    late = (jobs.c.started_at + jobs.c.wall_time <= turn.now) & jobs.c.wall_at.is_(None)
    silent = jobs.c.zombie_at.is_(None) & (jobs.c.started_at + jobs.c.zombie_time <= turn.now)
    found = turn.connection.execute(select(*table.job_columns()).where(running, late | silent))
    flags = 0
    for row in found.all():
        job = turn.seen(table.job_of(row))
        for event, flagged in (("flag_nonstop", _wall(job, turn.now)), ("flag_zombie", _zombie(job, turn.now))):
            if flagged:
                changed = {"flag_nonstop": "wall_at", "flag_zombie": "zombie_at"}[event]
                job = turn.put(Change(_replace(job, **{changed: turn.now})))
                turn.tell(event, job)
                flags += 1
    return flags


def _wall(job: QueuedJob, now: float) -> bool:
    over = job.wall_time is not None and job.started_at is not None and job.started_at + job.wall_time <= now
    return over and job.wall_at is None


def _zombie(job: QueuedJob, now: float) -> bool:
    heard = job.heartbeat_at if job.heartbeat_at is not None else job.started_at
    over = job.zombie_time is not None and heard is not None and heard + job.zombie_time <= now
    return over and job.zombie_at is None


def expired_leases(turn: Turn, seconds: float) -> set[str]:
    """Leases whose stored time is over. One that ends later than a new one would was given before the clock was set
    back: it gets the time of a new one.
    """
    turn.flush()
    open_lease = attempts.c.lease_until.is_not(None)
    ahead = attempts.c.lease_until > turn.now + 2 * seconds
    turn.connection.execute(update(attempts).where(open_lease, ahead).values(lease_until=turn.now + seconds))
    late = select(attempts.c.lease_id).where(open_lease, attempts.c.lease_until < turn.now)
    return set(turn.connection.execute(late).scalars())


def pull_back(turn: Turn) -> int:
    """Make due what waits for a retry that lies further ahead than it was ever put: the clock was set back since. How
    many jobs there were.
    """
    turn.flush()
    delay = case((jobs.c.state == "deferred", jobs.c.defer_delay), else_=jobs.c.retry_delay)
    waits = jobs.c.state.in_(["failed", "deferred"])
    ahead = select(*table.job_columns()).where(jobs.c.due_at > turn.now + delay + 1, waits)
    found = [turn.seen(table.job_of(row)) for row in turn.connection.execute(ahead).all()]
    for job in found:
        turn.due_now(job.id)
        turn.put(lifecycle.restart(job))
    return len(found)
