"""Server and executor are killed at random moments under load: what was accepted ends once, and nothing runs twice.

Each command writes its own line when it begins, and is told apart from every other by it. A killed executor may take a
command along before its line, so "at most once" is what holds of each command, and of the chain: a command runs only
when the one before it ended well. What nobody lost ran exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import WebSocketException

from tests.integration.servers import RunningServer, executors_of, running_server

SEED = 20_261_123
ROUNDS = 7
COMMANDS = 3
FEEDERS = 2
LANES = (*["no_queue"] * 9, "pkg_queue")
SLEEPS = ("0", "0", "0.05", "0.2")


class Load:
    """What was asked for, and what the server said yes to."""

    def __init__(self, marks: Path, chance: random.Random) -> None:
        self.marks, self.chance = marks, chance
        self.accepted: list[str] = []
        self.asked: list[str] = []

    def process(self, process_id: str) -> dict[str, Any]:
        """A chain whose commands leave a mark each, with a child beside them that must not outlive them."""
        commands = []
        for number in range(COMMANDS):
            nap = self.chance.choice(SLEEPS)
            mark = f"echo {number} >> {self.marks}/{process_id}"
            commands.append(["sh", "-c", f"{mark}; sleep {900 + number} & sleep {nap}", self.marks.name])
        return {"commands": commands, "lane": self.chance.choice(LANES)}

    async def feed(self, server: RunningServer, name: str) -> None:
        """Ask until the connection breaks."""
        with contextlib.suppress(WebSocketException, TimeoutError, OSError):
            async with server.connect() as peer:
                for count in range(1000):
                    process_id = f"{name}-{count}"
                    self.asked.append(process_id)
                    await peer.call("rpc", "dispatcher", {"action": "run", process_id: self.process(process_id)})
                    self.accepted.append(process_id)
                    await asyncio.sleep(0.02)

    def ran(self, process_id: str) -> list[str]:
        """The commands that began, in order."""
        path = self.marks / process_id
        return path.read_text().split() if path.exists() else []


async def wreak(server: RunningServer, chance: random.Random) -> None:
    """Kill the server, the executor or both, in any order, and start the server again."""
    victims = chance.choice([("server",), ("executor",), ("server", "executor"), ("executor", "server")])
    for victim in victims:
        if victim == "server":
            await server.end(signal.SIGKILL)
        else:
            for pid in executors_of(server.state_dir):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(chance.random() * 0.1)
    await server.end(signal.SIGKILL)
    await server.restart()


async def finished_of(server: RunningServer, wanted: set[str]) -> tuple[Counter[str], dict[str, Any]]:
    """How often each process was told to have finished since the beginning, and its last log object."""
    told: Counter[str] = Counter()
    details: dict[str, Any] = {}
    async with server.connect() as peer:
        reply = await peer.call("events", "subscribe", {"topics": ["dispatcher"]})
        await peer.call("events", "unsubscribe", {"subscription": reply["subscription"]})
        peer.events.clear()
        await peer.call("events", "subscribe", {"topics": ["dispatcher"], "since": {"epoch": reply["epoch"], "seq": 0}})
        missing = set(wanted)
        while missing:
            event = await peer.event(lambda e: e["args"].get("state") == "finished", timeout=30)
            process_id = event["args"]["process_id"]
            told[process_id] += 1
            details[process_id] = event["args"]["process_details"]
            missing.discard(process_id)
        await peer.call("rpc", "dispatcher", {"action": "exec", "commands": "true"})
        for event in peer.events:
            if event["args"].get("state") == "finished":
                told[event["args"]["process_id"]] += 1
    return told, details


def left_of(marks: Path) -> list[int]:
    """Processes of a command of this test that still live; their shells carry the directory's name as $0."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            shell = marks.name.encode() in arguments
            child = arguments[:1] == [b"sleep"] and str(marks.parent).encode() in (entry / "environ").read_bytes()
            if (shell or child) and b") Z " not in (entry / "stat").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.mark.timeout(150)
async def test_random_kills_of_server_and_executor_lose_and_repeat_nothing(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    marks = tmp_path / f"chaos-marks-{os.getpid()}"
    marks.mkdir()
    load = Load(marks, chance)
    config = f'[dispatcher.variables]\nCHAOS = "{tmp_path}"\n[lanes]\nno_queue = 16\n'
    async with running_server(tmp_path, config=config) as server:
        for number in range(ROUNDS):
            feeders = [asyncio.create_task(load.feed(server, f"r{number}f{one}")) for one in range(FEEDERS)]
            await asyncio.sleep(0.4 + chance.random() * 0.8)
            await wreak(server, chance)
            await asyncio.gather(*feeders)
        assert len(load.accepted) > 10 * ROUNDS
        told, details = await finished_of(server, set(load.accepted))
        assert {process_id: told[process_id] for process_id in load.accepted} == dict.fromkeys(load.accepted, 1)
        assert set(told.values()) == {1}, "one that was stored and not answered for ends once as well"
        lost = 0
        for process_id in load.asked:
            ran = load.ran(process_id)
            assert ran == [str(number) for number in range(len(ran))], f"{process_id} ran {ran}"
            if process_id in details:
                codes = [value for key, value in details[process_id].items() if key.startswith("return_codes/")]
                whole, broken = codes == ["0"] * COMMANDS, codes[-1] == "-1" and set(codes[:-1]) <= {"0"}
                assert whole or broken, f"{process_id} ended with {codes}"
                assert len(codes) >= len(ran), f"{process_id} ran {ran} and told of {codes}"
                lost += codes[-1] == "-1"
        assert 0 < lost < len(load.accepted)
        assert left_of(marks) == []
