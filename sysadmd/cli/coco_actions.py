"""What each option of `coco` does: `action(client, words)`. The output is text, for people and for awk."""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from sysadmd.cli.job_arguments import STATES, key_values
from sysadmd.cli.job_view import age, flags
from sysadmd.cli.render import one_line, print_json

if TYPE_CHECKING:
    from sysadmd.client import AsyncClient

PAGE = 1000
Row = Mapping[str, Any]


async def enqueue(client: AsyncClient, words: Sequence[str]) -> None:
    """Print the id of the new job. Of the arguments those that are settings of a job are its settings.

    As in core4, an equal job that waits or runs refuses it.
    """
    from sysadmd.jobs.tasks.catalogue import SETTINGS

    name, given = words[0], arguments(words[1:])
    settings = {SETTINGS[key]: value for key, value in given.items() if key in SETTINGS}
    args = {key: value for key, value in given.items() if key not in SETTINGS}
    digest = hashlib.sha256(msgspec.json.encode(args, order="sorted")).hexdigest()
    wanted = {**settings, "name": name, "args": args, "unique_key": f"{name}:{digest}"}
    print((await client.call("queue/enqueue", wanted))["job"]["id"], flush=True)


def arguments(words: Sequence[str]) -> dict[str, Any]:
    """One JSON object, or KEY=VALUE and KEY:VALUE words."""
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        try:
            found = msgspec.json.decode(words[0], type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
            raise click.UsageError(f"the arguments are no JSON object: {error}") from error
        return found
    return key_values(words, "=:")


async def halt(client: AsyncClient, words: Sequence[str]) -> None:
    """Ask all workers to leave."""
    await client.call("queue/halt")


async def pause(client: AsyncClient, words: Sequence[str]) -> None:
    """Print the lanes that start nothing new."""
    _lines((await client.call("queue/pause", {"lane": words[0]} if words else {}))["lanes"])


async def resume(client: AsyncClient, words: Sequence[str]) -> None:
    """Print the lanes that go on."""
    _lines((await client.call("queue/resume", {"lane": words[0]} if words else {}))["lanes"])


async def alive(client: AsyncClient, words: Sequence[str]) -> None:
    """Print the workers: state, how long they are there, when they asked for work last, kinds, load, id."""
    now = time.time()
    rows = [
        (
            "leaving" if one["halted"] else "working",
            age(now - one["started_at"]),
            age(now - one["heartbeat_at"]),
            ",".join(one["kinds"]),
            f"{one['running']}/{one['slots']}",
            one["id"],
        )
        for one in (await client.call("queue/workers"))["workers"]
    ]
    _table(("loop", "loop_time", "heartbeat", "kind", "load", "_id"), rows)


async def info(client: AsyncClient, words: Sequence[str]) -> None:
    """Print how many jobs there are of each state, flags and name."""
    rows = (await client.call("queue/summary"))["rows"]
    _table(("n", "state", "flag", "name"), [(str(one["n"]), one["state"], flags(one), one["name"]) for one in rows])


async def listing(client: AsyncClient, words: Sequence[str]) -> None:
    """Print the jobs, newest first."""
    unknown = sorted(set(words) - {*STATES})
    if unknown:
        raise click.UsageError(f"{unknown[0]!r} is no state; there are {', '.join(sorted(STATES))}")
    now, rows = time.time(), []
    for one in await _listed(client, {"states": sorted(set(words))} if words else {}):
        if "id" in one:
            rows.append(_listing_row(one, now))
        else:
            rows.append(("", one["state"], "....", *[""] * 8, one["name"]))
    heads = ("_id", "state", "flag", "progress", "prio", "attempts", "user", "enqueued", "age", "runtime", "worker")
    _table((*heads, "name"), rows)


async def detail(client: AsyncClient, words: Sequence[str]) -> None:
    """Print all that is known of jobs, each as JSON."""
    for reference in await _expanded(client, words):
        print_json(await client.call("queue/detail", {"job": reference}))


async def kill(client: AsyncClient, words: Sequence[str]) -> None:
    """Print the ids of the jobs that are to end."""
    _lines((await client.call("queue/kill", {"jobs": list(words)}))["killed"])


async def restart(client: AsyncClient, words: Sequence[str]) -> None:
    """Print the ids that the jobs have now."""
    for reference in await _expanded(client, words, without="running"):
        print((await client.call("queue/restart", {"job": reference}))["job"]["id"], flush=True)


async def remove(client: AsyncClient, words: Sequence[str]) -> None:
    """Print the ids of the jobs that leave the queue."""
    _lines((await client.call("queue/remove", {"jobs": list(words)}))["removed"])


async def jobs(client: AsyncClient, words: Sequence[str]) -> None:
    """Print the names of tasks."""
    _lines((await client.call("queue/tasks"))["tasks"])


async def _listed(client: AsyncClient, args: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    following: int | None = None
    while True:
        after = {} if following is None else {"after": following}
        page = await client.call("queue/list", {**args, **after, "limit": PAGE})
        found += page["jobs"]
        following = page["next"]
        if following is None:
            return found


async def _expanded(client: AsyncClient, words: Sequence[str], without: str | None = None) -> list[str]:
    """References, with the ids of all jobs of a name in its place."""
    from sysadmd.jobs.references import is_name

    found: list[str] = []
    for word in words:
        if not is_name(word):
            found.append(word)
            continue
        named = await _listed(client, {"name": word})
        if not named:
            raise click.ClickException(f"no job in the queue is called {word}")
        found += [one["id"] for one in named if one["state"] != without]
    return list(dict.fromkeys(found))


def _listing_row(job: Row, now: float) -> tuple[str, ...]:
    enqueued = datetime.datetime.fromtimestamp(job["created_at"]).astimezone()
    running = now - job["started_at"] if job["state"] == "running" and job["started_at"] else 0.0
    return (
        job["id"],
        job["state"],
        flags(job),
        f"{job['progress'] or 0.0:.0%}",
        f"{job['priority']}{'F' if job['force'] else ''}",
        f"{job['tries_used']}/{job['tries_max']}",
        job["owner"],
        f"{enqueued:%Y-%m-%dT%H:%M:%S}",
        age(now - job["created_at"]),
        age(job["runtime"] + running),
        job["worker"] or "-",
        job["name"],
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = [[one_line(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[place]) for row in shown) for place in range(len(heads))]
    for row in shown:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _lines(texts: Sequence[str]) -> None:
    for text in texts:
        print(one_line(text), flush=True)
