"""The server's own worker: the tasks that there are, the processes that run them, and what claims them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.abc

from sysadmd.config import Config
from sysadmd.jobs import views
from sysadmd.jobs.gate import gate
from sysadmd.jobs.local_queue import LocalQueue
from sysadmd.jobs.queue import Queue
from sysadmd.jobs.tasks.catalogue import Catalogue
from sysadmd.jobs.tasks.leftovers import Leftovers
from sysadmd.jobs.tasks.pool import Household, Pool
from sysadmd.jobs.tasks.registry import Registry
from sysadmd.jobs.tasks.spawning import account_for, environment_of
from sysadmd.jobs.transfers.engine import run as run_transfer
from sysadmd.jobs.transfers.sites import Sites
from sysadmd.jobs.work import Again, Report
from sysadmd.jobs.worker import Worker
from sysadmd.jobs.workshop import Workshop

NAME = "server"
"""Of the worker in the server; the others on the machine have names of their own."""
OUTPUT = "output"
WORKERS = "workers"


def household(config: Config) -> Household:
    """What the processes of tasks have, by the configuration."""
    account, options = account_for(config.jobs.user), config.dispatcher
    return Household(account, environment_of(account, options.environment, options.variables))


def make_pool(config: Config, name: str) -> Pool:
    """The pool of the worker `name`. Nobody else has the name: it ends what an earlier one of that name left."""
    leftovers = Leftovers(home_of(config, name) / "children.json")
    return Pool(household(config), config.limits, leftovers)


def home_of(config: Config, name: str) -> Path:
    """The directory of the worker `name`, with what it must remember."""
    return config.state_dir / WORKERS / name


def identity(config: Config, name: str, slots: int) -> views.Worker:
    """Who claims."""
    return views.Worker(id=f"{name}@{config.node}", host=config.node, started_at=time.time(), slots=slots)


def machine_gate(config: Config) -> Callable[[], bool]:
    """Whether the machine has room for more work, by the configuration."""
    return gate(config.jobs.max_load, config.jobs.min_memory)


class Workers:
    """The worker of a server. `catalogue` is there also where the server runs nothing itself."""

    def __init__(self, config: Config, queue: Queue) -> None:
        self._config, self._queue = config, queue
        registry = Registry()
        self._sites = Sites(config.sites, config.limits)
        self.pool = make_pool(config, NAME)
        self.catalogue = Catalogue(registry, self.pool)
        self._workshop = Workshop(config.state_dir / OUTPUT, self.pool, registry, self._transfer)
        self._worker: Worker | None = None
        slots = {"task": config.jobs.task_slots, "transfer": config.jobs.transfer_slots}
        if any(slots.values()):
            me = identity(config, NAME, sum(slots.values()))
            room = machine_gate(config)
            self._worker = Worker(LocalQueue(queue), self._workshop, me, config.limits, slots=slots, gate=room)
            queue.on_kill.append(self._worker.killed)

    @property
    def running(self) -> int:
        """Attempts under way."""
        return 0 if self._worker is None else self._worker.running

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Own the pool and the worker, until cancelled. The queue must be running."""
        async with self._sites, anyio.create_task_group() as tasks:
            await tasks.start(self.pool.run)
            if self._worker is not None:
                await tasks.start(self._worker.run)
            task_status.started()

    async def _transfer(self, step: views.StepView, report: Report, output: BinaryIO, again: Again) -> views.End:
        return await run_transfer(step, sites=self._sites, report=report, output=output, again=again)

    async def drain(self) -> None:
        """Take no more work, and end or give back what runs."""
        if self._worker is not None:
            await self._worker.drain()

    def reconfigure(self, config: Config) -> None:
        """Take over changed limits and sites."""
        self._config = config
        self._sites.reconfigure(config.sites, config.limits)
        self.pool.limits = config.limits
        if self._worker is not None:
            self._worker.limits = config.limits
