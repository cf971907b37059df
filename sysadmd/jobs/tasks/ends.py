"""How an attempt of a task ended, as its pool tells it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sysadmd.jobs.tasks.frames import Done, TaskError

Cause = Literal["killed", "timeout", "lost", "output_limit"]
"""Why a running attempt was ended from outside."""


class TaskEnd(msgspec.Struct, frozen=True):
    """The end. `result` is what the task returned; `reason` and `delay` (seconds) are of a defer; `exit_code` or
    `signal` is of its process, where that ended too.
    """

    outcome: Literal["ok", "fail", "deferred", "start_failed", "killed", "timeout", "lost", "output_limit"]
    error: TaskError | None = None
    result: Any = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    delay: float | None = None

    @classmethod
    def of(cls, done: Done) -> TaskEnd:
        """The end that the child told."""
        result = None if done.result is None else msgspec.json.decode(done.result)
        return cls(done.outcome, done.error, result, reason=done.reason, delay=done.delay)
