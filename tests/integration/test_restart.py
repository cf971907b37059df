"""A server that is stopped or killed in the middle of a chain loses nothing: the executor goes on, the next server
adopts.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.integration.servers import running_server
from tests.integration.test_seed_events import process

FIRST = 'sh -c "for i in 1 2 3 4 5 6 7 8 9 10; do echo first $i; sleep 0.2; done"'
SECOND = 'sh -c "echo second; exit 3"'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
async def test_a_chain_survives_the_server(tmp_path: Path, number: signal.Signals) -> None:
    async with running_server(tmp_path) as server:
        async with server.connect() as peer:
            await peer.call("events", "subscribe", {"topics": ["dispatcher"]})
            await peer.call("rpc", "dispatcher", {"action": "run", "chain": [FIRST, SECOND]})
            token = (await peer.event(process("running", "chain")))["args"]
            assert token["state"] == "running"
            seen = await peer.event(lambda e: "first 2" in str(e["args"].get("process_details", {}).get(FIRST, "")))
            since = {"epoch": seen["epoch"], "seq": seen["seq"]} if "epoch" in seen else None
        await server.end(number)
        await server.restart()
        async with server.connect() as peer:
            await peer.call("events", "subscribe", {"topics": ["dispatcher"], "since": since})
            finished = await peer.event(process("finished", "chain"), timeout=20)
            details = finished["args"]["process_details"]
            assert details[FIRST] == "".join(f"first {i}\n" for i in range(1, 11))
            assert details[SECOND] == "second\n"
            assert details[f"return_codes/{FIRST}"] == "0"
            assert details[f"return_codes/{SECOND}"] == "3"
            log = await peer.call("rpc", "dispatcher", {"action": "read_log", "process_id": "chain", "command": 0})
            assert log["data"] == "".join(f"first {i}\n" for i in range(1, 11))
            assert log["eof"]


async def test_a_chain_whose_first_command_ended_while_no_server_ran_goes_on(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with server.connect() as peer:
            await peer.call("events", "subscribe", ["dispatcher"])
            await peer.call("rpc", "dispatcher", {"action": "run", "chain": ["sleep 0.5", "echo after"]})
            await peer.event(process("running", "chain"))
        await server.end(signal.SIGKILL)
        import asyncio

        await asyncio.sleep(1)
        await server.restart()
        async with server.connect() as peer:
            log = await peer.call(
                "rpc", "dispatcher", {"action": "read_log", "process_id": "chain", "command": 1, "follow": 10}
            )
            assert log["data"] == "after\n"
