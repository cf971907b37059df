"""The server is killed again and again while it records: no acknowledged record is lost, and the trail is whole."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException

from sysadmd.auth import audit_table
from sysadmd.auth.audit import verify_store
from sysadmd.store import DATABASE_FILE, Store
from tests.integration.servers import RunningServer, running_server

ROUNDS = 4
SEED = 20_261_125
WRITERS = 4
BROKEN = (WebSocketException, OSError, EOFError)
"""What a client meets when its server is killed, whatever it was doing."""
CALL = {"action": "kill", "job_id": "no-such-process"}
"""A call that is recorded and stores nothing else: no commit but its record's can be what its answer waits for."""


class Load:
    """What was answered, each with the mark by which its record is found."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.calls: list[str] = []
        self.logins = 0

    async def call(self, server: RunningServer) -> None:
        """Make calls that are recorded, until the connection breaks; ten at a time, so that records share commits."""
        with contextlib.suppress(*BROKEN):
            async with server.connect() as peer:
                self.logins += 1
                while True:
                    ids = [f"mark-{next(self.numbers)}" for _ in range(10)]
                    for one in ids:
                        await peer.send({"namespace": "rpc", "name": "dispatcher", "id": one, "args": CALL})
                    for one in ids:
                        reply = await peer.reply(one)
                        assert reply["name"] == "response", reply
                        self.calls.append(one)

    async def log_in(self, server: RunningServer) -> None:
        """Log in anew on one connection, until it breaks."""
        with contextlib.suppress(*BROKEN):
            async with server.connect(None) as peer:
                while True:
                    await peer.login()
                    self.logins += 1


@pytest.mark.timeout(120)
async def test_a_server_killed_while_it_records_loses_no_acknowledged_record(tmp_path: Path) -> None:
    chance, load, kinds, marks = random.Random(SEED), Load(), Counter[str](), set[str]()
    async with running_server(tmp_path) as server:
        for number in range(ROUNDS):
            tasks = [asyncio.create_task(load.call(server)) for _ in range(WRITERS)]
            tasks.append(asyncio.create_task(load.log_in(server)))
            before = len(load.calls)
            async with asyncio.timeout(30):
                while len(load.calls) < before + 20 or load.logins < 2 * (number + 1):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(chance.random() * 0.3)
            await server.end(signal.SIGKILL)
            await asyncio.gather(*tasks)
            store = Store.open(server.state_dir / DATABASE_FILE)
            try:
                verdict = verify_store(store, server.state_dir)
                assert verdict.ok, verdict
                found, _ = store.read_now(lambda c: audit_table.find(c, since=1, limit=1_000_000))
            finally:
                store.close()
            kinds = Counter(record["kind"] for record in found)
            marks = {record.get("id", "") for record in found if record["kind"] == "call"}
            assert set(load.calls) <= marks
            assert kinds["login"] >= load.logins
            await server.restart()
        assert await server_says_ok(server)
    assert kinds["start"] == ROUNDS
    assert len(load.calls) > 20 * ROUNDS


async def server_says_ok(server: RunningServer) -> bool:
    async with server.connect() as peer:
        verdict = await peer.call("rpc", "audit", {"action": "verify"})
        assert verdict["records"] > 0
        return bool(verdict["ok"])
