"""The canonical dispatcher events: what happened, once; each dialect renders it (wire/topics.py).

    pending    a process has been accepted                                                    durable
    waiting    a process of a namespace still waits for its lane                              volatile
    started    its first command has been leased                                              durable
    output     new text of the running command, at most one a second                          volatile
    command    a command other than the last has ended; the next one is current               durable
    finished   the process has ended; one event, whatever ended it                            durable

`extra` holds what the starter gave. A key there that ends in `_log` (`pkg_log`, `update_log`: spec sysadm §5.3) is
filled in: with the new text in `output`, the command's whole text in `command`, and the last command's in `finished`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sysadmd.dispatcher.details import log_object
from sysadmd.events.record import Draft
from sysadmd.jobs.model import Job

TOPIC = "dispatcher"


def pending(job: Job) -> Draft:
    """The process has been accepted."""
    return _draft(job, "pending", log_object(job, {}), time=job.created_at)


def waiting(job: Job) -> Draft:
    """The process still waits."""
    return _draft(job, "waiting", log_object(job, {}), durable=False)


def started(job: Job) -> Draft:
    """The first command is about to start."""
    return _draft(job, "started", log_object(job, {}), time=job.started_at)


def output(job: Job, idx: int, text: str) -> Draft:
    """New text of the running command. `details` is the update itself: nobody reads the whole log each second."""
    update = log_object(job, {idx: text})
    return _draft(job, "output", update, update=update, log=text, durable=False)


def command(job: Job, idx: int, whole: str, new: str) -> Draft:
    """A command has ended and the next one is current. `details` has its whole text, `update` what `output` had not
    told.
    """
    return _draft(job, "command", log_object(job, {idx: whole}), update=log_object(job, {idx: new}), log=whole)


def finished(job: Job, texts: Mapping[int, str]) -> Draft:
    """The process has ended. `texts` has an entry for each command that was begun, so skipped ones get no key."""
    last = texts.get(len(job.steps) - 1, "")
    return _draft(job, "finished", log_object(job, texts), log=last, time=job.finished_at)


def _draft(
    job: Job,
    phase: str,
    details: dict[str, Any],
    *,
    update: dict[str, Any] | None = None,
    log: str = "",
    durable: bool = True,
    time: float | None = None,
) -> Draft:
    data = {
        "phase": phase,
        "process_id": job.ext_id,
        "event_system": job.event_system,
        "extra": _filled(job.extra, log),
        "details": details,
        "update": update,
    }
    return Draft(topic=TOPIC, data=data, durable=durable, permission=job.name, time=time)


def _filled(extra: Mapping[str, Any] | None, log: str) -> dict[str, Any]:
    if not extra:
        return {}
    return {key: log if key.endswith("_log") else value for key, value in extra.items()}
