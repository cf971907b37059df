"""A simulator of the original bridge (spec sysadm §6)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.integration.original_parts import (
    BRIDGE_IDENTIFY,
    BRIDGE_LIST,
    ENVELOPE,
    QT,
    Challenges,
    Frame,
    Pair,
    Tokens,
    envelope,
    parsed,
    random_text,
    server_tls,
    text_of,
)


@dataclass(eq=False)
class BridgePeer:
    """A connection of a bridge."""

    connection: ServerConnection
    id: str
    token: str = ""
    role: str = "client"
    keys: list[str] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    later: list[asyncio.Task[None]] = field(default_factory=list)

    async def send(self, text: str) -> None:
        self.frames.append(Frame(time.monotonic(), ">", text))
        with contextlib.suppress(ConnectionClosed):
            await self.connection.send(text)


class OriginalBridge:
    """The C++ bridge: whom it knows is in `keys` (nick to PEM), who ever came is in `peers`.

    Its ways: any authenticated peer reaches any other (`relayed` is the place for a man in the middle), a response
    with whatever id replaces the key list of its sender, and who leaves is told to nobody until some list changes.
    """

    grace = 30.0

    def __init__(self, directory: Path, hostname: str = "b", key: Pair | None = None) -> None:
        self._tls, self.hostname, self.port = server_tls(directory, "bridgeserver", key), hostname, 0
        self.certificate = directory / "bridgeserver.crt"
        self.keys: dict[str, str] = {}
        self.peers: list[BridgePeer] = []
        self.dropped: list[str] = []
        self.tokens, self.challenges = Tokens(), Challenges(40)
        self.new_token: Callable[[], str] = functools.partial(random_text, 40)
        self.new_id: Callable[[], str] = lambda: f"::{{{uuid.uuid4()}}}"
        self._open: list[BridgePeer] = []

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[Self]:
        options = {"ssl": self._tls, "server_header": "sysadm-bridge", "close_timeout": 1, **QT}
        async with serve(self._serve, "127.0.0.1", port, **options) as server:  # type: ignore[arg-type]
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self

    def of(self, role: str) -> BridgePeer | None:
        """The newest peer of a role that is logged in and connected."""
        found = [peer for peer in self._open if peer.role == role and peer.token]
        return found[-1] if found else None

    async def _serve(self, connection: ServerConnection) -> None:
        peer = BridgePeer(connection, self.new_id())
        self.peers.append(peer)
        self._open.append(peer)
        peer.later.append(asyncio.create_task(self._check(peer)))
        try:
            await peer.send(BRIDGE_IDENTIFY)
            async for frame in connection:
                peer.frames.append(Frame(time.monotonic(), "<", text_of(frame)))
                await self._receive(peer, text_of(frame))
        except ConnectionClosed:
            pass
        finally:
            self._open.remove(peer)
            for task in peer.later:
                task.cancel()

    async def _check(self, peer: BridgePeer) -> None:
        while True:
            await asyncio.sleep(self.grace)
            if not self.tokens.valid(peer.token):
                await peer.connection.close()

    async def _receive(self, peer: BridgePeer, text: str) -> None:
        if text.startswith("{") or not self.tokens.valid(peer.token):
            message = parsed(text)
            if message.keys() >= {"args", "id", "name", "namespace"}:
                await self._own(peer, message)
            return
        destination, newline, payload = text.partition("\n")
        other = next((one for one in self._open if one.id == destination), None)
        if other is None or not newline or " " in destination:
            self.dropped.append(text)
            return
        for one in await self.relayed(peer, other, payload):
            await other.send(f"{peer.id}\n{one}")

    async def relayed(self, sender: BridgePeer, receiver: BridgePeer, payload: str) -> list[str]:
        """The payloads that the receiver gets for one of the sender's: that one, byte for byte."""
        return [payload]

    async def _own(self, peer: BridgePeer, message: dict[str, Any]) -> None:
        namespace, name, request_id, args = (message[key] for key in ENVELOPE)
        if name == "error":
            return
        if name == "response" and request_id == "sysadm_bridge_request_ident":
            peer.role = "server" if isinstance(args, dict) and args.get("type") == "server" else "client"
        elif name == "response":
            peer.keys = list(args.get("md5_keys") or []) if isinstance(args, dict) else []
            await self._announce()
        elif (namespace, name) == ("rpc", "identify"):
            await peer.send(envelope("rpc", "response", request_id, {"hostname": self.hostname, "type": "bridge"}))
        elif (namespace, name) == ("rpc", "auth_ssl"):
            await self._log_in(peer, request_id, args)
        else:
            name = "response" if self.tokens.valid(peer.token) else "error"
            await peer.send(envelope(namespace, name, request_id, None))

    async def _log_in(self, peer: BridgePeer, id: str, args: Any) -> None:
        peer.token = ""
        if not isinstance(args, dict) or "encrypted_string" not in args:
            await peer.send(envelope("rpc", "response", id, {"test_string": self.challenges.new()}))
            return
        nick = self.challenges.answered_by(self.keys, args["encrypted_string"])
        if nick is not None:
            peer.token = self.tokens.add(self.new_token(), nick)
        if self.tokens.valid(peer.token):
            await peer.send(envelope("rpc", "response", id, [peer.token, 0]))
            peer.later.append(asyncio.create_task(self._ask_for_keys(peer)))
        else:
            await peer.send(envelope("rpc", "error", id, "unauthorized"))

    async def _ask_for_keys(self, peer: BridgePeer) -> None:
        await asyncio.sleep(0.01)
        await peer.send(BRIDGE_LIST)

    async def _announce(self) -> None:
        for peer in list(self._open):
            if not self.tokens.valid(peer.token):
                continue
            found = [one.id for one in self._open if one.role != peer.role and set(one.keys) & set(peer.keys)]
            if found != peer.announced:
                peer.announced = found
                await peer.send(envelope("events", "bridge", "", {"available_connections": found}))
