"""A client of a server behind a bridge, as a program: it runs where it is put, and tells what it saw as lines of JSON.

python -m tests.system.bridge_caller talk|load|enter URL KEY PIN CA
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from sysadmd.client import AsyncClient
from sysadmd.client.errors import ClientError

LOAD = 16
"""Large answers that are asked for at once: fewer than a connection may have in flight."""


def tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def talk(client: AsyncClient) -> None:
    """Call, and run jobs whose events are waited for, until standard input ends or the server is lost."""
    stop = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    try:
        await _talk(client, stop)
    except ClientError as error:
        tell(lost=str(error))
        await stop


async def _talk(client: AsyncClient, stop: asyncio.Task[str]) -> None:
    worst, calls, events = 0.0, 0, 0
    async with client.events("dispatcher", reconnect=False) as stream:
        tell(ready=(await client.call("rpc/identify"))["hostname"])
        while not stop.done():
            began = time.monotonic()
            await client.call("rpc/query")
            worst, calls = max(worst, time.monotonic() - began), calls + 1
            if calls % 10 == 1:
                await client.call("rpc/dispatcher/run", {f"job{calls}": [["true"]]})
                async for event in stream:
                    events += 1
                    if event.args["state"] == "finished":
                        break
            await asyncio.sleep(0.01)
    tell(worst=worst, calls=calls, events=events)


async def load(client: AsyncClient) -> None:
    """Ask for more than the line carries in a while, and go on for ever."""
    tell(ready=(await client.call("rpc/identify"))["hostname"])
    asked = [asyncio.create_task(client.call("rpc/discover", timeout=300)) for _ in range(LOAD)]
    for done in asyncio.as_completed(asked):
        tell(answer=len(json.dumps(await done)))
    tell(done=True)


async def enter(url: str, options: dict[str, Any]) -> None:
    """Come in, trying again and again, and tell how often it took."""
    for attempt in range(1, 1000):
        try:
            async with AsyncClient(url, timeout=5, **options) as client:
                tell(attempts=attempt, host=(await client.call("rpc/identify"))["hostname"])
                return
        except ClientError:
            await asyncio.sleep(0.05)


async def main(what: str, url: str, key: str, pin: str, ca: str) -> None:
    options: dict[str, Any] = {"key": key, "pin": pin, "ca": ca}
    if what == "enter":
        await enter(url, options)
        return
    async with AsyncClient(url, **options) as client:
        await {"talk": talk, "load": load}[what](client)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
