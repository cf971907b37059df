"""What is left of a record about jobs for somebody who may not read them.

A record about a job names it, and not everybody may know of every job. Such a record is not withheld: the counts that
it carries are everybody's, and a follower's picture of the queue would be wrong without them. What tells of the job
itself is taken out, and its name reads `UnauthorizedJob` (spec job-queues §1.7, §3.7).

Nothing here changes what it is given: the record is shared by all who follow, and one of them may see everything.

=============  ==========================================================================================
`queue`        ``{"event", "job": {...}, "counts", ...}``, or ``{"event": "summary", "rows": [{...}]}``
`workqueue`    ``{"event", "job": {...}, "element"?, "progress"?}``
=============  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

UNAUTHORIZED = "UnauthorizedJob"
MASKED = frozenset({"queue", "workqueue"})
"""Topics whose records are shown to everybody who may see the topic, with less in them where a job is not theirs."""

_EVERYBODYS = ("event", "counts", "attempts_left")
_OF_A_JOB = ("kind", "state")
_FLAGS = ("state", "zombie", "wall", "removed", "killed")


def masked(data: Mapping[str, Any], may_read: Callable[[str], bool]) -> Mapping[str, Any]:
    """`data` itself where everything in it may be read, else a copy with less in it."""
    if "rows" in data:
        rows = masked_rows(data["rows"], may_read)
        return data if rows is data["rows"] else {**data, "rows": rows}
    job = data["job"]
    if may_read(job["name"]):
        return data
    left = {key: data[key] for key in _EVERYBODYS if key in data}
    return {**left, "job": {"name": UNAUTHORIZED, **{key: job[key] for key in _OF_A_JOB if key in job}}}


def masked_rows(rows: Iterable[Mapping[str, Any]], may_read: Callable[[str], bool]) -> Iterable[Mapping[str, Any]]:
    """The rows of a summary, `rows` itself where all may be read. Rows that differ in nothing but the names that were
    taken out become one: their number would tell how many kinds of jobs there are.
    """
    if all(may_read(row["name"]) for row in rows):
        return rows
    shown = [row for row in rows if may_read(row["name"])]
    hidden: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if not may_read(row["name"]):
            key = tuple(row[flag] for flag in _FLAGS)
            hidden[key] = _joined(hidden[key], row) if key in hidden else {**row, "name": UNAUTHORIZED}
    return sorted([*shown, *hidden.values()], key=lambda row: (row["state"], row["name"]))


def _joined(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    known = [(row["progress"], row["n"]) for row in (one, other) if row["progress"] is not None]
    total = sum(n for _, n in known)
    progress = sum(value * n for value, n in known) / total if total else None
    return {**one, "n": one["n"] + other["n"], "progress": progress}
