"""The records of the queue: what happened to a job, once; each dialect renders it (wire/topics.py).

Topic `queue`: ``{"event", "job": {...}, "counts": {state: n}, "attempts_left", "detail"?}``. `event` is one of EVENTS,
`counts` are the jobs in the queue by state after the change. The last failure of a job is a `failed_job` whose job has
the state `error`.

Topic `workqueue`, for transfers besides: ``{"event": "job" | "element", "job", "element"?, "progress"?}``.

The record names the job as the one whose readers may know it; others get a masked copy (events/masking.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sysadmd.events.record import Draft
from sysadmd.jobs.lifecycle import QueuedJob, QueuedStep

QUEUE, WORKQUEUE = "queue", "workqueue"
SUMMARY = "summary"
"""The volatile event that tells how many jobs there are of each name and state."""

EVENTS = frozenset(
    {
        "enqueue_job", "request_start_job", "start_job", "complete_job", "failed_job", "failed_start", "defer_job",
        "inactivate_job", "request_kill_job", "kill_job", "request_remove_job", "remove_job", "restart_waiting",
        "restart_stopped", "flag_zombie", "flag_nonstop",
    }
)  # fmt: skip
STATUS: Mapping[str, str] = {
    "waiting": "NEW",
    "leased": "SUBMITTED",
    "running": "RUNNING",
    "retry": "SUBMITTED",
    "deferred": "SUBMITTED",
    "ok": "DONE",
    "failed": "FAILED",
    "skipped": "FAILED",
    "killed": "FAILED",
}
"""The word of a transfer's clients for the state of a step (spec job-queues §3.4)."""

STATE_EVENTS: Mapping[str, str] = {
    "running": "request_start_job",
    "complete": "complete_job",
    "failed": "failed_job",
    "error": "failed_job",
    "deferred": "defer_job",
    "inactive": "inactivate_job",
    "killed": "kill_job",
}
"""What tells that a job has got a state."""


def job_part(job: QueuedJob) -> dict[str, Any]:
    """What records say of a job."""
    part: dict[str, Any] = {
        "id": job.id,
        "seq": job.seq,
        "name": job.name,
        "kind": job.kind,
        "owner": job.owner,
        "state": job.state,
    }
    if job.ext_id is not None:
        part["ext_id"] = job.ext_id
    return part


def queue_draft(event: str, job: QueuedJob, counts: Mapping[str, int], detail: Mapping[str, Any] | None) -> Draft:
    """The record of one change; `detail` holds what only some events have."""
    data = {"event": event, "job": job_part(job), "counts": counts, "attempts_left": job.attempts_left}
    if detail:
        data["detail"] = detail
    return Draft(QUEUE, data, durable=True, permission=job.name)


def transfer_draft(job: QueuedJob, step: QueuedStep | None, *, durable: bool = True) -> Draft:
    """The record of a transfer, or of one of its elements."""
    data: dict[str, Any] = {"event": "job" if step is None else "element", "job": job_part(job)}
    if step is not None:
        status = STATUS[step.state]
        data["element"] = {"id": step.idx, "type": step.type, "status": status, "size": step.size}
        if step.progress is not None:
            data["progress"] = step.progress
    return Draft(WORKQUEUE, data, durable=durable, permission=job.name)
