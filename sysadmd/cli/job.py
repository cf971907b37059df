"""`sysadmd job`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from sysadmd.cli.connection import ConnectionOptions, connection_options
from sysadmd.cli.job_arguments import STATES, key_values, moment
from sysadmd.cli.values import seconds

if TYPE_CHECKING:
    from sysadmd.client import AsyncClient

WORKERS = {"id": "Worker", "kinds": "Kinds", "slots": "Slots", "running": "Running", "halted": "Leaving"}


@click.group()
def job() -> None:
    """Enqueue, list, follow and end jobs.

    A job is named by its id, by the beginning of its id (4 digits or more), or by its number.
    """


@job.command()
@click.argument("name")
@click.argument("words", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--priority", type=int, metavar="N", help="Higher ones run first. [default: 0]")
@click.option("--lane", metavar="L", help="The lane to wait in. [default: default]")
@click.option("--retry", type=click.IntRange(0, 999), metavar="N", help="Try again so many times when it fails.")
@click.option("--retry-delay", type=seconds, metavar="D", help="Time between tries. [default: 10m]")
@click.option("--timeout", type=seconds, metavar="D", help="End an execution that takes longer.")
@click.option("--delay", type=seconds, metavar="D", help="Begin after this time, such as 90 or 1h30m.")
@click.option("--at", type=moment, metavar="T", help="Begin at this time, such as 2027-01-31T04:00.")
@click.option("--unique", metavar="K", help="Refuse it while another job with this key waits or runs.")
@click.option("--worker", metavar="NAME@HOST", help="Let this worker run it, and no other.")
@click.option("--follow", is_flag=True, help="Wait for its end, and show what it writes.")
@connection_options
def enqueue(
    *, name: str, words: tuple[str, ...], follow: bool, connection: ConnectionOptions, **settings: Any
) -> int | None:
    """Enqueue a job for the task NAME and print its id.

    A VALUE is JSON where it is any, and text where it is not. In a pipe the job is printed as JSON. With --follow the
    exit code is 0 when the job completes, and 1 when it does not.

    \b
    sysadmd job enqueue core4.queue.helper.job.example.DummyJob sleep=5 --priority 3 --follow
    """  # noqa: D301 - \b is the character that keeps click from rewrapping
    from sysadmd.cli.job_end import ended_well, follow_job
    from sysadmd.cli.render import compact, for_people

    retry = settings.pop("retry")
    names = {"at": "run_after", "unique": "unique_key"}
    args = {names.get(key, key): value for key, value in settings.items() if value is not None}
    args |= {"name": name, "args": key_values(words), **({} if retry is None else {"tries": retry + 1})}

    async def ask(client: AsyncClient) -> int | None:
        made = (await client.call("queue/enqueue", args))["job"]
        print(made["id"] if for_people() else compact(made), flush=True)
        return ended_well(await follow_job(client, made)) if follow else None

    code: int | None = _with(connection, ask)
    return code


@job.command("list")
@click.argument("states", metavar="[STATE]...", nargs=-1, type=click.Choice(STATES))
@click.option("--name", metavar="NAME", help="Only jobs of this name.")
@click.option("--owner", metavar="ACCOUNT", help="Only jobs of this account.")
@click.option("--archived", is_flag=True, help="Those that left the queue.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, metavar="N", help="At most N. [default: 100]")
@click.option("--watch", is_flag=True, help="Show them as they change, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one job a line.")
@connection_options
def list_(
    *, states: tuple[str, ...], archived: bool, limit: int, watch: bool, as_json: bool,
    connection: ConnectionOptions, **filters: str | None,
) -> None:  # fmt: skip
    """List jobs, newest first: those in the queue, and those that left it complete if that STATE is named."""
    from sysadmd.cli.job_watch import show, watch_jobs
    from sysadmd.cli.render import for_people

    args: dict[str, Any] = {key: value for key, value in filters.items() if value is not None}
    args |= {"limit": limit, "archived": True if archived else None if "complete" in states else False}
    if states:
        args["states"] = sorted(set(states))
    people = for_people() and not as_json

    async def ask(client: AsyncClient) -> None:
        if watch:
            await watch_jobs(client, args, people=people)
        else:
            show((await client.call("queue/list", args))["jobs"], people=people)

    _with(connection, ask)


@job.command("show")
@click.argument("reference", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal.")
@connection_options
def show_(*, reference: str, as_json: bool, connection: ConnectionOptions) -> None:
    """Show all that is known of a job."""
    from sysadmd.cli.job_view import print_detail
    from sysadmd.cli.render import compact, for_people

    found = _call(connection, "queue/detail", {"job": reference})
    if as_json or not for_people():
        print(compact(found))
    else:
        print_detail(found["job"], found["attempts"])


@job.command()
@click.argument("reference", metavar="ID")
@click.option("--follow", is_flag=True, help="Go on until the job is over.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Of this execution. [default: the latest]")
@click.option(
    "--step", type=click.IntRange(min=0), default=0, metavar="N", help="Of this step or element. [default: 0]"
)
@connection_options
def output(*, reference: str, follow: bool, attempt: int | None, step: int, connection: ConnectionOptions) -> None:
    """Print what a job wrote."""
    from sysadmd.cli.job_end import follow_output, print_output

    if follow and step:
        raise click.UsageError("--follow is for jobs of one step")

    async def ask(client: AsyncClient) -> None:
        if follow:
            await follow_output(client, reference, attempt)
        else:
            await print_output(client, reference, step, attempt)

    _with(connection, ask)


@job.command()
@click.argument("references", metavar="ID|NAME...", nargs=-1, required=True)
@connection_options
def kill(*, references: tuple[str, ...], connection: ConnectionOptions) -> None:
    """End jobs, those that wait too, and print their ids. A NAME stands for all its jobs in the queue."""
    _print_ids(_call(connection, "queue/kill", {"jobs": list(references)})["killed"])


@job.command()
@click.argument("references", metavar="ID|NAME...", nargs=-1, required=True)
@connection_options
def remove(*, references: tuple[str, ...], connection: ConnectionOptions) -> None:
    """Take jobs out of the queue and print their ids; one that runs leaves it when it ends."""
    _print_ids(_call(connection, "queue/remove", {"jobs": list(references)})["removed"])


@job.command()
@click.argument("reference", metavar="ID")
@connection_options
def restart(*, reference: str, connection: ConnectionOptions) -> None:
    """Let a job that waits begin now, or a stopped one run again, and print the id that it has then."""
    from sysadmd.cli.render import compact, for_people

    made = _call(connection, "queue/restart", {"job": reference})["job"]
    print(made["id"] if for_people() else compact(made))


@job.command()
@click.argument("lane", required=False)
@connection_options
def pause(*, lane: str | None, connection: ConnectionOptions) -> None:
    """Start nothing new in LANE, or in any lane, and print which."""
    _print_ids(_call(connection, "queue/pause", {"lane": lane} if lane else {})["lanes"])


@job.command()
@click.argument("lane", required=False)
@connection_options
def resume(*, lane: str | None, connection: ConnectionOptions) -> None:
    """Let the jobs of LANE, or of all lanes, start again."""
    _print_ids(_call(connection, "queue/resume", {"lane": lane} if lane else {})["lanes"])


@job.command()
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one worker a line.")
@connection_options
def workers(*, as_json: bool, connection: ConnectionOptions) -> None:
    """List the workers that take jobs."""
    from sysadmd.cli.render import print_rows

    print_rows(WORKERS, _call(connection, "queue/workers")["workers"], as_json=as_json)


@job.command()
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal.")
@connection_options
def counts(*, as_json: bool, connection: ConnectionOptions) -> None:
    """Count the jobs in the queue by state."""
    from sysadmd.cli.render import compact, for_people, print_rows

    found = _call(connection, "queue/counts")["counts"]
    if as_json or not for_people():
        print(compact(found))
    else:
        rows = [{"state": state, "jobs": found[state]} for state in STATES if state in found]
        print_rows({"state": "State", "jobs": "Jobs"}, rows, as_json=False)


@job.command()
@connection_options
def tasks(*, connection: ConnectionOptions) -> None:
    """List the tasks that you may enqueue."""
    _print_ids(_call(connection, "queue/tasks")["tasks"])


def _with(connection: ConnectionOptions, ask: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    client = connection.client()

    async def once() -> Any:
        async with client:
            return await ask(client)

    return asyncio.run(once())


def _call(connection: ConnectionOptions, method: str, args: dict[str, Any] | None = None) -> Any:
    return _with(connection, lambda client: client.call(method, args))


def _print_ids(ids: list[str]) -> None:
    from sysadmd.cli.render import one_line

    for one in ids:
        print(one_line(one))
    sys.stdout.flush()
