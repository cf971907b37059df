"""The bridge: messages relayed over TLS beside a bare relay of two coroutines; what sealing, idling and stalling cost.

Bridge and bare relay are processes of their own on the same event loop, and the same load client feeds both: it sends
as fast as its transport takes it, and counts what comes out at the other end. Messages of the bridge carry the address
of the other end besides.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sysadmd.bridge.keyring import Keyring
from sysadmd.keys.bridge import bridge_key
from sysadmd.keys.seal import Seal
from sysadmd.keys.signing import AT_BRIDGE, PrivateKey
from sysadmd.wire.relay import IDENTIFY_ID, KEYS_ID, is_sealed, relayed, split
from tests.bench.bench_memory import resident
from tests.bench.harness import OURS, bench
from tests.bench.load import LoadConnection, close, request_frame
from tests.integration.servers import RunningServer, running_server

SECONDS = 3.0
WARM_UP = 0.7
IDLE_PEERS = 2_000
CHECKSUM = "3zeuuptCTaTHEPwMPRZocw=="


class Sender(LoadConnection):
    """A connection that waits while its transport is full."""

    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Event()
        self.room.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    async def flood(self, frame: bytes, batch: int) -> None:
        """Send for ever."""
        chunk = frame * batch
        while True:
            await self.room.wait()
            self.transport.write(chunk)
            await asyncio.sleep(0)


def trusting() -> ssl.SSLContext:
    """A client's context that trusts whoever listens on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def connected(port: int) -> Sender:
    """One connection over TLS, upgraded."""
    _, sender = await asyncio.get_running_loop().create_connection(Sender, "127.0.0.1", port, ssl=trusting())
    await sender.open
    return sender


@asynccontextmanager
async def bare_relay(directory: Path) -> AsyncIterator[int]:
    """The port of a bare relay."""
    from sysadmd.keys.certificate import ensure_certificate

    pair = ensure_certificate(directory)
    argv = [sys.executable, "-m", "tests.bench.bare_relay", str(pair.cert), str(pair.key)]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(await asyncio.wait_for(process.stdout.readline(), 30))
    finally:
        process.kill()
        await process.wait()


class Peers:
    """A bridge process, with a key for servers and one for clients."""

    def __init__(self, port: int, pid: int, keys: dict[str, PrivateKey]) -> None:
        self.port, self.pid, self.keys = port, pid, keys

    async def log_in(self, role: str, checksum: str = CHECKSUM) -> Sender:
        """A peer that has logged in and told its checksum; who it can reach is not awaited."""
        key = self.keys[role]
        peer = await connected(self.port)
        _tell(peer, IDENTIFY_ID, {"hostname": role, "type": role})
        asked = await _answer(peer, {"namespace": "rpc", "name": "auth_ssl", "id": "a", "args": {}})
        algorithm, signature = key.sign(asked["test_string"], AT_BRIDGE)
        proof = {
            "key": key.public.fingerprint,
            "algorithm": algorithm,
            "signature": base64.b64encode(signature).decode(),
        }
        await _answer(peer, {"namespace": "rpc", "name": "auth_ssl", "id": "b", "args": proof})
        _tell(peer, KEYS_ID, {"md5_keys": [checksum]})
        return peer

    async def pair(self, checksum: str = CHECKSUM) -> tuple[Sender, Sender, str]:
        """A server and a client that reach nobody but each other, and the id of the client."""
        server = await self.log_in("server", checksum)
        told = _announced(server)
        client = await self.log_in("client", checksum)
        async with asyncio.timeout(30):
            return server, client, (await told)[0]


@asynccontextmanager
async def bridge(directory: Path) -> AsyncIterator[Peers]:
    """A running bridge."""
    state = directory / "bridge"
    keyring = Keyring(state / "keys")
    keys = {role: PrivateKey.generate("ed25519") for role in ("server", "client")}
    for role, key in keys.items():
        keyring.add(role, key.public)
    config = directory / "bridge.toml"
    config.write_text("[limits]\nbridge_connections = 10000\n")
    argv = [sys.executable, "-m", "sysadmd", "bridge", "serve", "--config", str(config)]
    argv += ["--state-dir", str(state), "--listen", "127.0.0.1:0"]
    log = directory / "bridge.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(*argv, stderr=stderr)
    try:
        yield Peers(await _port(log), process.pid, keys)
    finally:
        process.kill()
        await process.wait()


