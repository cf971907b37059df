"""Job, step and attempt as values.

::

    job       what somebody asked for; lives in a lane; `ext_id` is the name that its owner gave it (a process_id)
    └─ step       one command; its `stage` is a barrier: it may start when every step of earlier stages is ok
       └─ attempt     one execution of a step, held under a random lease

The values are immutable: a transition (transitions.py) makes a new one, the store gets the difference of old and new
(table.py), and only after the commit does the new value become the present one. So a failed commit needs no undo.

The names of the states are those that clients of the job queue see (spec job-queues §3.4), hence RETRY_WAIT = "failed".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from sysadmd.store import tables

JobState: TypeAlias = Literal["pending", "running", "deferred", "failed", "complete", "error", "inactive", "killed"]
StepState: TypeAlias = Literal["waiting", "leased", "running", "ok", "retry", "failed", "skipped", "killed"]
Outcome: TypeAlias = Literal["ok", "fail", "timeout", "deferred", "killed", "lost", "spawn_failed", "output_limit"]

QUEUE_STATES: Final[tuple[str, ...]] = tuple(state for state in get_args(JobState) if state != "complete")
"""States of a job that is in the queue: what is complete has left it."""
RETRY_WAIT: Final[JobState] = "failed"
FINAL_STATES: Final[frozenset[str]] = frozenset(tables.FINAL_STATES)
STEP_FINAL: Final[frozenset[str]] = frozenset({"ok", "failed", "skipped", "killed"})
STEP_LIVE: Final[frozenset[str]] = frozenset({"leased", "running"})


class Attempt(msgspec.Struct, frozen=True):
    """One execution of a step.

    `lease` is 128 random bits in hex: a result that carries another one is refused. `instance` names the executor that
    it was given to. `pid` and `pid_start` are known once the executor said so. Times are Unix seconds. Either
    `exit_code` or `signal` is set when the process ended by itself or by a signal, neither when it never started or
    its end is unknown. `usage` is what it used (getrusage).
    """

    job_id: str
    idx: int
    n: int
    lease: str
    instance: str
    created_at: float
    output_path: str
    started_at: float | None = None
    pid: int | None = None
    pid_start: str | None = None
    finished_at: float | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    usage: Mapping[str, Any] | None = None
    output_bytes: int = 0

    @property
    def id(self) -> str:
        """The name that the executor knows: unique for ever, and readable in its log."""
        return f"{self.job_id}.{self.idx}.{self.n}"


class Step(msgspec.Struct, frozen=True):
    """One command of a job. `text` is what its owner wrote, `argv` what runs. `attempt` is the latest one."""

    idx: int
    text: str
    argv: tuple[str, ...]
    state: StepState = "waiting"
    tries_max: int = 1
    tries_used: int = 0
    attempt: Attempt | None = None

    @property
    def stage(self) -> int:
        """A command job has one stage for each command."""
        return self.idx

    @property
    def return_code(self) -> str | None:
        """What goes into `return_codes`: the exit code, `-<signal>`, "-1" when it never started or was lost; None
        while unknown.
        """
        if self.attempt is None or self.attempt.outcome is None:
            return None
        if self.attempt.exit_code is not None:
            return str(self.attempt.exit_code)
        return "-1" if self.attempt.signal is None else f"-{self.attempt.signal}"


class Job(msgspec.Struct, frozen=True):
    """A job of the kind `command`. `ext_id` is the process_id of the dispatcher."""

    id: str
    ext_id: str
    lane: str
    owner: str
    steps: tuple[Step, ...]
    created_at: float
    state: JobState = "pending"
    cwd: str | None = None
    user: str | None = None
    timeout: float | None = None
    no_new_privs: bool | None = None
    event_system: str | None = None
    extra: Mapping[str, Any] | None = None
    started_at: float | None = None
    finished_at: float | None = None
    kill_requested_at: float | None = None
    kill_requested_by: str | None = None
    last_error: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name that permissions are about."""
        return f"dispatcher.{self.lane}"

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in FINAL_STATES

    @property
    def live_attempt(self) -> Attempt | None:
        """The attempt that is leased or running now; a command job has at most one."""
        for step in self.steps:
            if step.state in STEP_LIVE:
                return step.attempt
        return None
