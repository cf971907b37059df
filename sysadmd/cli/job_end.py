"""Waiting for a job's end, and printing what it writes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sysadmd.cli.job_follow import Follower, Job
from sysadmd.cli.render import compact, for_people, one_line, safe

if TYPE_CHECKING:
    from sysadmd.client import AsyncClient

PART = 262_144
"""Bytes of one call for output: the most that it gives."""


async def follow_job(client: AsyncClient, job: Job) -> Job:
    """The job when it is over. People see a bar and what it writes; programs get a line for each of its events.

    Of `job` the `id` and the `name` are looked at.
    """
    if not for_people():
        return await Follower(client, job["id"], changed=_print_change).run()
    if not for_people(sys.stderr):
        return await Follower(client, job["id"], changed=lambda event, now: None, output=write).run()
    from sysadmd.cli.job_view import bar

    with bar(job["name"]) as show:
        return await Follower(client, job["id"], changed=lambda event, now: show(now), output=write).run()


def ended_well(job: Job) -> int:
    """The exit code of a command that waited for the job; says why it is not 0."""
    if job["state"] == "complete":
        return 0
    from sysadmd.cli.outcome import REFUSED, say

    error = job["last_error"] or {}
    why = ": ".join(str(error[key]) for key in ("exception", "message") if error.get(key))
    say(f"job {job['seq']} ended as {job['state']}{f': {why}' if why else ''}")
    return REFUSED


async def follow_output(client: AsyncClient, reference: str, attempt: int | None) -> None:
    """Print what a job writes until it is over, or until this attempt is."""
    job = (await client.call("queue/detail", {"job": reference}))["job"]
    follower = Follower(client, job["id"], changed=lambda event, now: None, output=write)
    if attempt is None:
        await follower.run()
    else:
        await follower.read_output(attempt)


async def print_output(client: AsyncClient, reference: str, step: int, attempt: int | None) -> None:
    """Print what there is now."""
    args: dict[str, Any] = {"job": reference, "step": step, "length": PART, "offset": 0}
    while True:
        part = await client.call("queue/output", args if attempt is None else {**args, "attempt": attempt})
        write(part["data"])
        if part["eof"] or part["next_offset"] == args["offset"]:
            return
        # The job may begin anew meanwhile; what is read on is the same execution.
        args["offset"], args["job"], attempt = part["next_offset"], part["job"], part["attempt"]


def write(text: str) -> None:
    """Text of a job on standard output; as it is in a pipe, and without what a terminal would act upon."""
    sys.stdout.write(safe(text.replace("\r\n", "\n")) if for_people() else text)
    sys.stdout.flush()


def _print_change(event: str, job: Job) -> None:
    keys = ("id", "seq", "name", "state", "progress", "progress_msg", "tries_used", "tries_max")
    print(compact({"event": one_line(event) or None, **{key: job[key] for key in keys}}), flush=True)
