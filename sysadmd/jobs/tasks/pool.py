"""The child processes that run tasks: started when needed, kept warm, replaced when they are worn or broken.

A new interpreter for each task would cost 70 ms and more (core4 did that, and started one a second); a thread could not
be killed. So a child runs one attempt after another, one at a time. It is given no second one to wait behind the first:
the round trip to a warm child is short, and what waits there could not go to another that is free.

There are no children before the first task, and none after a while without any. Whoever asks for executions bounds
their number; the pool has as many children as there were executions at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread

from sysadmd.errors import BadRequest, Unavailable
from sysadmd.jobs.tasks.ends import Cause, TaskEnd
from sysadmd.jobs.tasks.frames import Describe, Run, TaskError, TaskInfo
from sysadmd.jobs.tasks.leftovers import Leftovers
from sysadmd.jobs.tasks.pooled import KILLED, OnProgress, Pooled
from sysadmd.jobs.tasks.spawning import CannotSpawn, spawn_child
from sysadmd.limits import Limits

TICK = 1.0
DESCRIBE_SECONDS = 30.0
"""What importing a task's package may take when somebody asks what it is."""
DESCRIBE_AT_ONCE = 4
"""Tasks that are asked about at once: one that hangs keeps nobody from the others."""
DESCRIBED_FRESH = 60.0
"""Seconds for which what a task was is believed."""


@dataclass(frozen=True, slots=True)
class Household:
    """What the children of a pool have: the account they run as (None: our own) and their environment."""

    account: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Execution:
    """One attempt under way. Whoever began it waits for its end, or stops it and then waits."""

    def __init__(self, child: Pooled, result: asyncio.Future[TaskEnd], grace: float, timeout: float | None) -> None:
        self.pid, self.pid_start = child.pid, child.pid_start
        self._child, self._result, self._grace = child, result, grace
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None:
            note = f"stopped after its timeout of {timeout:g} s"
            self._timer = asyncio.get_running_loop().call_later(timeout, self.stop, "timeout", note)

    def stop(self, cause: Cause, message: str, *, at_once: bool = False) -> None:
        """End it: TERM and, after the grace, KILL; `at_once` without grace. It does nothing to one that is over."""
        if not self._result.done():
            self._child.stop(cause, message, 0 if at_once else self._grace)

    async def wait(self) -> TaskEnd:
        """The end. Whoever is cancelled here leaves the attempt to be killed."""
        try:
            return await asyncio.shield(self._result)
        except asyncio.CancelledError:
            self.stop("lost", "its worker ended", at_once=True)
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()


class Pool:
    """The children of one worker."""

    def __init__(self, household: Household, limits: Limits, leftovers: Leftovers | None = None) -> None:
        self.limits = limits
        self._household, self._leftovers = household, leftovers
        self._children: set[Pooled] = set()
        self._idle: list[Pooled] = []
        self._described: dict[str, tuple[float, TaskInfo]] = {}
        self._describing: dict[str, anyio.Lock] = {}
        self._describers = anyio.Semaphore(DESCRIBE_AT_ONCE)
        self._born = anyio.Event()
        """Set while there are children: without any the pool has no timer."""
        self._tasks: anyio.abc.TaskGroup | None = None

    def __len__(self) -> int:
        return len(self._children)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Own the children until cancelled; then end all of them."""
        if self._leftovers is not None:
            await self._leftovers.end()
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            try:
                while True:
                    await self._born.wait()
                    await anyio.sleep(TICK)
                    self._look()
            finally:
                for child in list(self._children):
                    child.stop("lost", "its worker ended", 0)
                with anyio.CancelScope(shield=True):
                    while self._children:  # noqa: ASYNC110 - once in the life of a pool
                        await anyio.sleep(0.01)

    async def begin(self, run: Run, output: int, *, timeout: float | None, on_progress: OnProgress) -> Execution:
        """Begin an attempt in a child; `output` is the descriptor of its file and stays the caller's.

        Raises CannotSpawn.
        """
        child = await self._child(output)
        return Execution(child, child.run(run, output, on_progress), self.limits.kill_grace, timeout)

    async def describe(self, name: str, target: str) -> TaskInfo:
        """What a task is. Raises BadRequest when it cannot be loaded, Unavailable when no child can be started or
        a signal ended it.
        """
        async with self._describing.setdefault(name, anyio.Lock()), self._describers:
            found = self._described.get(name)
            if found is not None and time.monotonic() - found[0] < DESCRIBED_FRESH:
                return found[1]
            try:
                child = await self._child(None)
            except CannotSpawn as error:
                raise Unavailable(str(error)) from None
            answer = child.describe(Describe(target, name))
            try:
                with anyio.fail_after(DESCRIBE_SECONDS):
                    described = await answer
            except TimeoutError:
                raise BadRequest(f"the task {name} cannot be loaded within {DESCRIBE_SECONDS:g} s") from None
            finally:
                if not answer.done() or answer.cancelled():
                    child.end(0)
            if described.info is None:
                why = described.error or TaskError("Error", "")
                refusal = Unavailable if why.exception == KILLED else BadRequest
                raise refusal(f"the task {name} cannot be loaded: {why.exception}: {why.message}")
            self._described[name] = (time.monotonic(), described.info)
            return described.info

    async def _child(self, output: int | None) -> Pooled:
        """A child that is free: the one that was used last, since its memory is warm, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if child.usable:
                return child
        if self._tasks is None:
            raise CannotSpawn("the pool of tasks does not run")
        marked = {} if self._leftovers is None else self._leftovers.mark
        environment = {**self._household.environment, **marked}
        with anyio.CancelScope(shield=True):  # a child that was started has to be known, or nobody would reap it
            spawned = await anyio.to_thread.run_sync(spawn_child, self._household.account, environment, output)
        child = Pooled(*spawned, spawn=self._spawn, free=self._free, over=self._over)
        self._children.add(child)
        self._born.set()
        self._remember()
        return child

    def _spawn(self, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._tasks is not None:
            self._tasks.start_soon(end)

    def _free(self, child: Pooled) -> None:
        if child.served >= self.limits.task_recycle:
            child.end(0)
        else:
            self._idle.append(child)

    def _over(self, child: Pooled) -> None:
        self._children.discard(child)
        if not self._children:
            self._born = anyio.Event()
        with contextlib.suppress(ValueError):
            self._idle.remove(child)
        self._remember()

    def _remember(self) -> None:
        if self._leftovers is not None:
            self._leftovers.note((child.pid, child.pid_start) for child in self._children)

    def _look(self) -> None:
        now = time.monotonic()
        for child in list(self._children):
            child.look(now, self.limits.task_stopped)
        for child in list(self._idle):
            if now - child.idle_since >= self.limits.task_idle:
                self._idle.remove(child)
                child.end(self.limits.kill_grace)
