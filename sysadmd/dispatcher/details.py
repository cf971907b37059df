"""The log object of a process, which the seed calls `process_details`.

It mixes its own keys with the commands' texts, so a command may be called like one of them, or come twice. No key is
ever overwritten: such a command's key is its text followed by ` #<n>`, its 1-based position. `cmd_list` keeps the
texts as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from sysadmd.jobs.model import FINAL_STATES, Job

RESERVED = frozenset(
    {"state", "process_id", "time_started", "time_finished", "cmd_list", "current_cmd", "event_system"}
)


@lru_cache(maxsize=64)
def detail_keys(texts: tuple[str, ...]) -> tuple[str, ...]:
    """One key for each command, all different from one another, from the reserved ones and from every `return_codes/`
    key.

    The key of a command depends on those before it only.
    """
    taken = set(RESERVED)
    keys = []
    for position, text in enumerate(texts, 1):
        key = text
        while key in taken or f"return_codes/{key}" in taken:
            key = f"{key} #{position}"
        taken.update((key, f"return_codes/{key}"))
        keys.append(key)
    return tuple(keys)


def seed_state(job: Job) -> str:
    """pending, running or finished: the three states that the dispatcher's clients know."""
    if job.state in FINAL_STATES:
        return "finished"
    return "running" if job.state == "running" else "pending"


def log_object(job: Job, texts: Mapping[int, str], *, commands: Iterable[int] = ()) -> dict[str, Any]:
    """The log object of a job as it stands, with the given outputs (step index to text).

    `commands` are further steps that get a key, with an empty text, such as those that ran and wrote nothing.
    """
    keys = detail_keys(tuple(step.text for step in job.steps))
    details: dict[str, Any] = {"state": seed_state(job), "process_id": job.ext_id}
    if job.started_at is not None:
        details["time_started"] = job.started_at
    if job.finished_at is not None:
        details["time_finished"] = job.finished_at
    details["cmd_list"] = [step.text for step in job.steps]
    for idx in sorted({*texts, *commands}):
        details[keys[idx]] = texts.get(idx, "")
    for step in job.steps:
        code = step.return_code
        if code is not None:
            details[f"return_codes/{keys[step.idx]}"] = code
    if job.state == "running":
        current = next((step.idx for step in job.steps if step.state not in {"ok", "failed", "killed"}), None)
        if current is not None:
            details["current_cmd"] = keys[current]
    return details
