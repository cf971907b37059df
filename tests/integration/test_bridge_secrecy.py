"""What a bridge of ours has of a session that it relays, in its frames and in its memory: nothing that is worth having.

The same is looked for, and found, after a session of an original client, or the search would prove nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.integration.bridge_parties import Door, Person, admit, register, server_at
from tests.integration.bridge_processes import RunningBridge, running_bridge
from tests.integration.original_parts import QT, server_tls
from tests.integration.originals import OriginalClient
from tests.integration.process_memory import in_memory, occurrences, why_not
from tests.integration.servers import RunningServer

TIMES = 200
"""How often the text is said: memory that was freed is used again, but not all of it at once."""


@dataclass
class Recorder:
    """Stands before a bridge, with a certificate of its own, and writes down every message both ways."""

    bridge: RunningBridge
    messages: list[bytes] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def listening(self, directory: Path) -> AsyncIterator[Door]:
        tls = server_tls(directory, "recorder")
        async with serve(self._serve, "127.0.0.1", 0, ssl=tls, close_timeout=1, **QT) as server:  # type: ignore[arg-type]
            yield Door(next(iter(server.sockets)).getsockname()[1], directory / "recorder.crt")

    async def _serve(self, near: ServerConnection) -> None:
        assert near.request is not None
        origin = near.request.headers.get("Origin")
        context = self.bridge.ssl_context()
        async with connect(self.bridge.url, ssl=context, origin=origin, proxy=None, **QT) as far:  # type: ignore[arg-type]
            ways = [asyncio.create_task(self._copy(*way)) for way in ((near, far), (far, near))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()

    async def _copy(self, source: Connection, sink: Connection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in source:
                self.messages.append(message if isinstance(message, bytes) else message.encode())
                await sink.send(message)


@contextlib.asynccontextmanager
async def recorded(directory: Path) -> AsyncIterator[tuple[Recorder, Door, RunningServer]]:
    """A bridge, the door through which everybody reaches it, and a server."""
    async with running_bridge(directory, tls=True) as bridge:
        recorder = Recorder(bridge)
        async with recorder.listening(directory) as door, server_at(bridge, directory, "alpha", door=door) as server:
            yield recorder, door, server


async def test_a_text_in_calls_and_in_events_of_a_sealed_session_is_in_no_frame_and_not_in_the_memory(
    tmp_path: Path,
) -> None:
    canary = f"canary{secrets.token_hex(20)}"
    async with recorded(tmp_path) as (recorder, door, server):
        bridge = recorder.bridge
        ann = Person.make(tmp_path, "ann", bridge)
        async with server.connect() as admin:
            await register(admin, ann.key.pem)
        async with ann.client_of(door, server) as client, client.events("dispatcher") as events:
            for number in range(TIMES):
                await client.call("rpc/dispatcher/kill", {"job_id": [f"{number}{canary}"]})
            await client.call("rpc/dispatcher/run", {canary: [["echo", canary]]})
            async with asyncio.timeout(10):
                async for event in events:
                    if canary in str(event.args):
                        break
            searched = why_not(bridge.process.pid)
            found = {} if searched else in_memory(bridge.process.pid, canary)
        kinds = {message.partition(b"\n")[2][:1] for message in recorder.messages if b"\n" in message}
        assert {b"{", b"~"} <= kinds <= {b"{", b"~", b"^", b"!"}
        assert sum(map(len, recorder.messages)) > TIMES * len(canary)
        assert not occurrences(canary, *recorder.messages)
        assert not found
        if searched:
            pytest.skip(searched)


async def test_the_same_text_in_a_session_of_an_original_client_is_found(tmp_path: Path) -> None:
    canary = f"canary{secrets.token_hex(20)}"
    client = OriginalClient()
    client.spacing = 0.0
    async with recorded(tmp_path) as (recorder, door, server):
        bridge = recorder.bridge
        admit(bridge, "original", client.bridge_key.pem)
        async with server.connect() as admin:
            await register(admin, client.key.pem)
        async with client.dialling(f"wss://127.0.0.1:{door.port}"):
            remote = await client.until(client.server)
            for number in range(TIMES):
                await client.call(remote.id, "rpc", "dispatcher", {"action": "kill", "job_id": [f"{number}{canary}"]})
            await client.call(remote.id, "events", "subscribe", "dispatcher")
            await client.call(remote.id, "rpc", "dispatcher", {"action": "run", canary: ["true"]})
            await client.until(lambda: canary in str(client.events))
            searched = why_not(bridge.process.pid)
            found = {"not searched": 1} if searched else in_memory(bridge.process.pid, canary)
        assert occurrences(canary, *recorder.messages).total() >= TIMES
        assert found
        if searched:
            pytest.skip(searched)
