"""One worker: it claims due steps, runs as many as it has room for, keeps their leases and tells how they ended.

Four loops share it. *Claiming* asks for work when there is room, and waits to be told of some when there is none.
*Renewing* holds the leases, by a timer that no task can hold up; a lease that is not confirmed in time counts as lost
before the queue counts it so, and its attempt is ended: two workers never run one attempt. *Looking* passes on progress
once a second, and ends what writes too much. And each attempt has a task of its own, from its claim to the word of its
end, which is said again until it is heard or the lease is over.

The queue is in this process, or behind a socket (remote_queue.py); a call that fails is logged and made again later,
whichever it is.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import anyio
import anyio.abc
import structlog

from sysadmd.backoff import Backoff
from sysadmd.jobs import views
from sysadmd.jobs.output_file import OutputRefused
from sysadmd.jobs.views import Claim, End
from sysadmd.jobs.work import Work, postponed
from sysadmd.jobs.workshop import Workshop
from sysadmd.limits import Limits

log = structlog.get_logger(__name__)

WAIT = 30.0
"""Seconds of one wait for work; then it is asked for anyway."""
LOOK = 1.0
RENEW_MOST = 2.0
"""Seconds between two renewals at most: they also tell which jobs were killed."""
AT_ONCE = 5.0
"""Seconds from the end of the grace until what still runs at a stop is killed without one."""


class Source(Protocol):
    """What a worker needs of the queue (queue.py)."""

    async def claim(self, worker: views.Worker, limit: int, kinds: frozenset[str]) -> list[Claim]:
        """Lease up to `limit` steps that are due."""
        ...

    async def wait_work(self, kinds: frozenset[str], timeout: float) -> bool:
        """Wait until something may be claimable, at most `timeout` seconds."""
        ...

    async def started(self, lease: str, *, pid: int | None, pid_start: str | None) -> bool:
        """What the lease is about runs; False: the lease is lost."""
        ...

    async def renew(self, leases: list[str]) -> set[str]:
        """Hold leases for longer; those that are missing from the answer are to be ended."""
        ...

    async def progress(
        self, lease: str, value: float | None, message: str | None = None, data: Mapping[str, Any] | None = None
    ) -> object:
        """How far it is."""
        ...

    def halted(self, worker: views.Worker) -> bool:
        """Whether the worker is to leave, after what it runs."""
        ...

    async def finish(self, lease: str, end: End) -> bool:
        """It is over; False: the lease was lost, so nobody takes the result."""
        ...


class Worker:
    """A worker. `slots`: steps of each kind of job that it runs at once; transfers wait for disks, tasks for the
    processor, so neither keeps the other out. `gate`: whether the machine has room for more now.
    """

    def __init__(
        self,
        queue: Source,
        workshop: Workshop,
        worker: views.Worker,
        limits: Limits,
        *,
        slots: Mapping[str, int],
        gate: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker, self.limits, self._slots = worker, limits, dict(slots)
        self._queue, self._workshop, self._gate, self._monotonic = queue, workshop, gate, monotonic
        self._works: dict[str, Work] = {}
        self._taken: Counter[str] = Counter()
        self._ending: Counter[str] = Counter()
        self._leaving = self._draining = False
        self._claiming = False
        self._changed, self._began = anyio.Event(), anyio.Event()
        self._changes = 0
        self._tasks: anyio.abc.TaskGroup | None = None

    @property
    def running(self) -> int:
        """Attempts under way, those that are at their end and not told of yet included."""
        return self._taken.total() + self._ending.total()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until `drain` is over, or cancelled: then what runs is killed and its leases run out."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._renew_leases)
            self._tasks.start_soon(self._look)
            task_status.started()
            await self._claim()
            while self.running:
                await self._change()
            self._tasks.cancel_scope.cancel()

    async def drain(self, seconds: float | None = None) -> None:
        """Take no more work; what runs has `seconds` (None: `limits.drain`) and is then given back as lost."""
        self._leaving = self._draining = True
        self._wake()
        if await self._idle(self.limits.drain if seconds is None else seconds):
            return
        for work in list(self._works.values()):
            work.stop("lost", "its worker was stopped")
        if await self._idle(self.limits.kill_grace + AT_ONCE):
            return
        for work in list(self._works.values()):
            work.stop("lost", "its worker was stopped", at_once=True)
        await self._idle(AT_ONCE)

    def killed(self, lease: str) -> None:
        """Hear that the job of a lease was asked to end; the next renewal would tell it later."""
        work = self._works.get(lease)
        if work is not None:
            work.stop("killed", "killed on request")

    async def _idle(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            while self.running or self._claiming:
                await self._change()
        return not self.running

    # Claiming

    async def _claim(self) -> None:
        failures = 0
        while not self._leaving:
            rooms = {
                kind: slots - self._taken[kind] for kind, slots in self._slots.items() if slots > self._taken[kind]
            }
            if not rooms or not self._gate():
                with anyio.move_on_after(LOOK if rooms else None):
                    await self._change()
                continue
            self._claiming, before = True, self._changes
            try:
                wanting = [kind for kind, room in rooms.items() if await self._claimed(kind, room) < room]
            except Exception as error:  # noqa: BLE001 - whatever it is, a worker goes on
                log.warning("work cannot be claimed", worker=self.worker.id, reason=str(error) or repr(error))
                await self._pause(Backoff().delay(failures))
                failures += 1
                continue
            finally:
                self._claiming = False
            failures = 0
            if self._queue.halted(self.worker):
                log.info("leaving, as all workers were asked to", worker=self.worker.id)
                self._leaving = True
            elif wanting and self._changes == before and not self._leaving:
                # An end that was stored beside the claim may have let more of its name run.
                await self._wait_for_work(frozenset(wanting))
        self._wake()

    async def _claimed(self, kind: str, room: int) -> int:
        """Claim steps of a kind, and begin them; how many those were."""
        asked = self._monotonic()
        claims = await self._queue.claim(self.worker, room, frozenset({kind}))
        for claim in claims:
            self._taken[claim.job.kind] += 1
            assert self._tasks is not None
            self._tasks.start_soon(self._attempt, claim, asked + claim.lease_seconds)
        return len(claims)

    async def _wait_for_work(self, kinds: frozenset[str]) -> None:
        async def told() -> None:
            try:
                await self._queue.wait_work(kinds, WAIT)
            except Exception as error:  # noqa: BLE001 - as above
                log.warning("work cannot be waited for", worker=self.worker.id, reason=str(error) or repr(error))
                await anyio.sleep(LOOK)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(told)
            await self._change()
            tasks.cancel_scope.cancel()

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            while not self._leaving:
                await self._change()

    # One attempt

    async def _attempt(self, claim: Claim, until: float) -> None:
        try:
            try:
                work = self._workshop.take(claim, until)
            except OutputRefused as error:
                log.error("an attempt cannot begin", job=claim.job.id, reason=str(error))
                await self._finish(claim, postponed(error), lambda: until)
                return
            self._works[claim.lease] = work
            self._began.set()
            try:
                end = await self._run(work)
                async with self._room_for_next(claim.job.kind):
                    await self._finish(claim, end, lambda: work.until)
            finally:
                del self._works[claim.lease]
                work.output.close()
        finally:
            self._taken[claim.job.kind] -= 1
            self._wake()

    @asynccontextmanager
    async def _room_for_next(self, kind: str) -> AsyncIterator[None]:
        """Free the slot of an attempt while its end is told, so that the next claim shares the end's transaction.

        Ends that cannot be told take no more slots than there are.
        """
        early = self._ending[kind] < self._slots[kind]
        if early:
            self._taken[kind] -= 1
            self._ending[kind] += 1
            self._wake()
        try:
            yield
        finally:
            if early:
                self._taken[kind] += 1
                self._ending[kind] -= 1

    async def _tell_start(self, work: Work, pid: int | None, pid_start: str | None) -> None:
        try:
            held = await self._queue.started(work.lease, pid=pid, pid_start=pid_start)
        except Exception as error:  # noqa: BLE001 - it runs; a queue that is away is told of the end
            log.warning("a start cannot be told", job=work.claim.job.id, reason=str(error) or repr(error))
            return
        if held is False and self._works.get(work.lease) is work:
            work.stop("lost", "its lease was lost", at_once=True)

    async def _run(self, work: Work) -> End:
        async def began(pid: int | None, pid_start: str | None) -> None:
            assert self._tasks is not None
            # Whoever ends before the start is stored need not wait for that.
            self._tasks.start_soon(self._tell_start, work, pid, pid_start)

        try:
            if self._draining:
                work.stop("lost", "its worker was stopped")
            return await work.run(began)
        except Exception as error:
            log.exception("an attempt broke its worker", job=work.claim.job.id)
            failed = {"exception": type(error).__name__, "message": str(error), "traceback": []}
            return End(outcome="fail", error=failed, output_bytes=work.output.size)

    async def _finish(self, claim: Claim, end: End, until: Callable[[], float]) -> None:
        """Tell the end, again and again while the lease may hold."""
        for failures in itertools.count():
            try:
                if not await self._queue.finish(claim.lease, end):
                    log.warning("an end came too late", job=claim.job.id, step=claim.step.idx, outcome=end.outcome)
                return
            except Exception as error:  # noqa: BLE001 - as above
                wait = Backoff().delay(failures)
                if self._monotonic() + wait > until():
                    log.error("an end is lost", job=claim.job.id, outcome=end.outcome, reason=str(error) or repr(error))
                    return
                log.warning("an end cannot be told yet", job=claim.job.id, reason=str(error) or repr(error))
                await anyio.sleep(wait)

    # Leases

    async def _renew_leases(self) -> None:
        while True:
            await self._some()
            shortest = min((work.claim.lease_seconds for work in self._works.values()), default=RENEW_MOST)
            await anyio.sleep(min(RENEW_MOST, shortest / 3))
            if self._works:
                await self._renew(dict(self._works))

    async def _renew(self, works: dict[str, Work]) -> None:
        asked = self._monotonic()
        try:
            with anyio.fail_after(max(RENEW_MOST, min(work.claim.lease_seconds for work in works.values()) / 3)):
                held = await self._queue.renew(list(works))
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("leases cannot be renewed", worker=self.worker.id, reason=str(error) or repr(error))
            for work in works.values():
                # In time for the end of the group, before somebody else is given the step.
                if self._monotonic() + self.limits.kill_grace >= work.until:
                    work.stop("lost", "its lease could not be renewed", at_once=self._monotonic() >= work.until)
            return
        for lease, work in works.items():
            if lease in held:
                work.until = asked + work.claim.lease_seconds
            else:
                work.stop("killed", "killed on request, or its lease was lost")

    # Progress and output

    async def _look(self) -> None:
        while True:
            await self._some()
            await anyio.sleep(LOOK)
            await self._tell_progress(list(self._works.values()))
            self._watch_outputs()

    async def _tell_progress(self, works: list[Work]) -> None:
        for work in works:
            said, work.said = work.said, None
            if said is not None:
                try:
                    await self._queue.progress(work.lease, *said)
                except Exception as error:  # noqa: BLE001 - the next word replaces it
                    log.debug("progress cannot be told", job=work.claim.job.id, reason=str(error) or repr(error))

    def _watch_outputs(self) -> None:
        """End what passes the cap, and what has grown on a disk that is full: who writes nothing does not fill it.

        It looks at what runs now: what has ended while progress was told has no open output any more.
        """
        for work in self._works.values():
            try:
                self._watch_output(work)
            except OSError as error:
                log.warning("an output cannot be looked at", job=work.claim.job.id, reason=str(error))

    def _watch_output(self, work: Work) -> None:
        size = work.output.size
        if size > self.limits.output_cap:
            work.stop("output_limit", f"its output has passed {self.limits.output_cap} bytes", at_once=True)
        elif size > work.seen_size and work.output.disk_use >= self.limits.disk_ceiling:
            work.stop("output_limit", f"the disk is {work.output.disk_use:.0%} full", at_once=True)
        work.seen_size = size

    # Waiting for one another

    async def _some(self) -> None:
        """Wait until something runs: a worker without work has no timers."""
        while not self._works:
            if self._began.is_set():
                self._began = anyio.Event()
            await self._began.wait()

    def _wake(self) -> None:
        self._changes += 1
        self._changed.set()
        self._changed = anyio.Event()

    async def _change(self) -> None:
        await self._changed.wait()
