"""One claimed step under way in a worker: begun, watched, stopped, ended.

What runs it differs: a task runs in a child process (tasks/pool.py), a transfer in the worker itself (transfers/).
What both have is here: the output file, the lease, the latest progress, and why it was stopped.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, BinaryIO

import anyio
import msgspec

from sysadmd.errors import NotFound
from sysadmd.jobs.output_file import OutputFile
from sysadmd.jobs.tasks.ends import Cause, TaskEnd
from sysadmd.jobs.tasks.frames import Run, TaskError
from sysadmd.jobs.tasks.pool import Execution, Pool
from sysadmd.jobs.tasks.registry import Registry
from sysadmd.jobs.tasks.spawning import CannotSpawn
from sysadmd.jobs.views import Claim, End, StepView

POSTPONED = 30.0
"""Seconds until a step is tried again whose worker had no process or no file for it."""

Said = tuple[float | None, str | None, Mapping[str, Any] | None]
"""The value, the message and the JSON of progress."""

Began = Callable[[int | None, str | None], Awaitable[None]]
"""(process id, its start) -> None: what runs has begun."""

Report = Callable[..., None]
"""(value, message=None, data=None) -> None, as transfers/ calls it."""

Again = Callable[[], bool]
"""() -> whether another attempt may follow the one that runs."""

Transfers = Callable[[StepView, Report, BinaryIO, Again], Awaitable[End]]
"""Runs a step of a transfer; cancelling it ends the attempt."""


class Work(ABC):
    """One attempt. `until`: the monotonic time at which its lease is over, as far as this worker knows."""

    def __init__(self, claim: Claim, output: OutputFile, until: float) -> None:
        self.claim, self.output, self.until = claim, output, until
        self.said: Said | None = None
        self.seen_size = 0
        self.cause: Cause | None = None
        self.message = ""

    @property
    def lease(self) -> str:
        """Under which it runs."""
        return self.claim.lease

    def say(self, value: float | None, message: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Remember the latest progress."""
        old = self.said or (None, None, None)
        self.said = (value, message if message is not None else old[1], data if data is not None else old[2])

    def stop(self, cause: Cause, message: str, *, at_once: bool = False) -> None:
        """End it; the first cause stays."""
        if self.cause is None:
            self.cause, self.message = cause, message
        self._stop(at_once=at_once)

    async def run(self, began: Began) -> End:
        """Run it to its end. Whoever cancels this leaves nothing that runs."""
        end = await self._run(began)
        if end.outcome not in {"ok", "fail", "deferred", "start_failed"} and end.error is not None:
            self.output.note(f"{end.outcome}: {end.error['message']}")
        return msgspec.structs.replace(end, output_bytes=self.output.size)

    @abstractmethod
    async def _run(self, began: Began) -> End: ...

    @abstractmethod
    def _stop(self, *, at_once: bool) -> None: ...


class TaskWork(Work):
    """An attempt of a task."""

    def __init__(self, claim: Claim, output: OutputFile, until: float, pool: Pool, registry: Registry) -> None:
        super().__init__(claim, output, until)
        self._pool, self._registry = pool, registry
        self._execution: Execution | None = None

    async def _run(self, began: Began) -> End:
        job = self.claim.job
        try:
            run = Run(
                target=self._registry.target(job.name),
                name=job.name,
                job_id=job.id,
                attempt=self.claim.n,
                owner=job.owner,
                args=msgspec.json.encode(job.args),
                result_limit=self._pool.limits.task_result,
            )
            execution = await self._pool.begin(run, self.output.descriptor, timeout=job.timeout, on_progress=self.say)
        except NotFound as error:
            self.output.note(str(error))
            return _end(TaskEnd("start_failed", error=TaskError(type(error).__name__, str(error))))
        except CannotSpawn as error:
            self.output.note(str(error))
            return postponed(error)
        self._execution = execution
        if self.cause is not None:  # it came while the child was started
            execution.stop(self.cause, self.message)
        try:
            await began(execution.pid, str(execution.pid_start))
            return _end(await execution.wait())
        finally:
            execution.stop("lost", "its worker ended", at_once=True)  # nothing, where it is over

    def _stop(self, *, at_once: bool) -> None:
        if self._execution is not None and self.cause is not None:
            self._execution.stop(self.cause, self.message, at_once=at_once)


class TransferWork(Work):
    """An attempt of a step of a transfer."""

    def __init__(self, claim: Claim, output: OutputFile, until: float, transfers: Transfers) -> None:
        super().__init__(claim, output, until)
        self._transfers = transfers
        self._scope = anyio.CancelScope()

    async def _run(self, began: Began) -> End:
        await began(None, None)
        timeout = self.claim.job.timeout
        end: End | None = None
        file = os.fdopen(os.dup(self.output.descriptor), "ab")
        with self._scope, anyio.move_on_after(timeout) as limit, file:
            end = await self._transfers(self.claim.step, self.say, file, lambda: self.cause != "killed")
        if end is not None:
            return end
        if self.cause is None and limit.cancelled_caught:
            self.cause, self.message = "timeout", f"stopped after its timeout of {timeout:g} s"
        return End(outcome=self.cause or "lost", error=_told(TaskError("Stopped", self.message)))

    def _stop(self, *, at_once: bool) -> None:
        self._scope.cancel()


def postponed(error: Exception) -> End:
    """The end of an attempt that could not begin for want of a process or a file: the machine's fault and not the
    job's, so that it costs no try, and waits for a better time within the job's `defer_max`.
    """
    return End(outcome="deferred", delay=POSTPONED, error=_told(TaskError(type(error).__name__, str(error))))


def _told(error: TaskError) -> Mapping[str, Any]:
    return {"exception": error.exception, "message": error.message, "traceback": list(error.traceback)}


def _end(end: TaskEnd) -> End:
    """As the queue has it."""
    error = None if end.error is None else _told(end.error)
    if end.outcome == "deferred":
        error = {"exception": "Deferred", "message": end.reason or "", "traceback": []}
    return End(
        outcome=end.outcome,
        exit_code=end.exit_code,
        signal=end.signal,
        error=error,
        delay=end.delay,
        result=end.result,
    )
