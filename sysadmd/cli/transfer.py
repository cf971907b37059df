"""`sysadmd transfer`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sysadmd.cli.connection import ConnectionOptions, connection_options
from sysadmd.cli.values import site_path

if TYPE_CHECKING:
    from sysadmd.client import AsyncClient

F = TypeVar("F", bound=Callable[..., Any])

ENTRIES = {"path": "Path", "size": "Size", "mode": "Mode"}


_OPTIONS = (
    click.option("--priority", type=click.IntRange(0, 9), metavar="N", help="Lower ones run first. [default: 5]"),
    click.option("--tries", type=click.IntRange(1, 1000), metavar="N", help="Of each file. [default: 2]"),
    click.option("--follow", is_flag=True, help="Wait for its end, and show how far it is."),
)


def _asked(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return connection_options(command)


@click.group()
def transfer() -> None:
    """List, copy, remove and rename files of the configured sites.

    A place is SITE:PATH; the path is below the root of the site. What is asked for is a job, whose number is printed;
    "sysadmd job" shows, follows and ends it. With --follow the exit code is 0 when all of it was done, and 1 if not.
    """


@transfer.command("list")
@click.argument("place", metavar="SITE:PATH", type=site_path)
@_asked
def list_(*, place: tuple[int, str], **options: Any) -> int | None:
    """List a directory and all below it; with --follow the list is printed."""
    return _ask("list", {"src_siteid": place[0], "src_filepath": place[1]}, **options)


@transfer.command()
@click.argument("source", metavar="SITE:PATH", type=site_path)
@click.argument("target", metavar="SITE:PATH", type=site_path)
@_asked
def copy(*, source: tuple[int, str], target: tuple[int, str], **options: Any) -> int | None:
    """Copy a file, or a directory with all that is in it.

    \b
    sysadmd transfer copy 1:/photos/2026 2:/backup/photos --follow
    """  # noqa: D301 - \b is the character that keeps click from rewrapping
    args = {"src_siteid": source[0], "src_filepath": source[1]}
    return _ask("copy", {**args, "dst_siteid": target[0], "dst_filepath": target[1]}, **options)


@transfer.command()
@click.argument("place", metavar="SITE:PATH", type=site_path)
@_asked
def remove(*, place: tuple[int, str], **options: Any) -> int | None:
    """Remove a file, or a directory with all that is in it."""
    return _ask("remove", {"src_siteid": place[0], "src_filepath": place[1]}, **options)


@transfer.command()
@click.argument("source", metavar="SITE:PATH", type=site_path)
@click.argument("target", metavar="SITE:PATH", type=site_path)
@_asked
def rename(*, source: tuple[int, str], target: tuple[int, str], **options: Any) -> int | None:
    """Give a file or a directory another name on its site."""
    if source[0] != target[0]:
        raise click.UsageError("a rename stays on its site; copy goes from one to another")
    args = {"src_siteid": source[0], "src_filepath": source[1]}
    return _ask("rename", {**args, "dst_filepath": target[1]}, **options)


@transfer.command()
@click.argument("place", metavar="SITE:PATH", type=site_path)
@_asked
def mkdir(*, place: tuple[int, str], **options: Any) -> int | None:
    """Make a directory."""
    return _ask("mkdir", {"src_siteid": place[0], "src_filepath": place[1]}, **options)


def _ask(
    kind: str,
    args: dict[str, Any],
    *,
    priority: int | None,
    tries: int | None,
    follow: bool,
    connection: ConnectionOptions,
) -> int | None:
    from sysadmd.cli.job_end import ended_well, follow_job
    from sysadmd.cli.render import compact, for_people

    settings = {"priority": priority, "max_tries": tries}
    wanted = {**args, **{key: value for key, value in settings.items() if value is not None}}
    client = connection.client()

    async def once() -> int | None:
        async with client:
            made = (await client.call(f"workqueue/{kind}", wanted))["job"]
            print(made["id"] if for_people() else compact(made), flush=True)
            if not follow:
                return None
            ended = await follow_job(client, {"id": made["log_uid"], "name": f"{kind} {args['src_filepath']}"})
            if kind == "list" and ended["state"] == "complete":
                await _print_listing(client, made["id"])
            return ended_well(ended)

    return asyncio.run(once())


async def _print_listing(client: AsyncClient, number: int) -> None:
    """What was found, a row for each entry."""
    from sysadmd.cli.render import print_rows

    element = (await client.call("workqueue/element", {"job": number, "element": 0, "full": True}))["element"]
    rows = [
        {"path": f"{directory.rstrip('/')}/{entry['name']}", "size": entry.get("st_size"), "mode": _mode(entry)}
        for listing in element["listing"]
        for directory, entries in listing.items()
        for entry in entries
    ]
    print_rows(ENTRIES, rows, as_json=False)


def _mode(entry: dict[str, Any]) -> str | None:
    import stat

    mode = entry.get("st_mode")
    return stat.filemode(mode) if isinstance(mode, int) else None
