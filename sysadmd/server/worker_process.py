"""A worker in a process of its own, beside the server on the same state directory.

It never opens the database: it claims through the server's Unix socket, as its owner, and goes on where it was when the
server comes back from a restart. What it shares with the server is the directory of outputs.
"""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import replace
from urllib.parse import quote

import anyio
import structlog

from sysadmd.client import AsyncClient
from sysadmd.config import Config
from sysadmd.errors import ConfigError, StateError, SysadmdError
from sysadmd.jobs.remote_queue import RESULT_LIMIT, RemoteQueue
from sysadmd.jobs.tasks.registry import Registry
from sysadmd.jobs.worker import Worker
from sysadmd.jobs.workshop import Workshop
from sysadmd.server import logs
from sysadmd.server.lifecycle import EXIT_USAGE
from sysadmd.server.notify import notify
from sysadmd.server.workers import NAME, OUTPUT, home_of, identity, machine_gate, make_pool
from sysadmd.store.lock import StateLock

log = structlog.get_logger(__name__)

NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NUMBERED = 1000
"""Workers without a name are `worker-1`, `worker-2` and so on."""


def run(config: Config, name: str | None, slots: int) -> int:
    """Work until SIGTERM, SIGINT or a halt of all workers. Returns the exit code: 0, or 2 with one line on standard
    error when it cannot start.
    """
    logs.configure(config.log)
    config = replace(config, limits=replace(config.limits, task_result=min(config.limits.task_result, RESULT_LIMIT)))
    try:
        own, lock = _named(config, name)
    except SysadmdError as error:
        sys.stderr.write(f"sysadmd: {error}\n")
        return EXIT_USAGE
    try:
        anyio.run(_main, config, own, slots)
    finally:
        lock.release()
    return 0


def _named(config: Config, name: str | None) -> tuple[str, StateLock]:
    """The name of this worker, which is nobody else's as long as it holds the lock: two that share one would end each
    other's children. Raises ConfigError, StateError.
    """
    if name is not None and (name == NAME or not NAMES.fullmatch(name)):
        rule = f"must be letters, digits, `.`, `_` and `-`, at most 64 of them, and not {NAME!r}, which is the server's"
        raise ConfigError("command line", "--name", name, rule)
    for own in (f"worker-{number}" for number in range(1, NUMBERED)) if name is None else (name,):
        lock = StateLock(home_of(config, own))
        try:
            lock.acquire()
        except StateError:
            holder = lock.holder()
            if holder is None:
                raise
            if name is not None:
                raise StateError(f"the worker {name!r} runs already, as process {holder}") from None
        else:
            return own, lock
    raise StateError(f"there are {NUMBERED - 1} workers already")


async def _main(config: Config, name: str, slots: int) -> None:
    client = AsyncClient(f"unix://{quote(str(config.socket.path))}")
    registry, pool = Registry(), make_pool(config, name)
    me = identity(config, name, slots)
    workshop = Workshop(config.state_dir / OUTPUT, pool, registry)
    room = machine_gate(config)
    worker = Worker(RemoteQueue(client), workshop, me, config.limits, slots={"task": slots}, gate=room)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(pool.run)
            tasks.start_soon(_drain_on_signal, worker)
            log.info("ready", worker=me.id, slots=slots, socket=str(config.socket.path))
            notify("READY=1")
            await worker.run()
            tasks.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(1, shield=True):
            await client.aclose()
    log.info("stopped", worker=me.id)


async def _drain_on_signal(worker: Worker) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            notify("STOPPING=1")
            break
    # From here on a second TERM or INT ends the process at once; its children end with it.
    await worker.drain()
