"""The heart of the dispatcher: turns.

Everything that happens to a process (accepted, started, ended, killed, lost) is put into an inbox. One task takes the
inbox as a whole and makes a turn of it: it applies all to the immutable jobs, gives free slots away, and commits the
lot, rows and records, as one transaction. Only then does the outside world hear of it: the leased attempts are sent to
the executor, its exits acknowledged, signals sent, callers answered. While one turn is being committed the next inbox
fills, so the more happens, the larger the turns, and the price of a commit is shared.

The alternative, a task for each process that awaits its own commits, reads well for one process and costs three
commits for each; and two tasks that decide about one lane need a lock around a commit, which is the same queue with
worse batches.

Order within a turn: new jobs, then ends, then kills, then leases. So a slot that an end frees is filled in the same
commit, a job may be accepted and killed in one turn, and a process that has ended by itself is not reported as killed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anyio
import anyio.to_thread

from sysadmd.auth.trail import NoTrail, Trail
from sysadmd.dispatcher import payloads
from sysadmd.dispatcher.attempts import Attempts, job_id_of
from sysadmd.dispatcher.inbox import Accepted, Ended, Inbox, KillRequest
from sysadmd.dispatcher.lanes import Lanes
from sysadmd.dispatcher.launcher import Launcher
from sysadmd.dispatcher.link import Link
from sysadmd.dispatcher.output import OutputFiles, close_all
from sysadmd.dispatcher.report import Reporter, Story
from sysadmd.dispatcher.turn import Turn
from sysadmd.dispatcher.watch import OutputWatch, Watched
from sysadmd.errors import Unavailable
from sysadmd.events.log import EventLog
from sysadmd.executor.protocol import Started
from sysadmd.jobs import transitions
from sysadmd.jobs.ids import new_lease
from sysadmd.jobs.model import Attempt, Job
from sysadmd.limits import Limits

log = logging.getLogger(__name__)

INLINE_FILES = 8
"""Files that are made in the loop, some 15 microseconds each; a thread for so few costs more than they do."""
RETRY = 1.0
"""Seconds until a turn that could not be committed is tried again."""


class Scheduler:
    """The live jobs and the task that moves them."""

    def __init__(
        self,
        events: EventLog,
        link: Link,
        files: OutputFiles,
        lanes: Lanes,
        launcher: Launcher,
        *,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self.trail: Trail = NoTrail()
        self._events, self._link, self._files, self.lanes, self._clock = events, link, files, lanes, clock
        self.live: dict[str, Job] = {}
        self.names: dict[str, str] = {}
        """process_id -> job id of every job that is live or on its way into the store."""
        self.watch = OutputWatch(files, limits)
        self.reporter = Reporter(files, limits)
        self.attempts = Attempts(self.live, link, files, launcher, ended=self._ended, ready=self.refresh)
        self._inbox = Inbox()
        self._wake = asyncio.Event()
        self._stopping = False
        self._due: dict[str, None] = {}
        """Jobs with a slot whose next command is to be leased."""
        self._waiters: dict[str, list[asyncio.Future[Job]]] = {}

    # ---- what others ask for

    def load(self, jobs: Iterable[Job]) -> None:
        """Take over the stored jobs that are not final, oldest first."""
        for job in jobs:
            self.live[job.id] = job
            self.names[job.ext_id] = job.id
            attempt = job.live_attempt
            if attempt is not None:
                self.watch.add(attempt, attempt.output_bytes)
        self._take_slots()

    def accept(self, jobs: Sequence[Job]) -> asyncio.Future[None]:
        """Queue new jobs, whose names must be free; resolves when they are stored."""
        self._refuse_when_stopping()
        self.names.update((job.ext_id, job.id) for job in jobs)
        accepted = Accepted(jobs, asyncio.get_running_loop().create_future())
        self._inbox.accepted.append(accepted)
        self._wake.set()
        return accepted.stored

    def kill(self, process_ids: Sequence[str], by: str) -> asyncio.Future[list[str]]:
        """Ask for the end of processes; resolves to those that were live, when that is stored."""
        self._refuse_when_stopping()
        request = KillRequest(process_ids, by, asyncio.get_running_loop().create_future())
        self._inbox.kills.append(request)
        self._wake.set()
        return request.matched

    def final(self, job_id: str) -> asyncio.Future[Job]:
        """Resolves to the job, which must be live or accepted, when it is final."""
        waiter: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, []).append(waiter)
        return waiter

    def refresh(self) -> None:
        """Make a turn: who may run has changed."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the turn that is under way. Attempts go on."""
        self._stopping = True
        self._wake.set()

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise Unavailable("the server is stopping")

    # ---- turns

    async def run(self) -> None:
        """Make turns until stopped."""
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            if not self._stopping:
                await self._turn()
        await self._last_turn()

    async def _turn(self) -> None:
        inbox, self._inbox = self._inbox, Inbox()
        turn = Turn(self.live)
        for accepted in inbox.accepted:
            for job in accepted.jobs:
                turn.put(job, payloads.pending(job))
                self.lanes.add(job)
        self._record_pids(turn, inbox.started)
        unwatched = await self._record_ends(turn, inbox.ended)
        signals = self._record_kills(turn, inbox.kills)
        leased = self._lease(turn)
        outputs: list[int | OSError] = []
        if turn.changes:
            try:
                committed = self._events.submit(turn.write)
                outputs = await self._open_outputs(leased)
                await committed
            except BaseException as error:
                close_all(outputs)
                if not isinstance(error, Exception):
                    raise
                # Whatever the store raises, the dispatcher goes on.
                await self._put_back(inbox, unwatched, signals, error)
                return
        self._settle(turn)
        inbox.answer()
        for ended in inbox.ended:
            self.attempts.settled(ended)
        self._link.acknowledge(ended.attempt_id for ended in inbox.ended)
        for attempt_id in signals:
            self.attempts.kill(attempt_id)
        for attempt, output in zip(leased, outputs, strict=True):
            self.watch.add(attempt)
            self.attempts.send(attempt, output)

    async def _open_outputs(self, leased: Sequence[Attempt]) -> list[int | OSError]:
        """Make the files while the writer thread has the commit. One whose lease is not stored stays behind, empty."""
        if len(leased) > INLINE_FILES:
            return await anyio.to_thread.run_sync(self._files.open_all, leased)
        await asyncio.sleep(0)  # the log hands over in the next step of the loop
        return self._files.open_all(leased)

    def _record_pids(self, turn: Turn, frames: Iterable[Started]) -> None:
        for frame in frames:
            job = turn.job(job_id_of(frame.attempt))
            attempt = job.live_attempt if job else None
            if job is not None and attempt is not None and attempt.lease == frame.lease and attempt.pid is None:
                start = str(frame.pid_start)
                turn.put(transitions.started(job, lease=frame.lease, pid=frame.pid, pid_start=start, at=frame.time))

    async def _record_ends(self, turn: Turn, ends: Sequence[Ended]) -> list[Watched]:
        """Finish the attempts and tell of it; returns what is no longer watched."""
        stories = []
        for ended in ends:
            job = turn.job(job_id_of(ended.attempt_id))
            attempt = job.live_attempt if job else None
            if job is None or attempt is None or (attempt.id, attempt.lease) != (ended.attempt_id, ended.lease):
                continue  # told before: its acknowledgement was lost on the way
            watched = self.watch.pop(attempt.id) or Watched(attempt, attempt.output_bytes, 0)
            end = self.reporter.judge(job, ended, watched)
            job = transitions.finish(job, end, lease=ended.lease, now=self._clock())
            turn.put(job)
            stories.append(Story(job, watched))
            if job.final:
                self.lanes.remove(job)
            else:
                self._due[job.id] = None
        turn.drafts += await self.reporter.drafts(stories)
        return [story.watched for story in stories]

    def _record_kills(self, turn: Turn, requests: Sequence[KillRequest]) -> list[str]:
        """Kill what is live; returns the attempts to be signalled."""
        signals = []
        for request in requests:
            for process_id in dict.fromkeys(request.process_ids):
                job = turn.job(self.names.get(process_id, ""))
                if job is None or job.final:
                    continue
                request.found.append(process_id)
                job = transitions.kill(job, by=request.by, now=self._clock())
                attempt = job.live_attempt
                if attempt is None:
                    turn.put(job, self.reporter.finished(job))
                    self.lanes.remove(job)
                else:
                    turn.put(job)
                    signals.append(attempt.id)
        return signals

    def _lease(self, turn: Turn) -> list[Attempt]:
        """Give free slots away, and lease the next command of each job that has one, if an executor is there to take
        it.
        """
        self._due.update(dict.fromkeys(self.lanes.grant()))
        instance = self._link.instance
        if instance is None or not self._due:
            return []
        leased, now = [], self._clock()
        for job_id in self._due:
            job = turn.job(job_id)
            idx = None if job is None else transitions.claimable(job)
            if job is None or idx is None:
                continue
            path = self._files.path_of(job_id, idx, job.steps[idx].tries_used + 1)
            after = transitions.lease(job, lease=new_lease(), instance=instance, output_path=path, now=now)
            turn.put(after, *([payloads.started(after)] if job.started_at is None else []))
            attempt = after.steps[idx].attempt
            assert attempt is not None
            leased.append(attempt)
            self._note(after, attempt)
        self._due.clear()
        return leased

    def _note(self, job: Job, attempt: Attempt) -> None:
        """Record that a command is about to start: before its lease is stored, so that none runs without. Of its
        arguments, which may be secrets, it is the call's record that tells what may be told.
        """
        where: dict[str, Any] = {"job": job.id, "process_id": job.ext_id, "command": attempt.idx, "lane": job.lane}
        program = job.steps[attempt.idx].argv[0]
        self.trail.record("process_start", account=job.owner, **where, program=program, user=job.user)

    def _settle(self, turn: Turn) -> None:
        """The commit has happened: the new values are the present ones."""
        for job_id, (_, job) in turn.changes.items():
            if not job.final:
                self.live[job_id] = job
                continue
            self.live.pop(job_id, None)
            if self.names.get(job.ext_id) == job_id:
                del self.names[job.ext_id]
            for waiter in self._waiters.pop(job_id, ()):
                if not waiter.done():
                    waiter.set_result(job)

    async def _put_back(
        self, inbox: Inbox, unwatched: Iterable[Watched], signals: Iterable[str], error: Exception
    ) -> None:
        """The commit has failed (a full disk): callers hear of it, the rest is tried again.

        What was to be killed is signalled all the same: ending it may be what frees the disk.
        """
        log.error("the store refused a change, trying again in %.0f s: %s", RETRY, error)
        refusal = error if isinstance(error, Unavailable) else Unavailable(f"the change cannot be stored: {error}")
        inbox.refuse(refusal)
        for accepted in inbox.accepted:
            for job in accepted.jobs:
                self.names.pop(job.ext_id, None)
                _fail(self._waiters.pop(job.id, ()), refusal)
        for attempt_id in signals:
            self.attempts.kill(attempt_id)
        for watched in unwatched:
            self.watch.restore(watched)
        self._inbox.ended[:0] = inbox.ended
        self._inbox.started[:0] = inbox.started
        self._take_slots()
        with anyio.move_on_after(RETRY):
            while not self._stopping:
                self._wake.clear()
                await self._wake.wait()
        self._wake.set()

    def _take_slots(self) -> None:
        """Begin the lanes' bookkeeping again from the stored jobs."""
        self.lanes.rebuild(self.live.values())
        self._due = {job.id: None for job in self.live.values() if job.state == "running" and job.live_attempt is None}
        self._wake.set()

    async def _last_turn(self) -> None:
        """Turn away what still waits, and store how far the outputs have been told."""
        stopping = Unavailable("the server is stopping")
        self._inbox.refuse(stopping)
        _fail((one for waiters in self._waiters.values() for one in waiters), stopping)
        turn = Turn(self.live)
        for watched in self.watch.all():
            job = self.live.get(watched.attempt.job_id)
            if job is not None and watched.reported != watched.attempt.output_bytes:
                lease = watched.attempt.lease
                turn.put(transitions.reported(job, lease=lease, output_bytes=watched.reported))
        if turn.changes:
            try:
                await self._events.submit(turn.write)
            except Exception as error:  # noqa: BLE001  # the end goes on; the next server tells some output twice
                log.warning("how far the outputs have been told could not be stored: %s", error)

    def _ended(self, ended: Ended) -> None:
        self._inbox.ended.append(ended)
        self._wake.set()

    # ---- the look, once a second

    async def look(self) -> None:
        """Tell what running processes wrote, end those above their limits, store pids, send again what was refused."""
        for growth in await self.watch.look():
            attempt = growth.watched.attempt
            job = self.live.get(attempt.job_id)
            if job is None:
                continue
            if growth.text:
                self._events.publish(payloads.output(job, attempt.idx, growth.text))
            # Again while it grows: a signal is lost with the connection that carried it.
            if growth.over and self.attempts.stop_output(attempt.id) and not growth.watched.over:
                log.warning("ending %s: its output is above the limit, or the disk is nearly full", attempt.id)
                growth.watched.over = True
        started = self.attempts.take_started()
        if started:
            self._inbox.started += started
            self._wake.set()
        self.attempts.resend()

    def tell_waiting(self) -> None:
        """The repeated word of processes that a namespace has started and that wait for their lane."""
        for job in self.live.values():
            if job.event_system is not None and job.state == "pending":
                self._events.publish(payloads.waiting(job))


def _fail(waiters: Iterable[asyncio.Future[Job]], error: Exception) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error)
            waiter.exception()  # seen: who made it may have gone, and asyncio would complain
