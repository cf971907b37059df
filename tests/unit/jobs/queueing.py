"""A queue on a store of its own, with clocks that the test sets: for tests of the queue and of what stands on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from sysadmd.config import load
from sysadmd.events.log import EventLog
from sysadmd.jobs.queue import Queue
from sysadmd.jobs.spec import JobSpec
from sysadmd.jobs.views import Claim, End, Worker
from sysadmd.store import Store
from sysadmd.store.tables import event

TASK = frozenset({"task"})
TRANSFER = frozenset({"transfer"})
WORKER = Worker("w@host", "host", 1000.0, 4)


class Clock:
    """Wall and monotonic time, which move only when the test says so."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_700_000_000.0, 50.0

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def jump(self, seconds: float) -> None:
        self.wall += seconds


class Bench:
    """A running queue. `look` is what its timers do, when the test wants it."""

    def __init__(self, queue: Queue, clock: Clock, store: Store, events: EventLog) -> None:
        self.queue, self.clock, self.store, self.events = queue, clock, store, events

    async def look(self, seconds: float = 0.0) -> None:
        """The clock goes on, and the timers see where it is: the process did not stand still meanwhile."""
        self.clock.advance(seconds)
        self.queue._upkeep._looked = None
        await self.queue._upkeep.look()

    async def one(self, worker: Worker = WORKER, kinds: frozenset[str] = TASK) -> Claim:
        (claim,) = await self.queue.claim(worker, 1, kinds)
        return claim

    async def run(self, outcome: str = "ok", **end: Any) -> Claim:
        claim = await self.one()
        assert await self.queue.started(claim.lease, pid=1, pid_start="1")
        assert await self.queue.finish(claim.lease, End(outcome=outcome, **end))
        return claim

    async def state(self, job_id: str) -> str:
        job = await self.queue.detail(job_id)
        assert job is not None
        return job.state

    def told(self, topic: str = "queue") -> list[dict[str, Any]]:
        """The stored records of a topic."""
        rows = self.store.read_now(lambda c: c.execute(event.select().where(event.c.topic == topic)).all())
        return [msgspec.json.decode(row.data) for row in rows]

    def names(self) -> list[str]:
        return [record["event"] for record in self.told()]


def task(**changes: Any) -> JobSpec:
    return JobSpec(**{"kind": "task", "name": "demo.Job", **changes})


@asynccontextmanager
async def bench(path: Path, settings: Mapping[str, Any] | None = None) -> AsyncIterator[Bench]:
    """A queue whose timers stand still: the test calls `look`."""
    clock = Clock()
    config = load(None, settings or {}, state_dir=path)
    store = Store.open(path / "sysadmd.db")
    events = EventLog(store, node="n", limits=config.limits)
    queue = Queue(store, events, config, clock=lambda: clock.wall, monotonic=lambda: clock.steady)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(events.run)
            yield Bench(queue, clock, store, events)
            tasks.cancel_scope.cancel()
    finally:
        store.close()
