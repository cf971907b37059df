"""The dispatcher as the rest of the server sees it: run, list, kill, read, wait.

Stated results for odd cases:

- A command that cannot start has the return code "-1", its log says why, and its job is `error`. Death by a signal is
  "-<signal>".
- A result that died with its executor is "-1" with a last line that says so; the commands after it are not run.
- A killed process has one finished event, whenever it is killed; pending ones never start. What is killed while its
  last command ends by itself is `killed` if the request was stored first.
- A child that forks and leaves: what stays in its process group is ended with it (executor); what left it goes on, and
  what that writes later is in the file, so in `read_log`, and in no event.
- After a crash of this server, `output` events may repeat text that the crashed one had told; after a stop they go on
  where it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import anyio
import anyio.abc
from sqlalchemy import Connection

from sysadmd.auth.system_accounts import Verdict
from sysadmd.auth.trail import Trail
from sysadmd.config import Config
from sysadmd.dispatcher import payloads
from sysadmd.dispatcher.details import log_object, seed_state
from sysadmd.dispatcher.intake import Intake, Process
from sysadmd.dispatcher.lanes import Lanes
from sysadmd.dispatcher.launcher import Launcher
from sysadmd.dispatcher.link import ExecutorLink, Link
from sysadmd.dispatcher.output import DiskUse, OutputFiles, disk_use
from sysadmd.dispatcher.scheduler import Scheduler
from sysadmd.dispatcher.text import page
from sysadmd.errors import BadRequest, Forbidden, NotFound, Unavailable
from sysadmd.events.log import EventLog
from sysadmd.events.record import Draft
from sysadmd.executor.launch import spawn_detached
from sysadmd.executor.protocol import PAM, socket_path
from sysadmd.jobs import table
from sysadmd.jobs.ids import JobIds, job_ids
from sysadmd.jobs.model import Attempt, Job
from sysadmd.store import Store

log = logging.getLogger(__name__)

OUTPUT_DIRECTORY = "output"
PAGE_MAX = 256 * 1024
"""Bytes of one read_log answer."""
FOLLOW_POLL = 0.1
"""Seconds between two looks of a read_log that follows; the file has no other way to say that it grew."""
WAITING_EVERY = 2.0
"""Seconds between two `waiting` records of a process (spec sysadm §5.3)."""


class JobScope(Protocol):
    """Whose jobs a caller may see (auth.Scope)."""

    def may_job(self, name: str, right: str) -> bool:
        """Whether the caller has the right `read` or `run` to jobs of that name."""
        ...


class Dispatcher:
    """Processes in lanes. Every method belongs to the event loop's thread."""

    def __init__(
        self,
        store: Store,
        events: EventLog,
        config: Config,
        *,
        link: Link | None = None,
        launch_executor: bool = True,
        clock: Callable[[], float] = time.time,
        ids: JobIds | None = None,
        use: DiskUse = disk_use,
    ) -> None:
        self._store, self._events, self._config, self._clock = store, events, config, clock
        self._ids = ids or job_ids()
        self._files = OutputFiles(config.state_dir / OUTPUT_DIRECTORY, use)
        self._link = link or _executor_link(config, launch=launch_executor)
        self._scheduler = Scheduler(
            events,
            self._link,
            self._files,
            Lanes(config.lanes, config.limits.lane_parallel),
            Launcher(config),
            limits=config.limits,
            clock=clock,
        )
        self._intake = Intake(self._scheduler.lanes, self._scheduler.names, self._ids, clock)
        self._used_lanes: set[str] = set()
        self._running = False
        self._stopped = asyncio.Event()

    def record_in(self, trail: Trail) -> None:
        """From now on, say in the trail which commands are started."""
        self._scheduler.trail = trail

    # ---- life

    @property
    def connected(self) -> bool:
        """Whether an executor takes commands now."""
        return self._link.instance is not None

    @property
    def checks_passwords(self) -> bool:
        """Whether the executor can ask PAM now."""
        return self.connected and PAM in self._link.features

    async def check_password(self, name: str, password: str) -> Verdict | None:
        """What PAM says of an account of the machine; None: no. Raises Unavailable and TooManyRequests."""
        said = await self._link.authenticate(name, password)
        return Verdict(said.uid, frozenset(said.groups)) if said.ok and said.uid is not None else None

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Take over what the store has, then schedule until `close`. The event log must be running."""
        await self._store_lanes()
        live = await self._store.read(table.load_live)
        self._scheduler.load(live)
        self._used_lanes.update(job.lane for job in live)
        self._running = True
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._link.run, self._scheduler.attempts)
                tasks.start_soon(self._look)
                task_status.started()
                await self._scheduler.run()
                tasks.cancel_scope.cancel()
        finally:
            self._running = False
            self._stopped.set()

    async def close(self) -> None:
        """Stop scheduling, keeping what has happened. Attempts go on, and are adopted by the next server.

        Waits for the commit under way no longer than a drain: a disk that hangs must not keep the server from ending.
        """
        self._scheduler.stop()
        if self._running:
            with anyio.move_on_after(self._config.limits.drain) as waiting:
                await self._stopped.wait()
            if waiting.cancelled_caught:
                log.error(
                    "the last changes are not stored after %g s; they come again from the executor",
                    self._config.limits.drain,
                )

    def reconfigure(self, config: Config) -> None:
        """Take over changed lanes, limits and command settings; what runs keeps what it was started with."""
        self._config = config
        self._scheduler.lanes.configure(config.lanes, config.limits.lane_parallel)
        self._scheduler.watch.limits = self._scheduler.reporter.limits = config.limits
        self._scheduler.attempts.launcher = Launcher(config)
        if self._running:
            self._store_lanes().add_done_callback(_tell_failure)
        self._scheduler.refresh()

    def _store_lanes(self) -> asyncio.Future[None]:
        lanes = dict(self._config.lanes)

        def write(connection: Connection) -> tuple[None, Sequence[Draft]]:
            table.store_lanes(connection, lanes)
            return None, ()

        return self._events.submit(write)

    async def _look(self) -> None:
        waiting = 0.0
        while True:
            interval = self._config.limits.running_update
            await anyio.sleep(interval)
            await self._scheduler.look()
            waiting += interval
            if waiting >= WAITING_EVERY:
                waiting = 0.0
                self._scheduler.tell_waiting()

    # ---- run and kill

    async def start(
        self,
        processes: Mapping[str, Process],
        owner: str,
        *,
        event_system: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Queue one process for each id, all or none; the sorted ids, once they are stored.

        `event_system` and `extra` go into the events of what a namespace starts (payloads.py). Raises BadRequest for
        ids, commands and settings that cannot be, Conflict for an id that waits or runs, TooManyRequests, Unavailable.
        """
        jobs = self._intake.jobs(processes, owner, event_system=event_system, extra=extra)
        self._used_lanes.update(job.lane for job in jobs)
        await self._scheduler.accept(jobs)
        return sorted(processes)

    async def execute(self, process: Process, owner: str) -> dict[str, Any]:
        """Run one process to its end and return its log object. Killed when the caller no longer waits."""
        process_id = f"exec-{self._ids(self._clock())}"
        jobs = self._intake.jobs({process_id: process}, owner)
        self._used_lanes.update(job.lane for job in jobs)
        stored, final = self._scheduler.accept(jobs), self._scheduler.final(jobs[0].id)
        try:
            await stored
            job = await final
        except asyncio.CancelledError:
            if process_id in self._scheduler.names:
                with contextlib.suppress(Unavailable):
                    self._scheduler.kill([process_id], owner).cancel()
            raise
        texts = await anyio.to_thread.run_sync(self._scheduler.reporter.texts, job)
        return log_object(job, texts)

    async def kill(self, process_ids: Sequence[str], by: str = "") -> list[str]:
        """End processes, pending ones too; those of the ids that waited or ran, once the request is stored."""
        return await self._scheduler.kill(process_ids, by)

    async def wait(self, process_id: str) -> Job:
        """The job of that id when it is final, at once if it is already. Raises NotFound."""
        job_id = self._scheduler.names.get(process_id)
        if job_id is not None:
            return await self._scheduler.final(job_id)
        return await self._stored(process_id)

    # ---- list and read

    def figures(self) -> dict[str, int]:
        """Live processes by state."""
        found = {"pending": 0, "running": 0}
        for job in self._scheduler.live.values():
            found[seed_state(job)] += 1
        return found

    def snapshot(self) -> list[Draft]:
        """Where each live process stands, for a subscriber that begins with what is."""
        live = self._scheduler.live.values()
        return [payloads.pending(job) if seed_state(job) == "pending" else payloads.started(job) for job in live]

    async def listing(
        self, scope: JobScope | None = None, *, lane: str | None = None, history: bool = False
    ) -> dict[str, dict[str, Any]]:
        """Lane to process_id to {commands, state, queue_position in serial lanes}; without a scope, of everybody.

        Lanes that have been used since the start are there even when empty, as is the one asked for. With `history` the
        newest finished processes too. Raises BadRequest for an unknown lane.
        """
        lanes = self._scheduler.lanes
        if lane is not None and not lanes.knows(lane):
            rule = f"one of {', '.join(lanes.names())}"
            raise BadRequest(f"args.lane: there is no lane {lane!r}, only {rule}", path="args.lane", rule=rule)
        wanted = self._used_lanes if lane is None else {lane}
        found: dict[str, dict[str, Any]] = {name: {} for name in sorted(wanted)}
        if history:
            finished = await self._store.read(lambda connection: table.load_finished(connection, lane))
            for job in _readable(finished, scope):
                found.setdefault(job.lane, {})[job.ext_id] = _entry(job, None)
        live = self._scheduler.live
        for one in lanes:
            entries = [(live[job_id], place) for job_id, place in one.positions() if job_id in live]
            visible = {job.id for job in _readable((job for job, _ in entries), scope)}
            if one.name in found:
                found[one.name].update(
                    (job.ext_id, _entry(job, place if one.serial else None))
                    for job, place in entries
                    if job.id in visible
                )
        return found

    async def read_log(
        self,
        scope: JobScope | None = None,
        *,
        process_id: str,
        command: int | None = None,
        offset: int = 0,
        length: int = 64 * 1024,
        follow: float = 0.0,
    ) -> dict[str, Any]:
        """A part of a command's output, from byte `offset` on, about `length` bytes, cut at a character's boundary.

        `command` counts from 0; None is the one that runs or was begun last. `follow` waits so many seconds for more
        when there is nothing new yet. `eof`: the command has ended and this is its last part. Raises NotFound,
        Forbidden, BadRequest.
        """
        if offset < 0 or length < 1:
            raise BadRequest("args: offset counts from 0 and length from 1", path="args.offset", rule="not negative")
        deadline = anyio.current_time() + follow
        while True:
            job = await self._find(process_id)
            if scope is not None and not scope.may_job(job.name, "read"):
                raise Forbidden(f"the output of {process_id!r} is not yours to read")
            idx = _command_index(job, command)
            attempt, ended = job.steps[idx].attempt, _ended(job, idx)
            text, reached = self._page(attempt, offset, min(length, PAGE_MAX), ended=ended)
            left = deadline - anyio.current_time()
            if reached > offset or ended or left <= 0:
                break
            await anyio.sleep(min(FOLLOW_POLL, left))
        size = 0 if attempt is None else self._files.size(attempt.output_path)
        return {
            "process_id": process_id,
            "command": idx,
            "offset": offset,
            "next_offset": reached,
            "data": text,
            "eof": ended and reached >= size,
            "state": seed_state(job),
        }

    def _page(self, attempt: Attempt | None, offset: int, length: int, *, ended: bool) -> tuple[str, int]:
        if attempt is None:
            return "", offset
        return page(self._files.reader(attempt.output_path), offset, length, ended=ended)

    async def _find(self, process_id: str) -> Job:
        live = self._scheduler.live.get(self._scheduler.names.get(process_id, ""))
        return live if live is not None else await self._stored(process_id)

    async def _stored(self, process_id: str) -> Job:
        job = await self._store.read(lambda connection: table.find_process(connection, process_id))
        if job is None:
            raise NotFound(f"there is no process {process_id!r}", path="args.process_id")
        return job


