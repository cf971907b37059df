"""Commands through the dispatcher beside a bare asyncio spawn loop."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.bench.harness import OURS, bench

PARALLEL = 64
"""What the parallel lane ships with (limits.lane_parallel)."""
PROCESSES = 1500
WARM_UP = 64
KEEP = 600.0
"""Seconds that a state directory stays."""


@bench(
    "dispatcher.processes",
    title="run /bin/true, 64 at once",
    unit="process/s",
    floor=0.9,
    note=(
        "two processors carry the commands themselves, the executor and the server, where the loop beside it has one "
        "process; each command is two flushed commits, three events and a hop to another process. Tried, and kept: "
        "turns that share commits, statements compiled once and rows handed to the driver, one output directory for an "
        "hour, files made while the commit runs, batched frames, vfork. With fewer commands at once the hand-over to "
        "and fro shows more than the work: at 16 about three quarters of the bare loop, at 8 about half. Left to try: "
        "turns that do not wait for the commit of the turn before."
    ),
)
async def processes(side: str) -> float:
    """Processes finished in a second: stored, leased, run, told as events and stored again, against spawn and wait."""
    if side != OURS:
        return await _rate(_spawn)
    async with _dispatcher() as dispatcher:
        return await _rate(dispatcher)


async def _rate(run_one: object) -> float:
    assert callable(run_one)
    numbers = itertools.count()

    async def worker(stop: int) -> None:
        while next(numbers) < stop:
            await run_one()

    await asyncio.gather(*(worker(WARM_UP) for _ in range(PARALLEL)))
    numbers = itertools.count()
    begin = time.perf_counter()
    await asyncio.gather(*(worker(PROCESSES) for _ in range(PARALLEL)))
    return PROCESSES / (time.perf_counter() - begin)


async def _spawn() -> None:
    process = await asyncio.create_subprocess_exec(
        "/bin/true", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    await process.wait()


@asynccontextmanager
async def _dispatcher() -> AsyncIterator[object]:
    """A function that runs one process through a dispatcher with a real executor and a store on disk."""
    import anyio

    from sysadmd.config import Config, Socket
    from sysadmd.dispatcher import Dispatcher
    from sysadmd.events import EventLog
    from sysadmd.store import Store
    from tests.integration.dispatcher_harness import running_executor

    with state_directory() as state:
        config = Config(state_dir=state, node="bench", socket=Socket(state / "sysadmd.sock"))
        store = Store.open(state / "sysadmd.db")
        events = EventLog(store, node="bench", limits=config.limits)
        dispatcher = Dispatcher(store, events, config, launch_executor=False)
        names = itertools.count()

        async def run_one() -> None:
            name = f"bench-{next(names)}"
            await dispatcher.start({name: "/bin/true"}, owner="bench")
            await dispatcher.wait(name)

        try:
            with running_executor(state):
                async with anyio.create_task_group() as tasks:
                    await tasks.start(events.run)
                    await tasks.start(dispatcher.run)
                    yield run_one
                    await dispatcher.close()
                    tasks.cancel_scope.cancel()
        finally:
            store.close()


@contextmanager
def state_directory() -> Iterator[Path]:
    """A directory on a real disk that is removed only minutes later.

    ext4 does not give an inode out again within some 35 seconds of its deletion, and searches past all of those one by
    one: measured, making a file takes 0.65 ms instead of 0.015 after a run that removed its thousand files. A server
    does not remove what it has just made, so neither does the benchmark.
    """
    base = Path("/var/tmp/sysadmd-bench")
    base.mkdir(exist_ok=True)
    yield Path(tempfile.mkdtemp(dir=base))
    for old in base.iterdir():
        if time.time() - old.stat().st_mtime > KEEP:
            shutil.rmtree(old, ignore_errors=True)
