"""Strangers at a bridge, as a program: many connections from many addresses, which stay and say nothing.

    python -m tests.system.bridge_crowd HOST PORT NETWORK NUMBER

`NETWORK` are the first two numbers of the addresses. Each connection is one of three in the end: `asked` (the bridge
asked who it is), `dropped` (it was reset), or `else`. They are told as a line of JSON; those that were asked are held
until standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
from collections import Counter
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

AT_ONCE = 32


async def stranger(number: int, host: str, port: int, network: str, held: contextlib.AsyncExitStack) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    source = (f"{network}.{number // 250}.{number % 250 + 1}", 0)
    options: dict[str, Any] = {"ssl": context, "local_addr": source, "compression": None, "proxy": None}
    try:
        connection = await held.enter_async_context(connect(f"wss://{host}:{port}/", close_timeout=0.1, **options))
        return "asked" if '"identify"' in str(await connection.recv()) else "else"
    except (ConnectionError, WebSocketException, ssl.SSLError):
        return "dropped"
    except (OSError, TimeoutError) as error:
        return repr(error)


async def main(host: str, port: str, network: str, number: str) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(index: int) -> str:
        async with gate:
            return await stranger(index, host, int(port), network, held)

    async with contextlib.AsyncExitStack() as held:
        found = Counter(await asyncio.gather(*map(one, range(int(number)))))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
