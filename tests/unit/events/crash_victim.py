"""A process that publishes until it is killed, and says on stdout what was acknowledged and what was seen.

Lines: `epoch <epoch>`, `ack <seq>` for durable records whose future was resolved, `seen <seq>` for volatile ones.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import anyio
from sqlalchemy import func, select

from sysadmd.events import EventLog
from sysadmd.events.writer import WriteFunction
from sysadmd.limits import Limits
from sysadmd.store import Store, tables
from tests.unit.events.following import TestSink, durable, spec, volatile


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def change(n: int) -> WriteFunction:
    return lambda _: (None, [durable(n)])


async def publish_for_ever(log: EventLog) -> None:
    log.subscribe(spec("dispatcher", "volatile"), sink := TestSink())
    n = 0
    while True:
        changes = []
        for _ in range(20):
            n += 1
            changes.append(log.submit(change(n)))
            log.publish(volatile(n, "volatile"))
        await asyncio.gather(*changes)
        await asyncio.sleep(0)
        acknowledged, sink.writes = sink.seen, []
        say("\n".join(f"{'ack' if m['topic'] == 'dispatcher' else 'seen'} {m['seq']}" for m in acknowledged))


async def main() -> None:
    store = Store.open(Path(sys.argv[1]))
    before = store.read_now(lambda c: c.execute(select(func.count()).select_from(tables.event)).scalar())
    say(f"epoch {store.epoch} {before}")
    log = EventLog(store, node="here", limits=Limits())
    async with anyio.create_task_group() as tasks:
        await tasks.start(log.run)
        await publish_for_ever(log)


asyncio.run(main())
