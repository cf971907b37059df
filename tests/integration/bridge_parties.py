"""Servers and clients of ours on both sides of a bridge, of ours or of the original kind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysadmd.client import AsyncClient
from sysadmd.keys.bridge import bridge_key
from sysadmd.keys.signing import PrivateKey, parse
from tests.integration.bridge_processes import RunningBridge
from tests.integration.keyrings import Keypair
from tests.integration.originals import OriginalBridge
from tests.integration.servers import Peer, RunningServer, running_server

Bridge = RunningBridge | OriginalBridge


@dataclass(frozen=True)
class Door:
    """Where a bridge is reached: the port, the file with the certificate that is shown there, and the host."""

    port: int
    certificate: Path
    host: str = "127.0.0.1"


def authority(bridge: Bridge | Door) -> Path:
    """The file with the certificate that a bridge shows."""
    return bridge.state_dir / "server.crt" if isinstance(bridge, RunningBridge) else bridge.certificate


def admit(bridge: Bridge, nick: str, pem: str) -> None:
    """Let the key in at a bridge."""
    if isinstance(bridge, RunningBridge):
        bridge.admit(nick, parse(pem))
    else:
        bridge.keys[nick] = pem


def sealing_key(state_dir: Path) -> PrivateKey:
    """A server's key towards bridges, which is also that of its sealed sessions; made before the server if need be."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return bridge_key(state_dir)


def link_config(bridge: Bridge | Door, name: str, more: str = "") -> str:
    """The configuration of a server called `name` that dials a bridge."""
    url = f"wss://{bridge.host if isinstance(bridge, Door) else '127.0.0.1'}:{bridge.port}"
    return f'node = "{name}"\n{more}\n[bridges.office]\nurl = "{url}"\nca = "{authority(bridge)}"\n'


@contextlib.asynccontextmanager
async def server_at(
    bridge: Bridge, directory: Path, name: str, more: str = "", *, door: Door | None = None, prefix: Sequence[str] = ()
) -> AsyncIterator[RunningServer]:
    """A server process called `name`, in a directory of that name, which a bridge lets in, by its own door or another.
    `more`: configuration.
    """
    home = directory / name
    admit(bridge, name, sealing_key(home / "state").public.pem)
    async with running_server(home, tls=True, config=link_config(door or bridge, name, more), prefix=prefix) as server:
        yield server


async def register(peer: Peer, *keys: str, account: str = "admin") -> None:
    """Let keys (PEM) log in to an account. `peer` is a connection of an administrator that needs no bridge."""
    for pem in keys:
        args = {"action": "register_ssl_cert", "pub_key": pem, "user": account}
        assert await peer.call("rpc", "settings", args) == {}


@dataclass(frozen=True)
class Person:
    """Somebody with a key, which opens the bridge and the servers alike."""

    key: Keypair

    @classmethod
    def make(cls, directory: Path, name: str, bridge: Bridge) -> Person:
        key = Keypair.make(directory, "rsa-2048" if isinstance(bridge, OriginalBridge) else "ed25519", name)
        admit(bridge, name, key.pem)
        return cls(key)

    def client(self, bridge: Bridge | Door, name: str, pin: str | None = None, **options: Any) -> AsyncClient:
        """A client of the server of that name, whose sealing key has the fingerprint `pin`."""
        url = f"bridge://127.0.0.1:{bridge.port}/{name}"
        known = self.key.file.with_name("known_servers")
        trust = {"ca": authority(bridge), "pin": pin, "known_servers": known}
        return AsyncClient(url, key=self.key.file, **{**trust, **options})

    def client_of(self, bridge: Bridge | Door, server: RunningServer, **options: Any) -> AsyncClient:
        """A client that has seen the server's key before."""
        name = server.state_dir.parent.name
        return self.client(bridge, name, sealing_key(server.state_dir).public.fingerprint, **options)
