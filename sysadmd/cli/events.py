"""`sysadmd events`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from sysadmd.cli.connection import ConnectionOptions, connection_options
from sysadmd.cli.values import resume_token, seconds

if TYPE_CHECKING:
    from sysadmd.client import Event

TOPICS = ("dispatcher", "life_preserver", "system_state")
"""What is printed when no topic is named."""


@click.command()
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@click.option("--since", type=resume_token, metavar="E:S", help="Begin after this event, not now: its epoch and seq.")
@click.option("--snapshot", is_flag=True, help="Begin with the last event of each topic that has a state.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--duration", type=seconds, metavar="D", help="End after this time, such as 90 or 1h10m.")
@click.option(
    "--format", "style", type=click.Choice(["human", "json"]), help="[default: human on a terminal, json in a pipe]"
)
@click.option("--reconnect", is_flag=True, help="Connect again when the connection is lost, and miss nothing.")
@connection_options
def events(
    *,
    topics: tuple[str, ...],
    since: tuple[str, int] | None,
    snapshot: bool,
    limit: int | None,
    duration: float | None,
    style: str | None,
    reconnect: bool,
    connection: ConnectionOptions,
) -> None:
    """Print events as they come.

    TOPIC is dispatcher, life_preserver, system_state, queue or workqueue; the first three when none is named. Events
    that the server could not keep are told by an event `gap`.
    """
    from sysadmd.cli.render import for_people

    client = connection.client()
    show = print_human if (style or ("human" if for_people() else "json")) == "human" else print_compact

    async def follow() -> None:
        stream = client.events(topics or TOPICS, since, snapshot=snapshot, reconnect=reconnect)
        left = limit
        try:
            async for event in stream:
                show(event)
                left = None if left is None else left - 1
                if left == 0:
                    return
        finally:
            await client.aclose()

    async def within() -> None:
        try:
            async with asyncio.timeout(duration):
                await follow()
        except TimeoutError:
            return

    asyncio.run(within())


def print_compact(event: Event) -> None:
    """The whole event as JSON on one line."""
    from sysadmd.cli.render import compact

    fields = ("topic", "args", "epoch", "seq", "time", "node")
    print(compact({name: getattr(event, name) for name in fields}), flush=True)


def print_human(event: Event) -> None:
    """A head line with the event's own time and its node, then one indented line for each value."""
    import datetime

    from sysadmd.cli.render import flat, safe

    when = datetime.datetime.fromtimestamp(event.time).astimezone()
    head = f"{when:%Y-%m-%d %H:%M:%S}.{when.microsecond // 1000:03d} {event.node} {event.topic}"
    token = f"  {event.epoch}:{event.seq}" if event.epoch else ""
    lines = [click.style(safe(head), bold=True) + click.style(safe(token), dim=True)]
    for path, value in flat(event.args):
        lines += _value_lines(path, value)
    click.echo("\n".join(lines), color=None if _coloured() else False)
    sys.stdout.flush()


def _value_lines(path: str, value: Any) -> list[str]:
    from sysadmd.cli.render import compact, one_line, safe

    if not isinstance(value, str):
        return [f"  {one_line(path)} = {compact(value)}"]
    text = value.removesuffix("\n")
    if "\n" not in text:
        return [f"  {one_line(path)} = {safe(text)}"]
    return [f"  {one_line(path)}:", *(f"    {safe(line)}" for line in text.split("\n"))]


def _coloured() -> bool:
    import os

    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
