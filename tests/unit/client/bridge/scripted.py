"""A bridge in memory, with servers behind it: ours, whose sessions are sealed, and an original one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from sysadmd.client.bridge import Bridge, BridgeKeys, BridgeTransport, ServerTrust
from sysadmd.client.errors import ConnectFailed, ConnectionLost
from sysadmd.errors import NotFound, RpcError
from sysadmd.keys.certificate import CertificateFiles
from sysadmd.keys.seal import Seal, SealingContext
from sysadmd.keys.signing import AT_BRIDGE, PrivateKey, PublicKey, recover, verify
from sysadmd.wire import decode
from sysadmd.wire.classic import CLASSIC
from sysadmd.wire.relay import ASK_IDENTITY, ASK_KEYS, IDENTIFY_ID, KEYS_ID, connection_id, relayed, split
from sysadmd.wire.sysadm import SYSADM

LONG, SHORT = "Zq7b" * 50, "bVHNHA0u4F8MEr4NbnwlU0QHu4P9KV5MJlzTm43m"
Handler = Callable[[Any], Any]


class Line:
    """A client's connection to the bridge: the transport below a `BridgeTransport`."""

    in_clear = False
    binding = ""

    def __init__(self, bridge: ScriptedBridge) -> None:
        self.bridge, self.id = bridge, connection_id()
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.identity: dict[str, Any] = {}
        self.checksums: list[str] = []
        self.logged_in = self.closed = False
        self.sent: list[bytes] = []

    async def open(self, timeout: float) -> None:
        if self.bridge.away:
            raise ConnectFailed("no bridge there")
        self.bridge.lines.append(self)
        self.push(ASK_IDENTITY)

    async def send(self, message: bytes) -> None:
        if self.closed:
            raise ConnectionLost("the bridge closed the connection")
        self.sent.append(message)
        self.bridge.hears(self, message)

    async def receive(self) -> bytes:
        message = None if self.closed and self.inbox.empty() else await self.inbox.get()
        if message is None:
            raise ConnectionLost("the bridge closed the connection")
        return message

    async def aclose(self) -> None:
        self.drop()

    def push(self, frame: bytes | dict[str, Any]) -> None:
        self.inbox.put_nowait(frame if isinstance(frame, bytes) else json.dumps(frame).encode())

    def drop(self) -> None:
        self.closed = True
        self.inbox.put_nowait(None)


class ScriptedBridge:
    """What the bridge says, original or ours. Every server behind it knows the client."""

    def __init__(self, known: PublicKey, *, original: bool = False) -> None:
        self.known, self.original = known, original
        self.servers: dict[str, ScriptedServer] = {}
        self.lines: list[Line] = []
        self.away = False
        self.type: str = "bridge"

    @property
    def line(self) -> Line:
        """The last connection."""
        return self.lines[-1]

    def join(self, server: ScriptedServer) -> ScriptedServer:
        server.bridge = self
        self.servers[server.id] = server
        self.announce()
        return server

    def leave(self, server: ScriptedServer, *, silently: bool = False) -> None:
        del self.servers[server.id]
        if not silently:
            self.announce()

    def announce(self) -> None:
        for line in self.lines:
            if line.checksums and (self.servers or not self.original):
                args: dict[str, Any] = {"available_connections": list(self.servers)}
                if line.identity.get("details") and not self.original:
                    args["connections"] = {server.id: server.details for server in self.servers.values()}
                line.push({"args": args, "id": "", "name": "bridge", "namespace": "events"})

    def hears(self, line: Line, frame: bytes) -> None:
        if not frame.startswith(b"{"):
            self.relays(line, frame)
            return
        message = json.loads(frame)
        name, args = message["name"], message["args"]
        if name == "response" and message["id"] == IDENTIFY_ID:
            line.identity = args
        elif name == "response" and message["id"] == KEYS_ID:
            line.checksums = args["md5_keys"]
            if self.servers or not self.original:
                self.announce()
        elif name == "identify":
            self.replies(line, message, {"hostname": "relay", "type": self.type})
        elif name == "auth_ssl":
            self.logs_in(line, message)

    def logs_in(self, line: Line, message: dict[str, Any]) -> None:
        args = message["args"]
        if not args:
            self.replies(line, message, {"test_string": SHORT if self.original else LONG})
        elif self.is_proof(args):
            self.welcomes(line, message)
        else:
            refusal = "unauthorized" if self.original else {"code": 401, "message": "Unauthorized"}
            line.push({"args": refusal, "id": message["id"], "name": "error", "namespace": "rpc"})

    def is_proof(self, args: dict[str, str]) -> bool:
        if self.original:
            return recover(self.known.pem, base64.b64decode(args["encrypted_string"])) == SHORT.encode()
        signature = base64.b64decode(args["signature"])
        return args["key"] == self.known.fingerprint and verify(
            self.known.pem, args["algorithm"], LONG, signature, AT_BRIDGE
        )

    def welcomes(self, line: Line, message: dict[str, Any]) -> None:
        line.logged_in = True
        self.replies(line, message, ["moE0WFrDhBjTy3SsumMf" * 2, 900])
        line.push(ASK_KEYS)

    def replies(self, line: Line, message: dict[str, Any], args: Any) -> None:
        line.push({"args": args, "id": message["id"], "name": "response", "namespace": "rpc"})

    def relays(self, line: Line, frame: bytes) -> None:
        header, payload = split(frame) or (b"", b"")
        server = self.servers.get(header.decode())
        if server is not None:
            server.hears(line, payload)
        elif not self.original:
            args = {"code": 404, "message": "gone", "connection": header.decode()}
            line.push({"namespace": "rpc", "name": "error", "id": "", "args": args})


