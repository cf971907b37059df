"""A dispatcher with a real executor, a real store and a real log, in this process or in one that can be killed.

`python -m tests.integration.dispatcher_harness STATE_DIR` is the second: it reads one JSON object of processes from its
standard input, starts them, says `started`, and schedules until it is killed or told TERM.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import msgspec
from sqlalchemy import select

from sysadmd.config import Config, Socket
from sysadmd.dispatcher import Dispatcher
from sysadmd.dispatcher.output import DiskUse, disk_use
from sysadmd.errors import ExecutorError
from sysadmd.events import EventLog
from sysadmd.executor.protocol import connect, socket_path
from sysadmd.limits import Limits
from sysadmd.store import Store
from sysadmd.store.tables import event

FAST = Limits(running_update=0.05, kill_grace=0.3)
"""Looks so often that a test need not wait a second for one."""


def config_for(state: Path, limits: Limits = FAST, **changes: Any) -> Config:
    """The configuration of a test."""
    return replace(
        Config(state_dir=state, node="test", socket=Socket(state / "sysadmd.sock"), limits=limits), **changes
    )


@contextmanager
def running_executor(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An executor as a child of ours; ended, with what it runs, at the end."""
    with (state / "executor.out").open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "sysadmd.executor", "--state-dir", str(state)], stdout=output, stderr=output
        )
    try:
        wait_for_executor(state)
        yield child
    finally:
        child.kill()
        child.wait()


def wait_for_executor(state: Path) -> None:
    """Until one answers."""
    end = time.monotonic() + 10
    while True:
        try:
            connect(socket_path(state)).close()
            return
        except ExecutorError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class Running:
    """A dispatcher that runs, and what it stands on."""

    def __init__(self, dispatcher: Dispatcher, events: EventLog, store: Store) -> None:
        self.dispatcher, self.events, self.store = dispatcher, events, store


@asynccontextmanager
async def running_dispatcher(
    state: Path,
    *,
    limits: Limits = FAST,
    launch_executor: bool = False,
    use: DiskUse = disk_use,
    store: Store | None = None,
    **changes: Any,
) -> AsyncIterator[Running]:
    """A dispatcher in this process; closed as a server does it."""
    config = config_for(state, limits, **changes)
    opened = store or Store.open(state / "sysadmd.db")
    events = EventLog(opened, node="test", limits=limits)
    dispatcher = Dispatcher(opened, events, config, launch_executor=launch_executor, use=use)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(events.run)
            await tasks.start(dispatcher.run)
            yield Running(dispatcher, events, opened)
            await dispatcher.close()
            tasks.cancel_scope.cancel()
    finally:
        opened.close()


def stored_events(state: Path) -> list[dict[str, Any]]:
    """The durable dispatcher events, in order."""
    store = Store.open(state / "sysadmd.db")
    try:
        query = select(event.c.data).where(event.c.topic == "dispatcher").order_by(event.c.seq)
        rows = store.read_now(lambda connection: list(connection.execute(query).scalars()))
    finally:
        store.close()
    return [msgspec.json.decode(row) for row in rows]


@contextmanager
def dispatcher_process(state: Path, processes: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A dispatcher in a process of its own that has started `processes`."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.dispatcher_harness", str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(processes) + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "started\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


async def main(state: Path) -> None:
    """What `dispatcher_process` runs."""
    processes = json.loads(sys.stdin.readline())
    async with running_dispatcher(state) as running:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            if processes:
                await running.dispatcher.start(processes, owner="test")
            os.write(1, b"started\n")
            async for _ in signals:
                break


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
