"""The job queue: tasks that do nothing beside huey on SQLite, claims in an empty and in a full store, and idling."""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.bench.bench_dispatcher import state_directory
from tests.bench.harness import OURS, bench

SLOTS = 32
"""Tasks at once, each in a process of its own: the more of them, the more share a commit."""
THREADS = 2
"""huey's; more make it slower."""
JOBS = 1000
CALLERS = 32
"""Clients that enqueue at once, each waiting for its answer before the next."""
WARM_UP = 50
CLAIMS = 300
FINISHED, PENDING = 1_000_000, 100_000
IDLE_JOBS, IDLE_SECONDS = 10_000, 5.0
NAME = "bench.noop"


@bench(
    "jobs.noop",
    title="enqueue and run a task that does nothing",
    unit="job/s",
    floor=1.0,
    note=(
        "huey takes a task off a table and calls a function in its own process: two flushed commits, and what ran "
        "when it died is gone. Here each job has its lease, start and end stored, four events with counts, a file for "
        "its output and a process that can be killed; that is 0.9 ms of processor time in the server. It takes many "
        "places (32) to share commits and hide the way to and fro; with 16 it is about half as fast, with 2 a tenth. "
        "Tried, and kept: ends, starts and claims that share a transaction, statements made once. Left to try: reading "
        "without SQLAlchemy's result objects, and a second job that waits in a warm process."
    ),
)
def noop(side: str) -> float:
    """Jobs from enqueue to complete in a second, each stored safely: 32 callers, warm processes, all events."""
    import anyio

    from sysadmd.limits import Limits
    from sysadmd.server.lifecycle import _loop_options as loop_options

    with state_directory() as state:
        if side != OURS:
            return _huey(state)
        return anyio.run(_ours, state, backend_options=loop_options(Limits()))


async def _ours(state: Path) -> float:
    async with _queue(state) as queue, _worker(state, queue):
        await _run(queue, WARM_UP)
        begun = time.perf_counter()
        await _run(queue, JOBS)
        return JOBS / (time.perf_counter() - begun)


async def _run(queue: Any, jobs: int) -> None:
    from sysadmd.jobs.spec import JobSpec

    spec = JobSpec(kind="task", name=NAME)
    left = iter(range(jobs))

    async def call() -> None:
        for _ in left:
            await queue.enqueue(spec, owner="bench")

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    while sum(queue.counts().values()):
        await asyncio.sleep(0.002)


def _huey(state: Path) -> float:
    """huey commits each task in and out of its own accord, with its file flushed as ours is."""
    from huey import SqliteHuey
    from huey.consumer import Consumer

    huey = SqliteHuey("bench", filename=str(state / "huey.db"), fsync=True, results=False)
    done = threading.Semaphore(0)

    @huey.task()  # type: ignore[untyped-decorator]
    def nothing() -> None:
        done.release()

    consumer = Consumer(huey, workers=THREADS, periodic=False, initial_delay=0.01, max_delay=0.01)
    consumer.start()

    def run(jobs: int) -> None:
        left, lock = iter(range(jobs)), threading.Lock()

        def call() -> None:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                nothing()

        callers = [threading.Thread(target=call) for _ in range(THREADS)]
        for each in callers:
            each.start()
        for _ in range(jobs):
            done.acquire()
        for each in callers:
            each.join()

    run(WARM_UP)
    begun = time.perf_counter()
    run(JOBS)
    took = time.perf_counter() - begun
    consumer.stop(graceful=True)
    return JOBS / took


@bench("jobs.claim_p50", title="claim one of 1,000 jobs that wait", unit="ms", ceiling=10.0, higher_is_better=False)
async def claim_p50(side: str) -> float:
    """Milliseconds from asking to holding a lease, stored safely; the median."""
    with state_directory() as state:
        async with _queue(state, pending=1000) as queue:
            return statistics.median(await _claims(queue))


@bench(
    "jobs.claim_full",
    title="claim with 1,000,000 finished and 100,000 waiting jobs, beside 1,000 waiting ones",
    unit="ms",
    floor=1 / 1.5,
    higher_is_better=False,
    timeout=300.0,
)
async def claim_full(side: str) -> float:
    """Milliseconds of a claim in a store that is full of jobs, and in one that has as many as are claimed."""
    with state_directory() as state:
        full = {"finished": FINISHED, "pending": PENDING} if side == OURS else {"pending": 1000}
        async with _queue(state, **full) as queue:
            return statistics.median(await _claims(queue))


