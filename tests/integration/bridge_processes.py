"""A real bridge process for tests, and peers of it that speak raw frames."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from sysadmd.bridge.keyring import Keyring
from sysadmd.keys.signing import AT_BRIDGE, PrivateKey, PublicKey

START_TIMEOUT = 20.0


class BridgePeer:
    """A peer that sends and receives exactly what a test says, in the documented dialect."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.announced: list[list[str]] = []

    async def send(self, message: Any) -> None:
        await self.connection.send(message if isinstance(message, str) else json.dumps(message))

    async def receive(self, timeout: float = 10.0) -> Any:
        """The next frame: JSON of the bridge's own, text of a relayed one. Announcements are kept, not returned."""
        async with asyncio.timeout(timeout):
            while True:
                frame = await self.connection.recv()
                assert isinstance(frame, str)
                if not frame.startswith("{"):
                    return frame
                message = json.loads(frame)
                if (message["namespace"], message["name"]) != ("events", "bridge"):
                    return message
                self.announced.append(message["args"]["available_connections"])

    async def introduce(self, role: str, hostname: str) -> None:
        """Answer the question that the bridge asks first."""
        asked = await self.receive()
        assert asked["name"] == "identify"
        who = {"hostname": hostname, "type": role}
        await self.send({"args": who, "id": asked["id"], "name": "response", "namespace": "rpc"})

    async def prove(self, key: PrivateKey) -> dict[str, Any]:
        """Log in with a modern proof; the whole reply."""
        await self.send({"args": "", "id": "auth", "name": "auth_ssl", "namespace": "rpc"})
        challenge = (await self.receive())["args"]["test_string"]
        algorithm, signature = key.sign(challenge, AT_BRIDGE)
        proof = {
            "key": key.public.fingerprint,
            "algorithm": algorithm,
            "signature": base64.b64encode(signature).decode(),
        }
        await self.send({"args": proof, "id": "auth", "name": "auth_ssl", "namespace": "rpc"})
        reply: dict[str, Any] = await self.receive()
        return reply

    async def offer(self, checksums: list[str]) -> None:
        """Answer the question for the keys that this peer knows."""
        asked = await self.receive()
        assert asked["args"] == {"action": "list_ssl_checksums"}
        args = {"md5_keys": checksums}
        await self.send({"args": args, "id": asked["id"], "name": "response", "namespace": "rpc"})

    async def announcement(self, timeout: float = 10.0) -> list[str]:
        """The next list of counterparts."""
        async with asyncio.timeout(timeout):
            while not self.announced:
                message = json.loads(await self.connection.recv())
                assert (message["namespace"], message["name"]) == ("events", "bridge")
                self.announced.append(message["args"]["available_connections"])
        return self.announced.pop(0)


@dataclass
class RunningBridge:
    """A bridge process that is ready."""

    state_dir: Path
    argv: list[str]
    process: asyncio.subprocess.Process
    tls: bool
    port: int = 0

    @property
    def log_file(self) -> Path:
        return self.state_dir.with_name("bridge.log")

    @property
    def config_file(self) -> Path:
        return self.state_dir.with_name("bridge.toml")

    @property
    def url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Trusts the bridge's own certificate, and checks the name."""
        return ssl.create_default_context(cafile=str(self.state_dir / "server.crt")) if self.tls else None

    def admit(self, nick: str, key: PublicKey) -> None:
        """Import a key."""
        Keyring(self.state_dir / "keys").add(nick, key)

    @contextlib.asynccontextmanager
    async def connect(self, **options: Any) -> AsyncIterator[BridgePeer]:
        async with connect(self.url, ssl=self.ssl_context(), compression=None, max_size=None, **options) as connection:
            yield BridgePeer(connection)

    @contextlib.asynccontextmanager
    async def peer(
        self, role: str, key: PrivateKey, checksums: list[str], hostname: str = "h"
    ) -> AsyncIterator[BridgePeer]:
        """A peer that is logged in and has offered its list of keys."""
        async with self.connect() as peer:
            await peer.introduce(role, hostname)
            reply = await peer.prove(key)
            assert reply["name"] == "response", reply
            await peer.offer(checksums)
            yield peer

    def log_lines(self) -> list[dict[str, Any]]:
        lines = self.log_file.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    async def log_line(self, **wanted: Any) -> dict[str, Any]:
        """The first line of the log that has these values, when it comes."""
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                for line in self.log_lines():
                    if wanted.items() <= line.items():
                        return line
                assert self.process.returncode is None, "the bridge ended:\n" + self.log_file.read_text()
                await asyncio.sleep(0.02)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the bridge and wait for its end."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(START_TIMEOUT):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def running_bridge(
    directory: Path,
    *,
    tls: bool = False,
    config: str = "",
    environ: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    listen: str = "127.0.0.1:0",
) -> AsyncIterator[RunningBridge]:
    """Start `sysadmd bridge serve` with its state below `directory`, on a free port; stop it at the end. `prefix` is a
    command that executes it, on another host of a network, say.
    """
    state_dir = directory / "bridge"
    argv = [*prefix, sys.executable, "-m", "sysadmd", "bridge", "serve", "--config", str(directory / "bridge.toml")]
    argv += ["--state-dir", str(state_dir), "--listen", listen, *([] if tls else ["--no-tls"])]
    (directory / "bridge.toml").write_text(config)
    with (directory / "bridge.log").open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={**os.environ, **(environ or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    bridge = RunningBridge(state_dir, argv, process, tls)
    try:
        bridge.port = (await bridge.log_line(event="ready"))["listen"][0][1]
        yield bridge
    finally:
        await bridge.end()
