"""`sysadmd status`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from sysadmd.cli.connection import ConnectionOptions, connection_options

if TYPE_CHECKING:
    from sysadmd.client import AsyncClient


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal.")
@connection_options
def status(as_json: bool, connection: ConnectionOptions) -> None:
    """Show who answers, and what it is doing."""
    from sysadmd.cli.render import compact, for_people, one_line

    client = connection.client()

    async def ask() -> dict[str, Any]:
        async with client:
            return await collect(client)

    found = asyncio.run(ask())
    if as_json or not for_people():
        print(compact(found))
        return
    for key, value in found.items():
        print(f"{key:<15}{one_line(value) if isinstance(value, str) else compact(value)}")


async def collect(client: AsyncClient) -> dict[str, Any]:
    """What the server tells this caller; what it may not know is left out."""
    started = time.perf_counter()
    identity = await client.call("rpc/identify")
    round_trip = time.perf_counter() - started
    found: dict[str, Any] = {"server": str(client.address)}
    if isinstance(identity, dict):
        found |= {"node": identity.get("hostname"), "type": identity.get("type")}
    found["round_trip_ms"] = round(round_trip * 1000, 1)
    discovered = await _offered(client, "rpc/discover")
    if isinstance(discovered, dict):
        found["version"] = discovered.get("info", {}).get("version")
        found["methods"] = len(discovered.get("methods", []))
    listing = await _offered(client, "rpc/dispatcher/list")
    if isinstance(listing, dict) and isinstance(listing.get("jobs"), dict):
        found["jobs"] = {lane: len(jobs) for lane, jobs in listing["jobs"].items()}
    queued = await _offered(client, "queue/counts")
    if isinstance(queued, dict) and queued.get("counts"):
        found["queue"] = queued["counts"]
    bridges = await _offered(client, "rpc/bridges/list")
    if isinstance(bridges, dict) and bridges.get("bridges"):
        found["bridges"] = {link["name"]: link["state"] for link in bridges["bridges"]}
    return found


async def _offered(client: AsyncClient, method: str) -> Any:
    from sysadmd.client import RemoteError

    try:
        return await client.call(method)
    except RemoteError:
        return None
