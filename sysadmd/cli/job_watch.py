"""A list of jobs that is kept up to date by events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sysadmd.client import AsyncClient

REST = 0.5
"""Seconds between two look-ups: many events make one."""


def show(jobs: Sequence[dict[str, Any]], *, people: bool) -> None:
    """Jobs as a table, or each as JSON on a line."""
    from sysadmd.cli.job_view import print_table
    from sysadmd.cli.render import compact

    if people:
        print_table(jobs)
        return
    for one in jobs:
        print(compact(one), flush=True)


async def watch_jobs(client: AsyncClient, args: dict[str, Any], *, people: bool) -> None:
    """Draw the table anew after events, until interrupted; for programs, print each job that has changed."""
    async with client.events("queue") as stream:
        if people:
            from sysadmd.cli.job_view import live_table

            with live_table() as draw:
                await _looks(client, args, stream, draw)
        else:
            known: dict[str, Any] = {}

            def tell(jobs: Sequence[dict[str, Any]]) -> None:
                show([one for one in jobs if known.get(one.get("id", "")) != one], people=False)
                known.clear()
                known.update((one["id"], one) for one in jobs if "id" in one)

            await _looks(client, args, stream, tell)


async def _looks(client: AsyncClient, args: dict[str, Any], stream: Any, draw: Any) -> None:
    """Look once, and once more after each event; those that come during a pause are one."""
    dirty = asyncio.Event()

    async def hear() -> None:
        async for _ in stream:
            dirty.set()

    hearing = asyncio.create_task(hear())
    hearing.add_done_callback(lambda _: dirty.set())
    try:
        while not hearing.done():
            dirty.clear()
            draw((await client.call("queue/list", args))["jobs"])
            await dirty.wait()
            await asyncio.sleep(REST)
        hearing.result()
    finally:
        hearing.cancel()
