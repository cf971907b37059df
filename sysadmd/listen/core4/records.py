"""A job of ours as core4's document (spec job-queues §1.2), whole or for somebody who may not read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sysadmd.jobs.views import AttemptView, JobView
from sysadmd.wire.core4 import iso
from sysadmd.wire.masking import UNAUTHORIZED

HIGH_STATES = {
    "pending": "waiting",
    "failed": "waiting",
    "deferred": "waiting",
    "running": "running",
    "error": "stopped",
    "inactive": "stopped",
    "killed": "stopped",
    "complete": "complete",
}
_TELLS = ("args", "last_error", "prog", "enqueued")
"""Keys that tell of a job what only its readers may know."""


def document(job: JobView, attempts: Sequence[AttemptView] = ()) -> dict[str, Any]:
    """The document; the process id of a running job is known of its `attempts`."""
    return {
        "_id": job.id,
        "name": job.name,
        "state": job.state,
        "args": dict(job.args),
        **_settings(job),
        "attempts_left": max(0, job.tries_max - job.tries_used),
        "trial": job.trial,
        "enqueued": {
            "at": iso(job.created_at),
            "hostname": None,
            "parent_id": job.parent_id,
            "child_id": job.child_id,
            "username": job.owner,
        },
        "locked": _locked(job, attempts),
        **_times(job),
        "runtime": job.runtime,
        "last_error": None if job.last_error is None else dict(job.last_error),
        "prog": {"value": job.progress or 0.0, "message": job.progress_msg},
        "journal": job.archived_at is not None,
    }


def row(job: JobView, now: float, *, readable: bool) -> dict[str, Any]:
    """The document as a line of the queue: with what a table shows, and without what is not `readable`."""
    shown = {
        **{key: value for key, value in document(job).items() if key != "name"},
        "qual_name": job.name,
        "highstate": HIGH_STATES[job.state],
        "flag": {
            "zombie": job.zombie_at is not None,
            "nonstop": job.wall_at is not None,
            "removed": job.remove_requested_at is not None,
            "killed": job.kill_requested_at is not None,
        },
        "age": max(0.0, now - job.created_at),
    }
    if readable:
        return shown
    return {**shown, **dict.fromkeys(_TELLS), "qual_name": UNAUTHORIZED}


def _settings(job: JobView) -> dict[str, Any]:
    return {
        "attempts": job.tries_max,
        "priority": job.priority,
        "force": job.force,
        "worker": job.worker_selector,
        "error_time": job.retry_delay,
        "defer_time": job.defer_delay,
        "defer_max": job.defer_max,
        "zombie_time": job.zombie_time,
        "wall_time": job.wall_time,
        "max_parallel": job.max_parallel,
    }


def _times(job: JobView) -> dict[str, str | None]:
    times = {
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "query_at": job.run_after,
        "inactive_at": job.defer_deadline,
        "killed_at": job.kill_requested_at,
        "removed_at": job.remove_requested_at,
        "wall_at": job.wall_at,
        "zombie_at": job.zombie_at,
    }
    return {name: None if at is None else iso(at) for name, at in times.items()}


def _locked(job: JobView, attempts: Sequence[AttemptView]) -> dict[str, Any] | None:
    if job.state != "running":
        return None
    now = next((one for one in attempts if one.outcome is None), None)
    return {
        "at": None if job.started_at is None else iso(job.started_at),
        "heartbeat": None if job.heartbeat_at is None else iso(job.heartbeat_at),
        "hostname": now.host if now else None,
        "pid": now.pid if now else None,
        "worker": job.worker,
    }