async def _port(log: Path) -> int:
    """The port in the line that says that the bridge is ready."""
    async with asyncio.timeout(30):
        while True:
            for line in log.read_text().splitlines():
                if line.startswith("{") and (said := json.loads(line)).get("event") == "ready":
                    return int(said["listen"][0][1])
            await asyncio.sleep(0.02)


def _announced(peer: Sender, number: int = 1) -> asyncio.Future[list[str]]:
    """The ids that this peer can reach, once there are so many."""
    told: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    def take(message: bytes) -> None:
        found = json.loads(message) if message.startswith(b"{") else {}
        if found.get("name") == "bridge" and len(found["args"]["available_connections"]) == number and not told.done():
            told.set_result(found["args"]["available_connections"])
            peer.on_message = None

    peer.on_message = take
    return told


def _tell(peer: Sender, request_id: str, args: dict[str, object]) -> None:
    """Answer a question of the bridge."""
    peer.send(json.dumps({"namespace": "rpc", "name": "response", "id": request_id, "args": args}).encode())


async def _answer(peer: Sender, request: dict[str, object]) -> Any:
    """The args of the reply to one request; what else comes is passed over."""
    reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def take(message: bytes) -> None:
        found = json.loads(message)
        if found.get("id") == request["id"] and not reply.done():
            reply.set_result(found)

    peer.on_message = take
    peer.send(json.dumps(request).encode())
    async with asyncio.timeout(30):
        answer = await reply
    peer.on_message = None
    assert answer["name"] == "response", answer
    return answer["args"]


async def throughput(side: str, size: int, batch: int) -> float:
    """Messages of `size` bytes a second that come out at the other end."""
    payload = b"x" * size
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with contextlib.AsyncExitStack() as stack:
            if side == OURS:
                peers = await stack.enter_async_context(bridge(directory))
                source, sink, peer = await peers.pair()
                message = peer.encode() + b"\n" + payload
            else:
                port = await stack.enter_async_context(bare_relay(directory))
                source, sink, message = await connected(port), await connected(port), payload
            flood = asyncio.create_task(source.flood(request_frame(message), batch))
            await asyncio.sleep(WARM_UP)
            before, started = sink.count, time.perf_counter()
            await asyncio.sleep(SECONDS)
            rate = (sink.count - before) / (time.perf_counter() - started)
            flood.cancel()
            close([source, sink])
            return rate


@bench(
    "bridge.relay_200",
    title="messages of 200 bytes, one way, TLS; beside it two coroutines of `websockets`",
    unit="messages/s",
    floor=1.0,
)
async def relay_200(side: str) -> float:
    return await throughput(side, 200, 64)


@bench(
    "bridge.relay_64k",
    title="messages of 64 KiB, one way, TLS; beside it the same",
    unit="MB/s",
    at_least=130,
    baseline=True,
)
async def relay_64k(side: str) -> float:
    return await throughput(side, 65_536, 1) * 65_536 / 1e6


@bench(
    "bridge.memory_idle",
    title="the bridge with 2,000 idle peers, TLS",
    unit="MB",
    ceiling=200,
    higher_is_better=False,
)
async def memory_idle(side: str) -> float:
    with tempfile.TemporaryDirectory() as name:
        async with bridge(Path(name)) as peers:
            idle: list[LoadConnection] = []
            for first in range(0, IDLE_PEERS, 10):
                idle += await asyncio.gather(*(peers.log_in("client", str(first)) for _ in range(10)))
            await asyncio.sleep(2)
            used = resident(peers.pid) / 1e6
            close(idle)
            return used


@bench(
    "bridge.stalled_p99",
    title="p99 of a relayed round trip beside a peer that does not read; beside it without",
    unit="ms",
    floor=1 / 1.5,
    higher_is_better=False,
)
async def stalled_p99(side: str) -> float:
    """A server talks with one client all the time. On our side it also sends to another one, which reads nothing."""
    with tempfile.TemporaryDirectory() as name:
        async with bridge(Path(name)) as peers:
            server, stalled, stuck = await peers.pair()
            both = _announced(server, 2)
            client = await peers.log_in("client")
            async with asyncio.timeout(30):
                peer = next(one for one in await both if one != stuck)
            trickle = None
            if side == OURS:
                assert isinstance(stalled.transport, asyncio.Transport)
                stalled.transport.pause_reading()
                trickle = asyncio.create_task(_trickle(server, stuck))
            laps = await _laps(server, client, peer)
            if trickle is not None:
                trickle.cancel()
            close([server, client, stalled])
            return statistics.quantiles(laps, n=100)[98] * 1000


