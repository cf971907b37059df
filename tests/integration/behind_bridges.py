"""A server behind a bridge, and peers on that bridge that say exactly what a test says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from sysadmd.keys.bridge import bridge_key
from sysadmd.keys.seal import Seal
from tests.integration.apps import LiveApp, running_app
from tests.integration.originals import OriginalBridge, OriginalClient, Pair, envelope, kept_pair, until
from tests.integration.servers import PASSWORD

KEY = kept_pair("client")
"""The key that is registered on the server, by whose checksum the bridge pairs the two."""


@dataclass
class Behind:
    """A server whose one link, `office`, leads to an original bridge."""

    live: LiveApp
    bridge: OriginalBridge

    def status(self) -> Any:
        """How the link is; None where there is none."""
        return next(iter(self.live.app.links.listed()), None)

    async def state(self, wanted: str) -> None:
        await until(lambda: self.status() is not None and self.status().state == wanted)

    @property
    def dropped(self) -> dict[str, int]:
        """What the link dropped, by reason."""
        return {reason: number for (_, reason), number in self.live.app.links.dropped().items()}

    def sessions(self) -> list[Any]:
        """The sessions that came through the bridge."""
        return [one for one in self.live.app.engine.sessions if one.peer.kind == "bridge"]

    @contextlib.asynccontextmanager
    async def client(self, key: Pair = KEY) -> AsyncIterator[OriginalClient]:
        """An original client behind the bridge."""
        client = OriginalClient(key, kept_pair("client to bridge"))
        async with client.dialling(self.bridge.url):
            yield client

    @contextlib.asynccontextmanager
    async def peer(self, kind: type[RawPeer] | None = None) -> AsyncIterator[Any]:
        """A peer that the bridge has paired with the server."""
        async with connect(self.bridge.url, ssl=_any_certificate(), compression=None, max_size=None) as connection:
            peer = (kind or RawPeer)(connection)
            await peer.join()
            yield peer


@contextlib.asynccontextmanager
async def behind(
    directory: Path, *, known: bool = True, insecure: bool = True, **options: Any
) -> AsyncIterator[Behind]:
    """A server and the bridge in front of it, which lets it in if `known`. KEY is the one of `admin`."""
    state = directory / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    bridge = OriginalBridge(directory)
    bridge.keys["client"] = kept_pair("client to bridge").pem
    if known:
        bridge.keys["server"] = bridge_key(state).public.pem
    async with bridge.serving():
        link = {"url": f"127.0.0.1:{bridge.port}", "insecure": insecure}
        async with running_app(directory, bridges={"office": link}, **options) as live:
            await register(live, "admin", KEY)
            it = Behind(live, bridge)
            if known:
                await it.state("connected")
                await until(lambda: any(KEY.checksum in one.keys for one in bridge.peers))
            yield it


async def register(live: LiveApp, account: str, key: Pair) -> None:
    async with live.connect() as admin:
        args = {"action": "register_ssl_cert", "pub_key": base64.b64encode(key.pem.encode()).decode(), "user": account}
        assert await admin.call("rpc", "settings", args) == {}


class RawPeer:
    """A client of the bridge that sends payloads as they are. `server` is the server's id there."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.server = ""

    async def join(self) -> None:
        """Log in to the bridge and wait for the server (spec sysadm §6.2)."""
        bridge_pair = kept_pair("client to bridge")
        await self._frame()
        await self._own("response", {"hostname": "c", "type": "client"}, "sysadm_bridge_request_ident")
        await self._own("auth_ssl", "", "login")
        challenge = json.loads(await self._frame())["args"]["test_string"]
        await self._own("auth_ssl", {"encrypted_string": bridge_pair.encrypted(challenge)}, "login")
        await self._frame()
        await self._frame()
        await self._own("response", {"md5_keys": [KEY.checksum]}, "bridge_request_list_keys")
        announced = json.loads(await self._frame())["args"]["available_connections"]
        self.server = announced[-1]

    async def say(self, payload: str | bytes) -> None:
        text = payload.decode() if isinstance(payload, bytes) else payload
        await self._connection.send(f"{self.server}\n{text}")

    async def hear(self, timeout: float = 10.0) -> str:
        """The next payload."""
        async with asyncio.timeout(timeout):
            while True:
                frame = await self._frame()
                if not frame.startswith("{"):
                    sender, _, payload = frame.partition("\n")
                    assert sender == self.server
                    return payload

    async def exchange(self, namespace: str, name: str, args: Any, id: str = "x") -> dict[str, Any]:
        """Ask in plain JSON; the answer, which must be plain too."""
        await self.say(envelope(namespace, name, id, args))
        message: dict[str, Any] = json.loads(await self.hear())
        return message

    async def leave(self) -> None:
        await self._connection.close()

    async def _own(self, name: str, args: Any, id: str) -> None:
        await self._connection.send(envelope("rpc", name, id, args))

    async def _frame(self) -> str:
        frame = await self._connection.recv()
        return frame if isinstance(frame, str) else frame.decode()


class SealedPeer(RawPeer):
    """A client with a sealed session. While it is `asleep` it reads the socket and nothing else, so that its window
    fills and the bridge does not.
    """

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(connection)
        self.seal = Seal.client(lambda key: True)
        self.events: list[dict[str, Any]] = []
        self.unread: list[bytes] = []
        self.asleep = False
        self._reading: asyncio.Task[None] | None = None
        self._replies: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    async def join(self) -> None:
        await super().join()
        await self.flush()
        await self.until(lambda: self.seal.established)

    async def request(self, namespace: str, name: str, args: Any = None) -> dict[str, Any]:
        request_id = f"s{next(self._ids)}"
        await self.post(namespace, name, args, request_id)
        await self.until(lambda: request_id in self._replies)
        return self._replies.pop(request_id)

    async def post(self, namespace: str, name: str, args: Any = None, id: str = "") -> None:
        """Send a request and go on."""
        message = {"namespace": namespace, "name": name, "id": id, "args": {} if args is None else args}
        self.seal.send(json.dumps(message).encode())
        await self.flush()

    async def login(self, account: str = "admin") -> None:
        reply = await self.request("rpc", "auth", {"username": account, "password": PASSWORD})
        assert reply["name"] == "response", reply

    async def flush(self) -> None:
        for payload in self.seal.outgoing():
            await self.say(payload)

    async def until(self, done: Callable[[], bool], timeout: float = 20.0) -> None:
        """Read on until something is so."""
        async with asyncio.timeout(timeout):
            while not done():
                payload = (await self.hear()).encode()
                if self.asleep:
                    self.unread.append(payload)
                else:
                    await self.take(payload)

    async def take(self, payload: bytes) -> None:
        for message in self.seal.receive(payload):
            found = json.loads(message)
            if found["namespace"] == "events" and found["name"] not in ("response", "error"):
                self.events.append(found)
            else:
                self._replies[found["id"]] = found
        self.seal.release()
        await self.flush()

    def sleep(self) -> None:
        """Take nothing in from now on."""
        self.asleep = True
        self._reading = asyncio.create_task(self.until(lambda: not self.asleep, timeout=60))

    async def wake(self) -> None:
        self.asleep = False
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.wait([self._reading])
        unread, self.unread = self.unread, []
        for payload in unread:
            await self.take(payload)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