def _tell_failure(stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        log.error("changed lanes could not be stored, new ones take no process until the next reload: %s", error)


def _executor_link(config: Config, *, launch: bool) -> ExecutorLink:
    server = f"{config.node} {os.getpid()}"
    socket = config.dispatcher.executor_socket
    if socket is not None:
        return ExecutorLink(socket, server=server)  # it is root's, so it is not for us to start
    state_dir = config.state_dir
    # A log of its own: on the server's standard error it would keep pipes open after the server's end.
    log = state_dir / "executor.log"
    start = (lambda: spawn_detached(state_dir, log_file=log)) if launch else None
    return ExecutorLink(socket_path(state_dir), server=server, launch=start)


def _readable(jobs: Iterable[Job], scope: JobScope | None) -> Iterable[Job]:
    return (job for job in jobs if scope is None or scope.may_job(job.name, "read"))


def _entry(job: Job, place: int | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"commands": [step.text for step in job.steps], "state": seed_state(job)}
    if place is not None:
        entry["queue_position"] = str(place)
    return entry


def _command_index(job: Job, command: int | None) -> int:
    if command is None:
        return max((step.idx for step in job.steps if step.attempt is not None), default=0)
    if not 0 <= command < len(job.steps):
        text = f"{job.ext_id!r} has {len(job.steps)} commands, counted from 0; there is no {command}"
        raise NotFound(text, path="args.command")
    return command


def _ended(job: Job, idx: int) -> bool:
    """Whether the command writes no more, or never will."""
    attempt = job.steps[idx].attempt
    return job.final if attempt is None else attempt.outcome is not None