class ScriptedServer:
    """A server of ours: its sessions are sealed, and methods are answered by `handlers`."""

    def __init__(
        self,
        hostname: str,
        context: SealingContext | None = None,
        handlers: Mapping[str, Handler] | None = None,
        *,
        nick: str = "",
    ) -> None:
        self.hostname, self.nick, self.context, self.id = hostname, nick or hostname, context, connection_id()
        self.handlers = dict(handlers or {})
        self.bridge: ScriptedBridge | None = None
        self.seals: dict[str, Seal] = {}
        self.received: list[bytes] = []
        self.requests: list[Any] = []
        self.farewells: list[bytes] = []
        self.mute = False
        self.offers: str | None = context.fingerprint if context else None

    @property
    def details(self) -> dict[str, str]:
        return {"hostname": self.hostname, "nick": self.nick, "key": self.offers or ""}

    def hears(self, line: Line, payload: bytes) -> None:
        if self.mute:
            return
        self.received.append(payload)
        if payload.startswith(b"{"):
            self.in_plain(line, json.loads(payload))
            return
        if payload.startswith(b"!"):
            self.seals.pop(line.id, None)
            self.farewells.append(payload)
            return
        if line.id not in self.seals:
            assert self.context is not None
            self.seals[line.id] = Seal.server(self.context, max_message=1024 * 1024)
        seal = self.seals[line.id]
        for message in seal.receive(payload):
            self.answers(line, message)
        seal.release()
        self.flush(line)

    def in_plain(self, line: Line, message: dict[str, Any]) -> None:
        if message["name"] == "identify":
            args: dict[str, Any] = {"hostname": self.hostname, "type": "server"}
            if self.offers and message["args"]["seal"]:
                args["seal"] = {"version": 1, "key": self.offers}
            self.tells(line, json.dumps({**message, "name": "response", "args": args}).encode())

    def answers(self, line: Line, message: bytes) -> None:
        for request in decode(message, classic=False).entries:
            if isinstance(request, RpcError):
                raise request
            self.requests.append(request)
            method = "/".join(filter(None, (request.namespace, request.name, request.action)))
            try:
                if method not in self.handlers:
                    raise NotFound(f"there is no {method}")
                self.says(line, SYSADM.reply(request, self.handlers[method](request.args)))
            except RpcError as error:
                self.says(line, SYSADM.error(request, error))

    def says(self, line: Line, message: bytes) -> None:
        """Send a message inside the sealed session."""
        self.seals[line.id].send(message)
        self.flush(line)

    def flush(self, line: Line) -> None:
        for payload in self.seals[line.id].outgoing():
            self.tells(line, payload)

    def tells(self, line: Line, payload: bytes) -> None:
        line.push(relayed(self.id, payload))


