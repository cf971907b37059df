"""An executor that is a service of its own: the server starts none, and works with it as soon as it comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sysadmd.executor.launch import spawn_detached
from tests.integration.servers import executors_of, running_server

OWN_SERVICE = "[dispatcher]\nlaunch_executor = false\n"


async def test_a_server_without_an_executor_queues_and_goes_on_when_there_is_one(tmp_path: Path) -> None:
    async with running_server(tmp_path, config=OWN_SERVICE) as server, server.connect() as peer:
        await peer.call("events", "subscribe", ["dispatcher"])
        await peer.call("rpc", "dispatcher", {"action": "run", "early": "echo at last"})
        await asyncio.sleep(0.5)
        listing = await peer.call("rpc", "dispatcher", {"action": "list"})
        assert listing["jobs"]["no_queue"]["early"]["state"] == "pending"
        assert executors_of(server.state_dir) == []
        await asyncio.to_thread(spawn_detached, server.state_dir, log_file=tmp_path / "executor.log")
        finished = await peer.event(lambda e: e["args"]["state"] == "finished", timeout=20)
        assert finished["args"]["process_details"]["echo at last"] == "at last\n"
