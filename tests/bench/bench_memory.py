"""What an idle authenticated connection costs the server: resident memory, by the kernel's count, over many of them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from tests.bench.harness import bench
from tests.bench.load import LoadConnection, close, open_connections

CONNECTIONS = 500
WARM_UP = 100
"""Connections opened and kept before the first reading: what the first ones grow (pools, arenas) is the server's."""
LOGIN = {"namespace": "rpc", "name": "auth", "id": "login", "args": {"username": "admin", "password": "correct horse"}}


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Rss line")


async def idle_connection(*, tls: bool) -> float:
    """KiB for each connection."""
    from tests.integration.servers import running_server

    with tempfile.TemporaryDirectory() as directory:
        async with running_server(Path(directory), tls=tls) as server:
            context = server.ssl_context()
            port = server.ports["listen"]
            first = await open_connections(port, WARM_UP, tls=context)
            token = json.loads(await first[0].ask(json.dumps(LOGIN).encode()))["args"][0]
            await _log_in(first[1:], token)
            await asyncio.sleep(0.5)
            before = resident(server.process.pid)
            more = await open_connections(port, CONNECTIONS, tls=context)
            await _log_in(more, token)
            await asyncio.sleep(1)
            grown = resident(server.process.pid) - before
            close(first + more)
            return grown / CONNECTIONS / 1024


async def _log_in(connections: list[LoadConnection], token: str) -> None:
    reuse = json.dumps({"namespace": "rpc", "name": "auth_token", "id": "login", "args": {"token": token}}).encode()
    for connection in connections:
        assert b"response" in await connection.ask(reuse)


@bench(
    "memory.idle",
    title="idle authenticated connection, plain",
    unit="KiB",
    ceiling=24,
    higher_is_better=False,
)
async def idle(side: str) -> float:
    return await idle_connection(tls=False)


@bench(
    "memory.idle_tls",
    title="idle authenticated connection, TLS",
    unit="KiB",
    ceiling=64,
    higher_is_better=False,
)
async def idle_tls(side: str) -> float:
    return await idle_connection(tls=True)
