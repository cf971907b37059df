"""The figures of the job queue in `/metrics`; those of calls and sessions are tried in integration/test_rest.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from sysadmd.jobs.queue import Queue
from sysadmd.jobs.views import End, Worker
from sysadmd.server.metrics import Metrics
from tests.unit.jobs.queueing import WORKER, bench, task


def figures(queue: Queue) -> dict[str, float]:
    """The samples of the queue, with what their label says."""
    engine = SimpleNamespace(counts={}, sessions=())
    events: Any = SimpleNamespace(head=0, followers=0)
    dispatcher: Any = SimpleNamespace(figures=dict)
    links: Any = SimpleNamespace(listed=list, dropped=dict)
    metrics = Metrics(engine, events, dispatcher, queue, links)  # type: ignore[arg-type]
    return {
        "".join([sample.name, *(f"{{{value}}}" for value in sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name.startswith(("sysadmd_job", "sysadmd_workers"))
    }


async def test_jobs_are_counted_by_state_also_where_there_are_none(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(), task(), task()], owner="o")
        await b.one()
        found = figures(b.queue)
        assert (found["sysadmd_jobs{pending}"], found["sysadmd_jobs{running}"]) == (2, 1)
        assert found["sysadmd_jobs{error}"] == 0


async def test_attempts_are_counted_by_their_outcome(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(), task(), task()], owner="o")
        await b.run()
        await b.run("fail")
        await b.one()
        await b.look(3600)
        found = figures(b.queue)
        names = [f"sysadmd_job_attempts_total{{{outcome}}}" for outcome in ("ok", "fail", "lost")]
        assert [found[name] for name in names] == [1, 1, 1]


async def test_an_end_that_came_too_late_is_not_counted(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        claim = await b.run()
        await b.queue.finish(claim.lease, End(outcome="ok"))
        assert figures(b.queue)["sysadmd_job_attempts_total{ok}"] == 1


async def test_workers_are_counted_while_they_are_heard_of(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert figures(b.queue)["sysadmd_workers"] == 0
        await b.queue.claim(WORKER, 1, frozenset({"task"}))
        await b.queue.claim(Worker("x@host", "host", 1000.0, 4), 1, frozenset({"task"}))
        assert figures(b.queue)["sysadmd_workers"] == 2
        b.clock.advance(61)
        assert figures(b.queue)["sysadmd_workers"] == 0
