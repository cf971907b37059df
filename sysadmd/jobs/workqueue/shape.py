"""Jobs, steps and attempts as the objects that the clients of pdm.workqueue read (spec job-queues §2.3).

Keys that a job has no value for are missing, not null. States, types and protocols are upper-case names. Times are UTC
to the minute, as in the protocol's reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sysadmd.jobs.transfers.pdm import (
    ACCEPTED,
    JobStatus,
    attempt_status,
    element_status,
    job_status,
    shown_priority,
)
from sysadmd.jobs.views import AttemptView, JobView, StepView

PROGRESS = ("transferred", "instant", "average", "elapsed")
UNKNOWN = "N/A"
"""A figure that no worker has reported."""
USER_BITS = 52
"""Every JSON reader has these integers exact."""
_TARGET = ("dst_siteid", "dst_filepath")
_TARGET_TYPES = frozenset({"COPY", "RENAME"})


def user_number(account: str) -> int:
    """A number for an account, the same at all times and on all servers.

    Accounts are called by name here; this stands for one where a client wants a number, and decides nothing.
    """
    return int.from_bytes(hashlib.sha256(account.encode("utf-8", "surrogatepass")).digest()[:8]) >> (64 - USER_BITS)


def moment(time: float) -> str:
    """`2012-03-21T13:35`."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M")


def status_of(view: JobView, *, running: bool) -> JobStatus:
    """The status of a job; `running`: one of its steps runs."""
    return job_status(view.state, ["running"] if running else ())


def job(view: JobView, *, running: bool = False, accepted: bool = False) -> dict[str, Any]:
    """A job. `running`: one of its steps runs; `accepted`: this answers the request for it."""
    args = view.args
    changed = max(view.created_at, view.started_at or 0.0, view.finished_at or 0.0)
    return {
        "id": view.seq,
        "user_id": user_number(view.owner),
        **{key: args[key] for key in ("src_siteid", "dst_siteid", "src_filepath", "dst_filepath") if key in args},
        "type": args["type"],
        "status": (ACCEPTED if accepted else status_of(view, running=running)).name,
        "extra_opts": args["extra_opts"],
        "priority": shown_priority(view.priority),
        "protocol": args["protocol"],
        "log_uid": view.id,
        "timestamp": moment(changed),
    }


def element(view: StepView, owner: JobView, latest: AttemptView | None, *, full: bool = False) -> dict[str, Any]:
    """An element of the job `owner`, with its latest attempt. `full`: the listing has records instead of names."""
    changed = owner.created_at if latest is None else max(latest.created_at, latest.finished_at or 0.0)
    shown: dict[str, Any] = {"id": view.idx, "job_id": owner.seq, "src_filepath": view.spec["src"]}
    if view.type in _TARGET_TYPES:
        shown["dst_filepath"] = view.spec["dst"]
    found = listing(view, full=full)
    return {
        **shown,
        "size": view.size,
        "max_tries": view.tries_max,
        "attempts": view.starts,
        "type": view.type,
        "status": element_status(view.state, view.starts).name,
        "timestamp": moment(changed),
        "listing": [] if found is None else [found],
    }


def listing(view: StepView, *, full: bool = False) -> Mapping[str, Any] | None:
    """What a LIST that is done has found: directory -> names, or records; None for every other element."""
    result = view.result
    if view.type != "LIST" or view.state != "ok" or not isinstance(result, dict) or "listing" not in result:
        return None
    found: Mapping[str, Any] = result["listing"]
    return found if full else {directory: [one["name"] for one in entries] for directory, entries in found.items()}


def element_state(view: StepView, owner: JobView) -> dict[str, Any]:
    """The status of an element, with what its worker last reported."""
    figures = view.progress or {}
    return {
        "jobid": owner.seq,
        "elementid": view.idx,
        "status": element_status(view.state, view.starts).name,
        "attempts": view.starts,
        **{key: figures.get(key, UNKNOWN) for key in PROGRESS},
    }


def job_state(view: JobView, *, running: bool) -> dict[str, Any]:
    """The status of a job."""
    return {"jobid": view.seq, "status": status_of(view, running=running).name}


def output(attempt: AttemptView, view: StepView, owner: JobView, log: str, *, full: bool = False) -> dict[str, Any]:
    """What an attempt wrote; the one that made a listing has it too."""
    shown = {
        "jobid": owner.seq,
        "elementid": view.idx,
        "attempt": attempt.n,
        "type": view.type,
        "status": attempt_status(attempt.outcome).name,
        "log": log,
    }
    found = listing(view, full=full) if attempt.outcome == "ok" else None
    return shown if found is None else {**shown, "listing": found}


def counted(states: Mapping[tuple[str, bool], int]) -> dict[str, int]:
    """`num_elements`, and `num_new` and so on, of how many steps are in each state (and were attempted, or not)."""
    found = dict.fromkeys(JobStatus, 0)
    for (state, attempted), n in states.items():
        found[element_status(state, int(attempted))] += n
    return {"num_elements": sum(found.values()), **{f"num_{one.name.lower()}": n for one, n in found.items()}}