async def _claims(queue: Any) -> list[float]:
    from sysadmd.jobs.views import Worker

    worker = Worker("bench@bench", "bench", time.time(), SLOTS)
    took = []
    for _ in range(CLAIMS):
        begun = time.perf_counter()
        claims = await queue.claim(worker, 1, frozenset({"task"}))
        took.append(1000 * (time.perf_counter() - begun))
        assert len(claims) == 1
    return took[CLAIMS // 10 :]


@bench(
    "jobs.summary_idle",
    title="processor time of a queue in which 10,000 jobs wait and nothing changes",
    unit="ms/s",
    ceiling=5.0,
    higher_is_better=False,
)
async def summary_idle(side: str) -> float:
    """Milliseconds of processor time for each second: summaries and looks at the clock cost nothing then."""
    with state_directory() as state:
        async with _queue(state, pending=IDLE_JOBS) as queue:
            await asyncio.sleep(4)  # the summary of the beginning
            assert queue.counts() == {"pending": IDLE_JOBS}
            begun = _processor()
            await asyncio.sleep(IDLE_SECONDS)
            return 1000 * (_processor() - begun) / IDLE_SECONDS


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@asynccontextmanager
async def _queue(state: Path, *, finished: int = 0, pending: int = 0) -> AsyncIterator[Any]:
    """A queue that runs on a store on disk, with jobs in it."""
    import anyio

    from sysadmd.config import Config, Socket
    from sysadmd.events import EventLog
    from sysadmd.jobs.queue import Queue
    from sysadmd.store import Store

    config = Config(state_dir=state, node="bench", socket=Socket(state / "sysadmd.sock"))
    store = Store.open(state / "sysadmd.db")
    events = EventLog(store, node="bench", limits=config.limits)
    queue = Queue(store, events, config)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(events.run)
            if pending:
                await _fill(store, queue, finished, pending)
            await tasks.start(queue.run)
            yield queue
            tasks.cancel_scope.cancel()
    finally:
        store.close()
        for file in state.glob("sysadmd.db*") if finished else ():
            file.unlink()  # a gigabyte


async def _fill(store: Any, queue: Any, finished: int, pending: int) -> None:
    """One job of each sort through the queue, and copies of their rows."""
    from sysadmd.jobs.spec import JobSpec
    from sysadmd.jobs.views import End, Worker

    spec = JobSpec(kind="task", name=NAME)
    done = await queue.enqueue(spec, owner="bench")
    (claim,) = await queue.claim(Worker("fill@bench", "bench", time.time()), 1, frozenset({"task"}))
    await queue.finish(claim.lease, End(outcome="ok"))
    waits = await queue.enqueue(spec, owner="bench")

    def copy(connection: Any) -> None:
        if finished > 1:
            _copy(connection, done, 10, finished - 1, ("job", "step", "attempt"))
        _copy(connection, waits, 10 + finished, pending - 1, ("job", "step"))
        connection.exec_driver_sql("update job_count set n = n + ? where state = 'pending'", (pending - 1,))
        connection.exec_driver_sql("analyze")

    store.write_now(copy)


def _copy(connection: Any, job: Any, first: int, count: int, tables: tuple[str, ...]) -> None:
    """As many copies of a job, with numbers from `first` on and ids that follow them."""
    for table in tables:
        columns = [row[1] for row in connection.exec_driver_sql(f"pragma table_info({table})")]
        changed = {"id": "printf('%024x', ?1 + i)", "job_id": "printf('%024x', ?1 + i)", "seq": "?1 + i"}
        changed["lease_id"] = "printf('%032x', ?1 + i)"
        values = ", ".join(changed.get(column, f"old.{column}") for column in columns)
        key = "id" if table == "job" else "job_id"
        numbers = "with recursive numbers(i) as (select 0 union all select i + 1 from numbers where i + 1 < ?2)"
        statement = f"insert into {table} ({', '.join(columns)}) {numbers} select {values} from {table} as old, numbers"
        connection.exec_driver_sql(f"{statement} where {key} = ?3", (first, count, job.id))


@asynccontextmanager
async def _worker(state: Path, queue: Any) -> AsyncIterator[None]:
    """The server's worker, with one task that does nothing."""
    import anyio

    from sysadmd.jobs.tasks.pool import Household, Pool
    from sysadmd.jobs.tasks.registry import Registry
    from sysadmd.jobs.views import Worker as Identity
    from sysadmd.jobs.worker import Worker
    from sysadmd.jobs.workshop import Workshop
    from sysadmd.limits import Limits

    limits = Limits()
    pool = Pool(Household(None, {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}), limits)
    registry = Registry(lambda: {NAME: "tests.sample_tasks:noop"})
    me = Identity("server@bench", "bench", time.time(), SLOTS)
    worker = Worker(queue, Workshop(state / "output", pool, registry), me, limits, slots={"task": SLOTS})
    async with anyio.create_task_group() as tasks:
        await tasks.start(pool.run)
        await tasks.start(worker.run)
        yield
        tasks.cancel_scope.cancel()
