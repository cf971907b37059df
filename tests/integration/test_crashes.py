"""The server is killed again and again under load: every accepted process ends exactly once, and runs at most once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.servers import RunningServer, executors_of, running_server

ROUNDS = 6
SEED = 20_261_122


async def feed(server: RunningServer, marks: Path, accepted: list[str], number: int) -> None:
    """Queue processes of two commands until the connection breaks; each leaves a mark for each command that ran."""
    async with server.connect() as peer:
        for count in range(1000):
            process_id = f"r{number}-{count}"
            mark = ["sh", "-c", f"echo x >> {marks}/{process_id}"]
            args = {"action": "run", process_id: [mark, mark]}
            try:
                reply = await peer.request("rpc", "dispatcher", args)
            except (ConnectionClosed, TimeoutError):
                return
            assert reply["name"] == "response", reply
            accepted.append(process_id)


async def finished_of(server: RunningServer, accepted: list[str]) -> Counter[str]:
    """How often each accepted process was told to have finished, by the log from its beginning on."""
    told: Counter[str] = Counter()
    async with server.connect() as peer:
        reply = await peer.call("events", "subscribe", {"topics": ["dispatcher"]})
        await peer.call("events", "unsubscribe", {"subscription": reply["subscription"]})
        peer.events.clear()
        replay = {"topics": ["dispatcher"], "since": {"epoch": reply["epoch"], "seq": 0}}
        await peer.call("events", "subscribe", replay)
        missing = set(accepted)
        while missing:
            event = await peer.event(lambda e: e["args"].get("state") == "finished", timeout=30)
            told[event["args"]["process_id"]] += 1
            missing.discard(event["args"]["process_id"])
    return told


@pytest.mark.timeout(180)
async def test_a_server_killed_under_load_loses_no_process_and_runs_none_twice(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    marks = tmp_path / "marks"
    marks.mkdir()
    accepted: list[str] = []
    async with running_server(tmp_path) as server:
        for number in range(ROUNDS):
            feeder = asyncio.create_task(feed(server, marks, accepted, number))
            await asyncio.sleep(0.7 + chance.random() * 0.6)
            await server.end(signal.SIGKILL)
            await feeder
            await server.restart()
        assert len(accepted) > 10 * ROUNDS
        told = await finished_of(server, accepted)
        assert {process_id: told[process_id] for process_id in accepted} == dict.fromkeys(accepted, 1)
        for process_id in accepted:
            assert (marks / process_id).read_text() == "x\nx\n", process_id


@pytest.mark.timeout(120)
async def test_a_killed_executor_takes_its_attempts_with_it_and_the_server_goes_on(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect() as peer:
        await peer.call("events", "subscribe", ["dispatcher"])
        await peer.call("rpc", "dispatcher", {"action": "run", "long": ["sleep 300", "echo never"]})
        await peer.event(lambda e: e["args"].get("state") == "running")
        (executor,) = executors_of(server.state_dir)
        os.kill(executor, signal.SIGKILL)
        finished = await peer.event(lambda e: e["args"].get("state") == "finished", timeout=30)
        details = finished["args"]["process_details"]
        assert details["return_codes/sleep 300"] == "-1"
        assert "return_codes/echo never" not in details
        again = await peer.call("rpc", "dispatcher", {"action": "exec", "commands": "echo back"})
        assert again["echo back"] == "back\n"
