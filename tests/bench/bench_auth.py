"""What the locks cost: deciding about a call, the audit trail, and log-ins beside other work."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.bench_rpc import LOGIN, QUERY
from tests.bench.harness import OURS, bench
from tests.bench.load import close, open_connections

DECISIONS = 200_000
RECORDS = 20_000
BURST = 200
"""Records of one turn of the loop: 64 connections with a few calls each."""
LOGINS = 64
PATIENT = "[limits]\nping_interval = 600\nping_timeout = 600\n"
"""The load client answers no pings."""
PATIENCE = 150.0
"""Seconds for the last of them, eight with a processor to spare."""
QUIET = 300
"""Calls of the median beside no log-in."""


def _throttle(events: Any, store: Any) -> Any:
    """Tables that are full, so that a look-up is no easier than it gets."""
    from sysadmd.auth.throttle import Throttle
    from sysadmd.auth.throttle_table import Count

    throttle = Throttle(store, events)
    for number in range(throttle.limits.login_table):
        prefix = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32"
        throttle._keep(("admin", prefix), Count(1, time.time()))
        throttle._keep(("", prefix), Count(1, time.time()))
    return throttle


@bench("auth.decision", title="permission of a call and throttle of its address, together", unit="µs", ceiling=5)
def decision(side: str) -> float:
    """Processor time. The throttle is asked only at log-ins; here both are asked for each call."""
    from sysadmd.auth.prefix import is_loopback, prefix_of
    from sysadmd.auth.scope import Scope
    from sysadmd.events.log import EventLog
    from sysadmd.limits import Limits
    from sysadmd.store import Store

    scope = Scope("oper", ("operator",), ("call:@read", "call:@run", "event:*", "job:*:read", "job:pkg.*:run"))
    methods = [(f"rpc/method{number}/list", "read") for number in range(50)]
    addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(1000)]
    with tempfile.TemporaryDirectory() as directory:
        store = Store.open(Path(directory) / "bench.db")
        throttle = _throttle(EventLog(store, node="bench", limits=Limits()), store)
        began = time.thread_time()
        for number in range(DECISIONS):
            address = addresses[number % 1000]
            key, access = methods[number % 50]
            if is_loopback(address) or throttle.blocked("admin", prefix_of(address)) or not scope.may_call(key, access):
                raise AssertionError
        spent = time.thread_time() - began
        store.close()
    return spent / DECISIONS * 1e6


@bench("auth.audit", title="loop time of one audit record, written and flushed", unit="µs", ceiling=10)
async def audit(side: str) -> float:
    """Processor time of the loop's thread from the record until it is durable; the writer has a thread of its own."""
    import anyio

    from sysadmd.auth.audit import Audit
    from sysadmd.auth.identity import Peer
    from sysadmd.events.log import EventLog
    from sysadmd.limits import Limits
    from sysadmd.store import Store

    peer, args = Peer("192.0.2.7", "tcp"), {"process_id": "build", "cmd_list": ["make", "-j2"], "wait": False}
    with tempfile.TemporaryDirectory() as directory:
        store = Store.open(Path(directory) / "bench.db")
        events = EventLog(store, node="bench", limits=Limits())
        trail = Audit(store, events, node="bench", key_dir=Path(directory))
        async with anyio.create_task_group() as tasks:
            await tasks.start(events.run)
            began = time.thread_time()
            for start in range(0, RECORDS, BURST):
                for number in range(start, start + BURST):
                    last = trail.record(
                        "call",
                        account="oper",
                        peer=peer,
                        session="c0ffee",
                        method="rpc/dispatcher/run",
                        n=number,
                        args=args,
                    )
                await asyncio.shield(last)
            spent = time.thread_time() - began
            tasks.cancel_scope.cancel()
        rows = store.read_now(lambda connection: connection.exec_driver_sql("select count(*) from audit").scalar())
        assert rows == RECORDS
        store.close()
    return spent / RECORDS * 1e6


@bench(
    "auth.logins_64",
    title="median call beside 64 log-ins at once; beside it without them",
    unit="ms",
    floor=0.5,
    higher_is_better=False,
)
async def logins_64(side: str) -> float:
    from tests.integration.servers import running_server

    with tempfile.TemporaryDirectory() as directory:
        async with running_server(Path(directory), config=PATIENT) as server:
            connections = await open_connections(server.ports["listen"], 1 + LOGINS)
            caller, *others = connections
            assert b"response" in await caller.ask(json.dumps(LOGIN).encode())
            await _latencies(caller, QUIET)
            if side != OURS:
                taken = await _latencies(caller, QUIET)
            else:
                logins = asyncio.gather(*(one.ask(json.dumps(LOGIN).encode(), PATIENCE) for one in others))
                taken = []
                while not logins.done():
                    taken += await _latencies(caller, 5)
                assert all(b'"response"' in answer for answer in await logins)
            close(connections)
            return statistics.median(taken) * 1000


async def _latencies(connection: Any, number: int) -> list[float]:
    """Seconds of calls, one each few milliseconds, as people and their programs make them."""
    taken = []
    for _ in range(number):
        began = time.perf_counter()
        await connection.ask(QUERY)
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)
    return taken
