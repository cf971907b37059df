"""What a task may say and ask while it runs. Only a child process has a running attempt; elsewhere there is none."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import NoReturn

import msgspec

logger = logging.getLogger("sysadmd.task")
"""A logger whose lines are part of the attempt's output; every other logger's are, too."""

Report = Callable[[float, str | None], None]
"""(0 to 1, message) -> None: where progress goes."""

MESSAGE_LIMIT = 1000
"""Characters of a message of progress or of a reason to defer."""


class Current(msgspec.Struct, frozen=True):
    """The attempt that runs: `attempt` counts from 1 for each job's step, `owner` is the account that asked for it."""

    job_id: str
    name: str
    attempt: int
    owner: str


class Deferred(Exception):
    """The task asks to be run later. `delay`: seconds, None for the job's own `defer_time`."""

    def __init__(self, reason: str, delay: float | None = None) -> None:
        self.reason, self.delay = reason, delay
        super().__init__(reason)


class Terminated(BaseException):
    """SIGTERM came: the attempt is killed or took too long. What catches it is killed a few seconds later."""


class _Running:
    """The one attempt of this process, if there is one."""

    def __init__(self) -> None:
        self.current: Current | None = None
        self.report: Report | None = None


_running = _Running()


def begin(attempt: Current, report: Report) -> None:
    """From now on `attempt` is the current one. For the child process."""
    _running.current, _running.report = attempt, report


def end() -> None:
    """There is no current attempt any more. For the child process."""
    _running.current = _running.report = None


def current() -> Current | None:
    """The attempt that runs in this process; None outside of a worker."""
    return _running.current


def progress(value: float, message: str | None = None) -> None:
    """Say how far the task is: 0 to 1, with a message for people. Cheap: most calls are only remembered.

    It also says that the task is alive: a job that is silent for its `zombie_time` is flagged.
    """
    if not isinstance(value, int | float) or not math.isfinite(value):  # type: ignore[redundant-expr]  # authors err
        raise ValueError(f"progress is a number from 0 to 1, not {value!r}")
    if _running.report is not None:
        text = None if message is None else str(message)[:MESSAGE_LIMIT]
        _running.report(min(max(float(value), 0.0), 1.0), text)


def defer(reason: str, delay: float | None = None) -> NoReturn:
    """End this attempt, to be run again `delay` seconds later (None: the job's `defer_time`). It costs no attempt.

    The job goes on deferring for its `defer_max` at most, counted from its first start.
    """
    if delay is not None and not 0 <= delay < float("inf"):
        raise ValueError(f"a delay is a number of seconds, not {delay!r}")
    raise Deferred(str(reason)[:MESSAGE_LIMIT], delay)
