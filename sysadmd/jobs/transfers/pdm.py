"""What the clients of pdm.workqueue call things: numbers of types, protocols and states, and priorities.

Pure functions from our states to theirs (spec job-queues §2.1, §3.4). DONE and FAILED are terminal: a job that waits
for a retry is SUBMITTED, and so is one of whose elements some are done and none runs at the moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import TypeVar

from sysadmd.errors import BadRequest

E = TypeVar("E", bound=IntEnum)


class JobStatus(IntEnum):
    """The state of a job or of an element."""

    NEW = 0
    DONE = 1
    FAILED = 2
    SUBMITTED = 3
    RUNNING = 4


class JobType(IntEnum):
    """What a job or an element does."""

    LIST = 0
    COPY = 1
    REMOVE = 2
    RENAME = 3
    MKDIR = 4


class JobProtocol(IntEnum):
    """How files are reached. A site says that itself: GRIDFTP and SSH both leave it to the site, DUMMY pretends."""

    GRIDFTP = 0
    SSH = 1
    DUMMY = 2


ACCEPTED = JobStatus.SUBMITTED
"""The status in the answer to a request for a job, whatever has happened to the job by then."""
DEFAULT_PRIORITY = 5

_FINAL = {"complete": JobStatus.DONE, "error": JobStatus.FAILED, "inactive": JobStatus.FAILED}
_FINAL |= {"killed": JobStatus.FAILED}
_ELEMENT = {
    "leased": JobStatus.SUBMITTED,
    "running": JobStatus.RUNNING,
    "ok": JobStatus.DONE,
    "retry": JobStatus.SUBMITTED,
    "deferred": JobStatus.SUBMITTED,
    "failed": JobStatus.FAILED,
    "skipped": JobStatus.FAILED,
    "killed": JobStatus.FAILED,
}


def read(kind: type[E], value: object, field: str) -> E:
    """A member of `kind` by its number, its digits or its name in any case. Raises BadRequest naming `field`."""
    try:
        if isinstance(value, bool):
            raise ValueError  # noqa: TRY004 - answered below like every other value that is none
        if isinstance(value, int):
            return kind(value)
        if isinstance(value, str):
            text = value.strip()
            return kind(int(text)) if text.isascii() and text.isdigit() else kind[text.upper()]
        raise ValueError
    except (KeyError, ValueError):
        known = ", ".join(f"{one.name} ({one.value})" for one in kind)
        raise BadRequest(f"{field}: must be one of {known}", path=field) from None


def job_status(state: str, elements: Iterable[str] = ()) -> JobStatus:
    """The status of a job in one of our states, whose steps are in the states `elements` (any order, may repeat)."""
    if state in _FINAL:
        return _FINAL[state]
    if state == "pending":
        return JobStatus.NEW
    if state == "running" and "running" in set(elements):
        return JobStatus.RUNNING
    return JobStatus.SUBMITTED


def element_status(state: str, attempts: int = 0) -> JobStatus:
    """The status of a step in one of our states, of which `attempts` were made."""
    if state == "waiting":
        return JobStatus.SUBMITTED if attempts else JobStatus.NEW
    return _ELEMENT[state]


def attempt_status(outcome: str | None) -> JobStatus:
    """The status of one attempt; None is one that has not ended."""
    if outcome is None:
        return JobStatus.RUNNING
    return JobStatus.DONE if outcome == "ok" else JobStatus.FAILED


def stored_priority(priority: object) -> int:
    """Ours (higher runs first) of theirs (0 to 9, lower runs first). Raises BadRequest."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= 9:
        raise BadRequest("priority: must be a whole number of 0 to 9", path="priority")
    return DEFAULT_PRIORITY - priority


def shown_priority(stored: int) -> int:
    """Theirs of ours; one that they could not have asked for is shown as the nearest."""
    return min(9, max(0, DEFAULT_PRIORITY - stored))