class OriginalServer(ScriptedServer):
    """An original server: it cannot seal, and speaks base64 once a log-in began."""

    def __init__(
        self, hostname: str, known: PublicKey | None = None, handlers: Mapping[str, Handler] | None = None
    ) -> None:
        super().__init__(hostname, None, handlers)
        self.known = known
        self.wrapped: set[str] = set()
        self.logged_in: set[str] = set()

    def hears(self, line: Line, payload: bytes) -> None:
        if self.mute:
            return
        self.received.append(payload)
        if line.id in self.wrapped and not payload.startswith(b"{"):
            payload = base64.b64decode(payload, validate=True)
        message = json.loads(payload)
        self.requests.append(message)
        name, args, request_id = message["name"], message["args"], message["id"]
        if name == "identify":
            self.replies(line, request_id, {"hostname": self.hostname, "type": "server"})
        elif name == "auth_ssl" and "md5_key" in args:
            self.begins_login(line, request_id, args["md5_key"])
        elif name == "auth_ssl":
            signature = base64.b64decode(args["encrypted_string"])
            if self.known is not None and recover(self.known.pem, signature) == SHORT[:20].encode():
                self.logged_in.add(line.id)
                self.replies(line, request_id, ["6fyTCUHeu0qfqxL5Vh96", 0])
            else:
                self.refuses(line, request_id, "401", "Unauthorized")
        elif line.id not in self.logged_in:
            self.refuses(line, request_id, "401", "Unauthorized")
        else:
            method = f"{message['namespace']}/{name}"
            if method in self.handlers:
                self.replies(line, request_id, self.handlers[method](args), namespace=message["namespace"])
            else:
                self.refuses(line, request_id, "404", "Not Found")

    def begins_login(self, line: Line, request_id: str, checksum: str) -> None:
        if self.known is None or checksum != self.known.checksum:
            # The original sends both without base64 to a key that it does not know.
            self.replies(line, request_id, {"new_ssl_key": "-----BEGIN PUBLIC KEY-----", "test_string": SHORT[:20]})
            return
        encoded = {
            "new_ssl_key": base64.b64encode(b"-----BEGIN PUBLIC KEY-----\n...").decode(),
            "test_string": base64.b64encode(SHORT[:20].encode()).decode(),
        }
        self.replies(line, request_id, encoded)
        self.wrapped.add(line.id)

    def replies(self, line: Line, request_id: str, args: Any, namespace: str = "rpc") -> None:
        self.sends(line, {"args": args, "id": request_id, "name": "response", "namespace": namespace})

    def refuses(self, line: Line, request_id: str, code: str, text: str) -> None:
        args = {"code": code, "message": text}
        self.sends(line, {"args": args, "id": request_id, "name": "error", "namespace": "error"})

    def sends(self, line: Line, message: dict[str, Any]) -> None:
        text = json.dumps(message, separators=(",", ":")).encode()
        self.tells(line, base64.b64encode(text) if line.id in self.wrapped else text)

    def emits(self, line: Line, topic: str, data: Any) -> None:
        for frame in CLASSIC.event(topic, data):
            self.tells(line, base64.b64encode(frame))


def transport_to(
    bridge: ScriptedBridge,
    wanted: str,
    keys: BridgeKeys,
    *,
    pins: frozenset[str] | None = frozenset(),
    patience: float = 5.0,
) -> BridgeTransport:
    """A client's transport, not open yet. `pins` are the keys that it accepts; None any."""
    where = f"bridge://relay/{wanted}"
    line = Bridge(Line(bridge), keys, "bridge://relay")
    return BridgeTransport(line, wanted, lambda: ServerTrust(pins), where, patience=patience)


def same(key: PrivateKey) -> BridgeKeys:
    """One key for both sides."""
    return BridgeKeys(key, key)


@contextlib.asynccontextmanager
async def on_loopback(bridge: ScriptedBridge, certificates: CertificateFiles) -> AsyncIterator[str]:
    """The bridge on a port of its own, with TLS; gives its address."""

    async def converse(connection: ServerConnection) -> None:
        line = Line(bridge)
        await line.open(0)
        pump = asyncio.create_task(_pump(line, connection))
        async for message in connection:
            await line.send(message.encode() if isinstance(message, str) else message)
        pump.cancel()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    async with serve(converse, "127.0.0.1", 0, ssl=context, max_size=None) as server:
        yield f"bridge://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _pump(line: Line, connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionLost):
        while True:
            await connection.send(await line.receive(), text=True)
    await connection.close()
