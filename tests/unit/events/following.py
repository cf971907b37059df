"""Followers for tests: a dialect that can be read back, a scope, a sink that can stall, and a running log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from sysadmd.events import Draft, EventLog, Record, SubscriptionSpec
from sysadmd.events.subscription import Framing
from sysadmd.limits import Limits
from sysadmd.store import Store
from sysadmd.wire.messages import Meta, Request


class TestDialect:
    """One line of JSON for each record; nothing for `{"silent": true}`; fails for `{"broken": true}`."""

    __test__ = False
    name = "test"

    def __init__(self) -> None:
        self.calls = 0

    def event(self, topic: str, data: Any, meta: Meta | None = None) -> Sequence[bytes]:
        self.calls += 1
        if data.get("broken"):
            raise ValueError("this cannot be written")
        seq = {} if meta is None else {"seq": meta.seq, "epoch": meta.epoch, "node": meta.node}
        return [] if data.get("silent") else [json.dumps({"topic": topic, "data": data} | seq).encode()]

    def reply(self, request: Request, result: Any) -> bytes:
        raise NotImplementedError

    def error(self, request: Request | None, error: Exception) -> bytes:
        raise NotImplementedError


DIALECT = TestDialect()


@dataclass(frozen=True)
class TestScope:
    """Sees the topics and jobs that it names; None means all."""

    __test__ = False

    topics: frozenset[str] | None = None
    jobs: frozenset[str] | None = None

    def may_see(self, topic: str) -> bool:
        return self.topics is None or topic in self.topics

    def may_job(self, name: str, right: str) -> bool:
        assert right == "read"
        return self.jobs is None or name in self.jobs


def lines(message: bytes, _record: Record) -> bytes:
    return message + b"\n"


@dataclass
class TestSink:
    """Remembers what was written. `room` is how many writes it takes before it stalls; None is no limit."""

    __test__ = False

    room: int | None = None
    fails: bool = False
    writes: list[bytes] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    @property
    def framing(self) -> Framing:
        return lines

    def writable(self) -> bool:
        return self.room is None or self.room > 0

    def write(self, data: bytes) -> None:
        if self.fails:
            raise ConnectionResetError("reset by peer")
        assert self.room is None or self.room > 0
        self.room = None if self.room is None else self.room - 1
        self.writes.append(data)

    def overflow_close(self, reason: str) -> None:
        self.closed.append(reason)

    @property
    def seen(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in b"".join(self.writes).splitlines()]

    @property
    def numbers(self) -> list[Any]:
        """`n` of each record, and ("gap", from, to, cause) for each gap."""
        return [
            ("gap", m["data"]["from"], m["data"]["to"], m["data"]["cause"]) if m["topic"] == "gap" else m["data"]["n"]
            for m in self.seen
        ]


def spec(*topics: str, **options: Any) -> SubscriptionSpec:
    base = SubscriptionSpec(frozenset(topics or ("dispatcher",)), DIALECT, TestScope(), extended=True)
    return replace(base, **options)


def volatile(n: int, topic: str = "dispatcher", **options: Any) -> Draft:
    return Draft(topic, {"n": n}, durable=False, **options)


def durable(n: int, topic: str = "dispatcher", **options: Any) -> Draft:
    return Draft(topic, {"n": n}, durable=True, **options)


@asynccontextmanager
async def running_log(path: Path, limits: Limits | None = None) -> AsyncIterator[EventLog]:
    """A log on a database, from start to an orderly end."""
    store = Store.open(path)
    log = EventLog(store, node="here", limits=limits or Limits(), clock=lambda: 1000.0)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(log.run)
            yield log
            tasks.cancel_scope.cancel()
    finally:
        store.close()


async def settle(log: EventLog) -> None:
    """Wait until everything published so far is committed, delivered and flushed."""
    await log.submit(lambda _: (None, []))
    await anyio.lowlevel.checkpoint()


async def reach(log: EventLog, seq: int) -> None:
    """Wait until the record `seq` is delivered, without adding anything to the FIFO."""
    with anyio.fail_after(10):
        while log.head < seq:
            await anyio.sleep(0.001)
    await anyio.lowlevel.checkpoint()
