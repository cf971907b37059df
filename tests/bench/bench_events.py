"""The log into SQLite, the fan-out beside `websockets.broadcast`, and a reader that stalls.

A fan-out is measured where it is paid: processor seconds of the server, system calls included, over rounds between
which the readers (another process) catch up. Seconds of the clock say the same on a quiet machine and nothing on a busy
one. Both sides serve with `websockets`, encode each event, send the same bytes to the same readers, and take one turn
of the loop for each event (or burst). Ours also numbers it, keeps it in the ring, filters and queues it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.bench.harness import OURS, Bench, bench

MARK = "~"
"""One in each message, for the readers to count."""
TEXT = "x" * 215 + MARK
"""Makes a frame of about 400 bytes."""


def progress(text: str) -> dict[str, Any]:
    """A running update of the dispatcher."""
    log = {"state": "running", "process_id": "build", "cmd_list": ["make"], "current_cmd": "make", "make": text}
    return {"phase": "output", "process_id": "build", "event_system": None, "extra": {}, "details": log, "update": log}


class Readers:
    """The process of the readers, and how many messages they must have had by now."""

    def __init__(self, process: asyncio.subprocess.Process, number: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.number, self._in, self._out = number, process.stdin, process.stdout
        self._messages = 0

    async def line(self) -> bytes:
        return await asyncio.wait_for(self._out.readline(), 60)

    async def catch_up(self, messages: int) -> None:
        """Wait until each reader has had `messages` more."""
        self._messages += messages * self.number
        self._in.write(b"%d\n" % self._messages)
        await self.line()

    async def p99(self) -> float:
        """Milliseconds, over all messages of the run."""
        self._in.close()
        return float(await self.line())


@asynccontextmanager
async def readers(port: int, number: int, stalled: int = 0) -> AsyncIterator[Readers]:
    argv = [sys.executable, "-m", "tests.bench.fanout_reader", str(port), str(number), str(stalled)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
    try:
        group = Readers(process, number)
        assert await group.line() == b"ready\n"
        yield group
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def following_server(directory: Path) -> AsyncIterator[tuple[int, Any]]:
    """A log whose every connection is a follower with meta, filter and queue: port and log."""
    import anyio
    from websockets.asyncio.server import ServerConnection, serve

    from sysadmd.auth.scope import Scope
    from sysadmd.events import EventLog, Filter, SubscriptionSpec
    from sysadmd.limits import Limits
    from sysadmd.listen.websocket import text_frame
    from sysadmd.store import Store
    from sysadmd.wire.sysadm import SYSADM

    scope = Scope("viewer", ("viewer",), frozenset({"event:*", "job:*:read"}))

    class Connection(ServerConnection):
        subscription: Any = None

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.subscription is not None:
                self.subscription.resume()

    class Outlet:
        framing = staticmethod(text_frame)

        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def writable(self) -> bool:
            return not self._connection.paused

        def write(self, data: bytes) -> None:
            self._connection.transport.write(data)

        def overflow_close(self, reason: str) -> None:
            raise AssertionError(reason)

    store = Store.open(directory / "bench.db")
    log = EventLog(store, node="bench", limits=Limits())

    async def follow(connection: Any) -> None:
        spec = SubscriptionSpec(
            frozenset({"dispatcher"}), SYSADM, scope, extended=True, filter=Filter.parse({"process_id": "build"})
        )
        connection.subscription = log.subscribe(spec, Outlet(connection))
        await connection.wait_closed()

    options: dict[str, Any] = {"compression": None, "ping_interval": None, "write_limit": Limits().write_buffer}
    async with anyio.create_task_group() as tasks:
        await tasks.start(log.run)
        async with serve(follow, "127.0.0.1", 0, create_connection=Connection, close_timeout=0.1, **options) as server:
            yield next(iter(server.sockets)).getsockname()[1], log
        tasks.cancel_scope.cancel()
    store.close()


async def fan_out(side: str, number: int, burst: int) -> float:
    """Messages to `number` readers for each second of the processor, `burst` events in each turn of the loop."""
    if side == OURS:
        from sysadmd.events import Draft

        with tempfile.TemporaryDirectory() as directory:
            async with following_server(Path(directory)) as (port, log), readers(port, number) as group:
                return await rate(group, burst, lambda: log.publish(Draft("dispatcher", progress(TEXT), durable=False)))
    from websockets.asyncio.server import broadcast, serve

    from sysadmd.wire.messages import Meta
    from sysadmd.wire.sysadm import SYSADM

    connections: set[Any] = set()

    async def follow(connection: Any) -> None:
        connections.add(connection)
        await connection.wait_closed()

    def publish() -> None:
        meta = Meta("0" * 16, 123, time.time(), "bench")
        broadcast(connections, SYSADM.event("dispatcher", progress(TEXT), meta)[0].decode())

    async with (
        serve(follow, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.1) as server,
        readers(next(iter(server.sockets)).getsockname()[1], number) as group,
    ):
        return await rate(group, burst, publish)


async def rate(group: Readers, burst: int, publish: Callable[[], None]) -> float:
    turns = max(4, 40 // burst) if group.number <= 100 else 4
    spent, messages = 0.0, 0
    deadline = time.perf_counter() + 6
    for round_number in range(10_000):
        start = time.process_time()
        for _ in range(turns):
            for _ in range(burst):
                publish()
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        took = time.process_time() - start
        await group.catch_up(turns * burst)
        if round_number >= 3:  # warm: sockets, caches and the readers' code
            spent += took
            messages += turns * burst * group.number
        if time.perf_counter() > deadline and round_number >= 8:
            break
    return messages / spent


def _fan_out_row(number: int, burst: int, floor: float) -> Bench:
    what = "single events" if burst == 1 else f"bursts of {burst}"

    async def measure(side: str) -> float:
        return await fan_out(side, number, burst)

    name = f"events.fanout_{'single' if burst == 1 else 'burst'}_{number}"
    return bench(name, title=f"{what} to {number} subscribers", unit="messages/s", floor=floor)(measure)


FAN_OUT = [_fan_out_row(n, burst, floor) for burst, floor in ((1, 1.0), (10, 3.0)) for n in (10, 100, 1000)]


@bench(
    "events.durable",
    title="durable events into SQLite, synchronous=FULL",
    unit="events/s",
    at_least=20_000,
    baseline=True,
)
async def durable(side: str) -> float:
    """Ours publishes from the loop; the other side inserts ready rows, 512 in each transaction."""
    data = progress(TEXT)
    number = 100_000
    with tempfile.TemporaryDirectory(dir=".") as directory:
        if side == OURS:
            async with following_server(Path(directory)) as (_, log):
                return await _publish_durable(log, data, number)
        return _insert_rows(Path(directory) / "bench.db", data, number)


async def _publish_durable(log: Any, data: Any, number: int) -> float:
    from sysadmd.events import Draft

    start, head = time.perf_counter(), log.head
    for n in range(0, number, 250):
        for _ in range(250):
            log.publish(Draft("dispatcher", data, durable=True))
        # A publisher that stays less than 4,000 records ahead of the disk.
        while log.head - head < n - 4000:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
    await log.submit(lambda _: (None, []))
    return number / (time.perf_counter() - start)


def _insert_rows(path: Path, data: Any, number: int) -> float:
    import msgspec

    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE event (seq INTEGER PRIMARY KEY, time FLOAT, topic TEXT, permission TEXT, data TEXT)"
    )
    connection.execute("CREATE INDEX topic ON event (topic, seq)")
    start = time.perf_counter()
    for first in range(0, number, 512):
        rows = [
            (n, time.time(), "dispatcher", None, msgspec.json.encode(data).decode())
            for n in range(first, min(first + 512, number))
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    spent = time.perf_counter() - start
    connection.close()
    return number / spent


async def with_stalled_reader(stalled: int) -> tuple[float, float]:
    """50,000 events of 4 KiB to four readers and `stalled` that never read: MiB that the server grew, and p99 in ms."""
    from sysadmd.events import Draft

    with tempfile.TemporaryDirectory() as directory:
        async with following_server(Path(directory)) as (port, log), readers(port, 4, stalled) as group:

            async def publish(number: int) -> None:
                for _ in range(0, number, 5):
                    for _ in range(5):
                        text = f"@{time.monotonic():.6f}@" + "x" * 3700 + MARK
                        log.publish(Draft("dispatcher", progress(text), durable=False))
                    await asyncio.sleep(0.001)
                await group.catch_up(number)

            # The ring (16 MiB) and the kernel's buffers fill first; they have bounds of their own.
            await publish(6_000)
            before = resident()
            await publish(50_000)
            return resident() - before, await group.p99()


def resident() -> float:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@bench(
    "events.stalled_memory", title="memory that one stalled reader costs", unit="MiB", ceiling=8, higher_is_better=False
)
async def stalled_memory(side: str) -> float:
    return (await with_stalled_reader(1))[0]


@bench("events.stalled_p99", title="p99 beside a stalled reader", unit="ms", floor=1 / 1.5, higher_is_better=False)
async def stalled_p99(side: str) -> float:
    return (await with_stalled_reader(1 if side == OURS else 0))[1]
