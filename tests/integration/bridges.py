"""A bridge's relay in the test's own loop, with real TLS, and peers that send exactly what a test says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sysadmd.bridge.relay import Relay
from sysadmd.keys.certificate import ensure_certificate
from sysadmd.keys.signing import AT_BRIDGE, PrivateKey, PublicKey
from sysadmd.keys.tls import server_context
from sysadmd.limits import Limits
from sysadmd.listen.pending import Pending

IDENTIFY = '{"args":"","id":"sysadm_bridge_request_ident","name":"identify","namespace":"rpc"}'
LIST_KEYS = (
    '{"args":{"action":"list_ssl_checksums"},"id":"bridge_request_list_keys","name":"settings","namespace":"rpc"}'
)
WAIT = 10.0


@dataclass(frozen=True)
class Entry:
    nick: str
    public: PublicKey


@dataclass
class Ring:
    """A keyring in memory."""

    keys: dict[str, Entry] = field(default_factory=dict)

    def current(self) -> Mapping[str, Entry]:
        return dict(self.keys)

    def add(self, nick: str, key: PublicKey) -> None:
        self.keys[key.fingerprint] = Entry(nick, key)


@cache
def private_key(name: str = "any", kind: Any = "ed25519") -> PrivateKey:
    """One for each name and kind; made once, since RSA takes a while."""
    return PrivateKey.generate(kind)


@cache
def _certificate(directory: Path) -> tuple[Path, Path]:
    files = ensure_certificate(directory, ["localhost"])
    return files.cert, files.key


def text(namespace: str, name: str, args: Any = "", id: Any = "q1") -> str:
    return json.dumps({"args": args, "id": id, "name": name, "namespace": namespace}, separators=(",", ":"))


class BridgePeer:
    """One connection to a bridge."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.id = ""
        self._kept: list[str] = []

    async def send(self, frame: str | bytes) -> None:
        await self.connection.send(frame)

    async def receive(self, timeout: float = WAIT) -> str:
        if self._kept:
            return self._kept.pop(0)
        async with asyncio.timeout(timeout):
            return str(await self.connection.recv(decode=True))

    async def answer(self, namespace: str, name: str, args: Any = "", id: Any = "q1") -> dict[str, Any]:
        await self.send(text(namespace, name, args, id))
        reply: dict[str, Any] = json.loads(await self.receive())
        return reply

    async def settle(self) -> list[str]:
        """Wait until what was sent before is done; what came meanwhile, which `receive` still gives."""
        await self.send(text("rpc", "identify", id="probe"))
        kept = []
        while '"id":"probe"' not in (frame := await self.receive()):
            kept.append(frame)
        self._kept = kept
        return kept

    async def silent(self) -> None:
        """Nothing came, and nothing is on its way."""
        assert await self.settle() == []

    async def identify(self, role: str = "client", **more: Any) -> None:
        assert await self.receive() == IDENTIFY
        await self.send(text("rpc", "response", {"hostname": "h", "type": role, **more}, "sysadm_bridge_request_ident"))

    async def challenge(self) -> str:
        return str((await self.answer("rpc", "auth_ssl", id="a1"))["args"]["test_string"])

    async def prove(
        self, key: PrivateKey, challenge: str, *, classic: bool = False, binding: str = AT_BRIDGE
    ) -> dict[str, Any]:
        if classic:
            proof = {"encrypted_string": base64.b64encode(key.sign_classic(challenge)).decode()}
        else:
            algorithm, signature = key.sign(challenge, binding)
            encoded = base64.b64encode(signature).decode()
            proof = {"key": key.public.fingerprint, "algorithm": algorithm, "signature": encoded}
        return await self.answer("rpc", "auth_ssl", proof, "a2")

    async def log_in(self, key: PrivateKey, *, classic: bool = False) -> None:
        reply = await self.prove(key, await self.challenge(), classic=classic)
        assert reply["name"] == "response", reply
        assert await self.receive() == LIST_KEYS

    async def list_keys(self, *checksums: str) -> None:
        await self.send(text("rpc", "response", {"md5_keys": list(checksums)}, "bridge_request_list_keys"))

    async def announced(self) -> list[str]:
        event = json.loads(await self.receive())
        assert (event["namespace"], event["name"], event["id"]) == ("events", "bridge", ""), event
        return list(event["args"]["available_connections"])

    async def relay(self, to: str, payload: str) -> None:
        await self.send(f"{to}\n{payload}")

    async def closed(self) -> tuple[int | None, str | None]:
        """Code and reason with which the bridge ended the connection."""
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(WAIT):
                while True:
                    await self.connection.recv()
        return self.connection.close_code, self.connection.close_reason


@dataclass
class LiveRelay:
    """A relay that takes connections."""

    relay: Relay
    ring: Ring
    directory: Path
    tls: bool
    places: Pending | None

    @property
    def port(self) -> int:
        return int(self.relay.addresses[0][1])

    def ssl_context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=str(self.directory / "server.crt")) if self.tls else None

    @contextlib.asynccontextmanager
    async def connect(self, origin: Any = None, **options: Any) -> AsyncIterator[BridgePeer]:
        scheme = "wss" if self.tls else "ws"
        options = {"ssl": self.ssl_context(), "compression": None, "max_size": None, "proxy": None, **options}
        connection = await connect(f"{scheme}://127.0.0.1:{self.port}/", origin=origin, **options)
        try:
            yield BridgePeer(connection)
        finally:
            connection.transport.abort()  # the library's closing handshake waits for all that a test did not read

    @contextlib.asynccontextmanager
    async def peer(
        self, role: str = "client", *checksums: str, key: PrivateKey | None = None, origin: Any = None, **options: Any
    ) -> AsyncIterator[BridgePeer]:
        """A peer that is logged in and has told its list."""
        key = key or private_key()
        self.ring.add("somebody", key.public)
        async with self.connect(origin, **options) as peer:
            await peer.identify(role)
            await peer.log_in(key)
            await peer.list_keys(*checksums)
            await peer.settle()
            yield peer

    @contextlib.asynccontextmanager
    async def pair(self, *, origin: Any = None, **options: Any) -> AsyncIterator[tuple[BridgePeer, BridgePeer]]:
        """A server and a client that may talk, and know so."""
        async with (
            self.peer("server", "k", origin=origin and "sysadm-server") as server,
            self.peer("client", "k", origin=origin, **options) as client,
        ):
            (client.id,) = await server.announced()
            (server.id,) = await client.announced()
            yield server, client

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT):
            while not condition():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running_relay(
    directory: Path, *, tls: bool = True, pending: bool = False, proxies: tuple[str, ...] = (), **limits: Any
) -> AsyncIterator[LiveRelay]:
    chosen = Limits(**limits)
    ring = Ring()
    places = Pending(lambda: chosen) if pending else None
    relay = Relay(ring, hostname="b", limits=lambda: chosen, pending=places, trusted_proxies=proxies)
    context = server_context(*_certificate(directory)) if tls else None
    await relay.start(host="127.0.0.1", port=0, ssl=context)
    try:
        yield LiveRelay(relay, ring, directory, tls, places)
    finally:
        await relay.stop(1001, "the bridge is stopping")


@contextlib.contextmanager
def small_window(port: int) -> Any:
    """A socket to the bridge whose kernel takes little before its owner reads."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        yield sock
