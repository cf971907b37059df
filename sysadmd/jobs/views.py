"""What the queue shows of its jobs: frozen values for handlers, facades and workers.

The names are those of the columns (store.tables), so that a row and its view can be compared by eye. Times are Unix
seconds. Nothing here is a promise to a client: each facade renders its own form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sysadmd.jobs.spec import StepSpec


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job of the queue.

    `state`: pending running deferred failed (waits for a retry) complete error inactive killed. `worker_selector` is
    the only worker that may run it, `worker` the one that runs it or ran it last. `tries_used` counts executions, the
    ones that deferred not; `trial` counts all starts. `started_at` is the latest time that it began to run, `runtime`
    the seconds of all finished runs. `heartbeat_at`: the latest word of progress. `progress` is 0 to 1. `archived_at`:
    when it left the queue. `steps_*` count its steps.
    """

    id: str
    seq: int
    kind: str
    name: str
    lane: str
    owner: str
    state: str
    created_at: float
    args: Mapping[str, Any] = {}
    ext_id: str | None = None
    unique_key: str | None = None
    priority: int = 0
    force: bool = False
    tries_max: int = 1
    tries_used: int = 0
    trial: int = 0
    run_after: float | None = None
    retry_delay: float = 0.0
    defer_delay: float = 0.0
    defer_max: float = 0.0
    defer_deadline: float | None = None
    wall_time: float | None = None
    zombie_time: float | None = None
    timeout: float | None = None
    max_parallel: int | None = None
    on_lost: str = "error"
    worker_selector: str | None = None
    worker: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    archived_at: float | None = None
    runtime: float = 0.0
    heartbeat_at: float | None = None
    progress: float | None = None
    progress_msg: str | None = None
    last_error: Mapping[str, Any] | None = None
    parent_id: str | None = None
    child_id: str | None = None
    zombie_at: float | None = None
    wall_at: float | None = None
    kill_requested_at: float | None = None
    kill_requested_by: str | None = None
    remove_requested_at: float | None = None
    remove_requested_by: str | None = None
    steps_total: int = 1
    steps_ok: int = 0
    steps_failed: int = 0
    stage: int = 0
    rev: int = 0


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step. `state`: waiting leased running ok retry deferred failed skipped killed. `starts` is the number of its
    latest attempt, 0 before the first. `run_after`: when it is due. `progress` is the JSON that its worker reported.
    """

    job_id: str
    idx: int
    stage: int
    type: str
    state: str
    spec: Mapping[str, Any] = {}
    size: int = 0
    tries_max: int = 1
    tries_used: int = 0
    starts: int = 0
    run_after: float | None = None
    result: Any = None
    progress: Mapping[str, Any] | None = None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a step. `outcome` is None while it is open. `output_path` is relative to `<state>/output`."""

    job_id: str
    idx: int
    n: int
    worker: str
    host: str
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    lease_until: float | None = None
    heartbeat_at: float | None = None
    pid: int | None = None
    pid_start: str | None = None
    outcome: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] | None = None
    output_path: str | None = None
    output_bytes: int | None = None


class Worker(msgspec.Struct, frozen=True):
    """Who claims: `id` is `<name>@<host>`. `started_at` is its own start in Unix seconds: a halt ends the workers that
    were there before it.
    """

    id: str
    host: str
    started_at: float
    slots: int = 1


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that claimed through this server. `running`: its open attempts; `halted`: it was asked to leave."""

    id: str
    host: str
    started_at: float
    heartbeat_at: float
    slots: int
    kinds: tuple[str, ...]
    running: int
    halted: bool


class Claim(msgspec.Struct, frozen=True):
    """A step to run. Renew `lease` every `lease_seconds` / 3; `n` is the number of the attempt. `output_path` is
    relative to `<state>/output`.
    """

    job: JobView
    step: StepView
    lease: str
    n: int
    output_path: str
    lease_seconds: float


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended.

    `outcome`: ok fail timeout deferred killed lost output_limit start_failed. `error`: {exception, message, traceback};
    of a deferral, its reason, and `delay` is the seconds until the next look, None for the job's own. `result` is JSON
    for the step. `expand`: steps to be made in the same transaction, in later stages than this one; of an attempt that
    is ok only.
    """

    outcome: str
    exit_code: int | None = None
    signal: int | None = None
    error: Mapping[str, Any] | None = None
    delay: float | None = None
    result: Any = None
    usage: Mapping[str, Any] | None = None
    output_bytes: int = 0
    expand: tuple[StepSpec, ...] = ()


class SummaryRow(msgspec.Struct, frozen=True):
    """Jobs of one name, state and flags. `progress` is the mean of the distinct values of those that run here."""

    name: str
    state: str
    zombie: bool
    wall: bool
    removed: bool
    killed: bool
    n: int
    progress: float | None


class HistoryRow(msgspec.Struct, frozen=True):
    """The queue after one change: `counts` by state, and their sum."""

    seq: int
    time: float
    event: str
    counts: Mapping[str, int]
    total: int


class HistoryPage(msgspec.Struct, frozen=True):
    """Rows of one page, and how many rows there are on all pages."""

    rows: Sequence[HistoryRow]
    total: int
