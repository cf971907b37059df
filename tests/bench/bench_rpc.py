"""The whole stack against a bare echo: what a call costs beyond the WebSocket it travels on.

Both sides run on the same event loop (uvloop where the extra `fast` is installed), so that the ratio is about our code
alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.bench.harness import OURS, bench
from tests.bench.load import close, open_connections, request_rate

ECHO = """
import asyncio, json
from websockets.asyncio.server import serve
try:
    from uvloop import run
except ImportError:
    from asyncio import run

async def echo(connection):
    async for message in connection:
        await connection.send(json.dumps(json.loads(message)))

async def main():
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()

run(main())
"""
QUERY = json.dumps({"namespace": "rpc", "name": "query", "id": "bench", "args": {}}).encode()
LOGIN = {"namespace": "rpc", "name": "auth", "id": "login", "args": {"username": "admin", "password": "correct horse"}}


async def query_rate(side: str, number: int) -> float:
    """Answered `rpc/query` calls a second over `number` connections; the other side echoes the same text."""
    if side == OURS:
        return await _ours(number)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ECHO, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        connections = await open_connections(int(await process.stdout.readline()), number)
        rate = await request_rate(connections, QUERY)
        close(connections)
        return rate
    finally:
        process.kill()
        await process.wait()


async def _ours(number: int) -> float:
    from tests.integration.servers import running_server

    with tempfile.TemporaryDirectory() as directory:
        async with running_server(Path(directory)) as server:
            connections = await open_connections(server.ports["listen"], number)
            token = json.loads(await connections[0].ask(json.dumps(LOGIN).encode()))["args"][0]
            reuse = {"namespace": "rpc", "name": "auth_token", "id": "login", "args": {"token": token}}
            for connection in connections[1:]:
                assert b"response" in await connection.ask(json.dumps(reuse).encode())
            rate = await request_rate(connections, QUERY)
            close(connections)
            return rate


@bench("rpc.query_1", title="`rpc/query` on 1 connection", unit="calls/s", floor=0.7)
async def query_1(side: str) -> float:
    return await query_rate(side, 1)


@bench("rpc.query_50", title="`rpc/query` on 50 connections", unit="calls/s", floor=0.7)
async def query_50(side: str) -> float:
    return await query_rate(side, 50)


@bench("rpc.query_500", title="`rpc/query` on 500 connections", unit="calls/s", floor=0.7)
async def query_500(side: str) -> float:
    return await query_rate(side, 500)