async def _trickle(server: Sender, peer: str) -> None:
    """4 KiB every 2 ms: 2 MB a second, for somebody who does not read."""
    frame = request_frame(peer.encode() + b"\n" + b"x" * 4096)
    while True:
        await server.room.wait()
        server.transport.write(frame)
        await asyncio.sleep(0.002)


async def _laps(server: Sender, client: Sender, peer: str, number: int = 3000) -> list[float]:
    """Seconds of round trips from the server to the client and back, one after the other."""
    loop = asyncio.get_running_loop()
    back = loop.create_future()
    client.on_message = client.send
    server.on_message = lambda message: None if back.done() else back.set_result(None)
    laps = []
    for lap in range(number + 200):
        started = time.perf_counter()
        server.send(peer.encode() + b"\nping")
        async with asyncio.timeout(30):
            await back
        back = loop.create_future()
        if lap >= 200:
            laps.append(time.perf_counter() - started)
    client.on_message = server.on_message = None
    return laps


@bench(
    "bridge.sealed_rtt",
    title="median call through the bridge, sealed; beside it one that the bridge can read",
    unit="ms",
    floor=1 / 1.25,
    higher_is_better=False,
)
async def sealed_rtt(side: str) -> float:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with bridge(directory) as peers:
            config = f'[bridges.bench]\nurl = "wss://127.0.0.1:{peers.port}"\ninsecure = true\n'
            server_key = bridge_key(_made(directory / "state")).public
            Keyring(directory / "bridge" / "keys").add("vault", server_key)
            async with running_server(directory, config=config) as server:
                await _register(server, peers.keys["client"])
                client, vault = await _reaching(peers, peers.keys["client"].public.checksum)
                laps = await (_sealed_laps if side == OURS else _plain_laps)(client, vault)
                close([client])
                return statistics.median(laps) * 1000


IDENTIFY = b'{"namespace":"rpc","name":"identify","id":"x","args":""}'


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


async def _register(server: RunningServer, key: PrivateKey) -> None:
    async with server.connect() as admin:
        await admin.call("rpc", "settings", {"action": "register_ssl_cert", "pub_key": key.public.registered})


async def _reaching(peers: Peers, checksum: str) -> tuple[Sender, str]:
    """A client that is paired with the server, and the server's id."""
    client = await peers.log_in("client", checksum)
    async with asyncio.timeout(60):
        return client, (await _announced(client))[0]


async def _plain_laps(client: Sender, vault: str) -> list[float]:
    frame = request_frame(relayed(vault, IDENTIFY))
    return await _timed(client, lambda: client.transport.write(frame), lambda message: b'"response"' in message)


async def _sealed_laps(client: Sender, vault: str) -> list[float]:
    seal = Seal.client(lambda fingerprint: True)

    def flush() -> None:
        for payload in seal.outgoing():
            client.send(relayed(vault, payload))

    def ask() -> None:
        seal.send(IDENTIFY)
        flush()

    def answered(message: bytes) -> bool:
        found = split(message)
        assert found is not None, message
        if not is_sealed(found[1]):
            return False
        replies = seal.receive(found[1])
        seal.release()
        flush()
        return bool(replies)

    offer = b'{"namespace":"rpc","name":"identify","id":"seal","args":{"seal":1}}'
    client.send(relayed(vault, offer))
    return await _timed(client, ask, answered)


async def _timed(
    client: Sender, ask: Callable[[], None], answered: Callable[[bytes], bool], number: int = 3000
) -> list[float]:
    """Seconds from each question to its answer, one after the other."""
    loop = asyncio.get_running_loop()
    back = loop.create_future()

    def take(message: bytes) -> None:
        if answered(message) and not back.done():
            back.set_result(None)

    client.on_message = take
    laps = []
    for lap in range(number + 200):
        started = time.perf_counter()
        ask()
        async with asyncio.timeout(30):
            await back
        back = loop.create_future()
        if lap >= 200:
            laps.append(time.perf_counter() - started)
    client.on_message = None
    return laps
