"""The relay that ours is measured beside: two coroutines of `websockets`, nothing else.

    python -m tests.bench.bare_relay CERTIFICATE KEY

The first connection's messages go to the second one, as they come. It prints its port. Its loop is the one that the
bridge has.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from sysadmd.limits import Limits


async def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    first: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()
    second: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()

    async def pump(source: ServerConnection, to: asyncio.Future[ServerConnection]) -> None:
        sink = await to
        async for message in source:
            await sink.send(message)

    async def relay(connection: ServerConnection) -> None:
        mine, other = (first, second) if not first.done() else (second, first)
        mine.set_result(connection)
        with contextlib.suppress(ConnectionClosed):
            await pump(connection, other)

    options: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None, "close_timeout": 0.1}
    options["write_limit"] = Limits().write_buffer
    async with serve(relay, "127.0.0.1", 0, ssl=context, **options) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
