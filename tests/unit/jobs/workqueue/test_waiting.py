"""Who waits for a job is woken by its events, and by nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from sysadmd.events.log import EventLog
from sysadmd.events.record import Draft
from sysadmd.jobs.workqueue.waiting import Waiter, Watch
from sysadmd.limits import Limits
from sysadmd.store import Store

ONE, OTHER = "1" * 24, "2" * 24


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[tuple[EventLog, Watch]]:
    store = Store.open(path / "db")
    events = EventLog(store, node="n", limits=Limits())
    async with anyio.create_task_group() as tasks:
        await tasks.start(events.run)
        yield events, Watch(events)
        tasks.cancel_scope.cancel()
    store.close()


def tell(events: EventLog, job: str, event: str = "start_job", topic: str = "queue") -> None:
    data: dict[str, Any] = {"event": event, "job": {"id": job, "name": "workqueue.copy"}}
    events.publish(Draft(topic, data, durable=False, permission="workqueue.copy"))


async def woken(waiter: Waiter) -> bool:
    with anyio.move_on_after(0.2):
        await waiter.changed()
        return True
    return False


async def test_an_event_wakes_those_who_wait_for_its_job(tmp_path: Path) -> None:
    async with watched(tmp_path) as (events, watch):
        with watch.following(ONE, elements=False) as one, watch.following(OTHER, elements=False) as other:
            tell(events, ONE)
            assert await woken(one)
            assert not await woken(other)
            assert not await woken(one)


async def test_what_happens_to_elements_wakes_those_who_want_it(tmp_path: Path) -> None:
    async with watched(tmp_path) as (events, watch):
        with watch.following(ONE, elements=False) as job, watch.following(ONE, elements=True) as element:
            tell(events, ONE, "element", "workqueue")
            assert await woken(element)
            assert not await woken(job)


async def test_many_events_of_one_turn_wake_each(tmp_path: Path) -> None:
    async with watched(tmp_path) as (events, watch):
        with watch.following(ONE, elements=False) as one, watch.following(OTHER, elements=False) as other:
            for job in (ONE, OTHER, ONE):
                tell(events, job)
            events.publish(Draft("queue", {"event": "summary", "rows": []}, durable=False))
            assert await woken(one)
            assert await woken(other)


async def test_lost_records_wake_everybody(tmp_path: Path) -> None:
    async with watched(tmp_path) as (_, watch):
        with watch.following(ONE, elements=False) as one:
            watch.ring(b"*" * 24 + b"j")
            assert await woken(one)


async def test_nobody_follows_the_log_while_nobody_waits(tmp_path: Path) -> None:
    async with watched(tmp_path) as (events, watch):
        for _ in range(2):
            with watch.following(ONE, elements=False):
                assert (len(watch), events.followers) == (1, 1)
            assert (len(watch), events.followers) == (0, 0)
