"""The job queue as the rest of the server sees it.

A job is enqueued, claimed by a worker step by step, and ends; what happens to it is decided by pure functions
(lifecycle.py) in turns (asking.py), and told in events of the same transaction. Several servers may share one store:
everything that decides is in it. What is only in this process, leases and counts, makes that cheap (holdings.py).

Stated results for odd cases:

- A result under a lease that is over is refused with False; what its attempt wrote stays in its file.
- A job whose end was asked for ends as killed, whatever its attempt made of it.
- A worker that vanishes loses its leases after their time; the step is tried again if its job says so and tries are
  left. An attempt never counts twice.
- A job that is removed while it waits ends as killed, and leaves the queue at once; one that runs leaves it at its end.
- Complete jobs leave the queue by themselves; stopped ones stay until they are removed or restarted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import anyio
import anyio.abc
from sqlalchemy import Connection

from sysadmd.config import Config
from sysadmd.errors import BadRequest, TooManyRequests
from sysadmd.events.log import EventLog
from sysadmd.jobs import controlling, ending, enqueueing
from sysadmd.jobs.asking import Ask, Asking, Phase
from sysadmd.jobs.claiming import ClaimRequest, claim
from sysadmd.jobs.ending import Progress
from sysadmd.jobs.holdings import Holding, Holdings
from sysadmd.jobs.ids import JobIds, job_ids
from sysadmd.jobs.presence import Presence
from sysadmd.jobs.queue_reads import JobReader
from sysadmd.jobs.retention import Pruning
from sysadmd.jobs.spec import JobSpec, checked
from sysadmd.jobs.summary import Tally
from sysadmd.jobs.turn import Turn
from sysadmd.jobs.upkeep import Upkeep
from sysadmd.jobs.views import (
    Claim,
    End,
    JobView,
    SummaryRow,
    Worker,
    WorkerView,
)
from sysadmd.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

OUTPUT_DIRECTORY = "output"
"""Where attempts write, in the state directory."""
ENQUEUE_MAX = 10_000
"""Jobs of one `enqueue_many`: it is one transaction, and others wait for it."""
CLAIM_MAX = 1000
"""Steps of one claim."""
IDS_MAX = 10_000
"""Jobs of one kill or remove."""


class Queue(JobReader):
    """Jobs of the kinds `task` and `transfer`. Every method belongs to the event loop's thread."""

    def __init__(
        self,
        store: Store,
        events: EventLog,
        config: Config,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        ids: JobIds | None = None,
    ) -> None:
        super().__init__(store)
        self.config = config
        self._store, self._clock, self._monotonic = store, clock, monotonic
        self._ids = ids or job_ids()
        self._asking = Asking(events, self._turn, self._landed)
        self._holdings = Holdings()
        self._tally = Tally()
        self._presence = Presence(self._holdings)
        self._outcomes: Counter[str] = Counter()
        self._work: dict[asyncio.Event, frozenset[str]] = {}
        self._upkeep = Upkeep(
            self._asking,
            store,
            events,
            holdings=self._holdings,
            tally=self._tally,
            config=config,
            clock=clock,
            monotonic=monotonic,
        )
        self._pruning = Pruning(
            store, events, retention=config.retention, output=config.state_dir / OUTPUT_DIRECTORY, clock=clock
        )
        self.wakes = 0
        """How often those who wait for work were woken. Who asks over a socket may compare it with what it was at a
        claim: between the answer to that and the wait, a message may take any time.
        """
        self.on_kill: list[Callable[[str], None]] = []
        """Called with each lease whose job was asked to end, so that a worker of this process need not wait for its
        next renewal."""

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Own the timers: due jobs, leases that run out, flags, schedules, summaries, retention. The event log must be
        running.
        """
        self._tally.load(await self._store.read(self._tally.read))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pruning.run)
            await self._upkeep.run(task_status=task_status)

    def reconfigure(self, config: Config) -> None:
        """Take over changed settings."""
        self.config = config
        self._upkeep.reconfigure(config)
        self._pruning.retention = config.retention

    # ---- enqueue

    async def enqueue(self, spec: JobSpec, *, owner: str, request_key: str | None = None) -> JobView:
        """Store a job. The same `request_key` of the same owner within a day gives the job that it made first.

        Raises BadRequest, PayloadTooLarge, Conflict (a unique key or ext_id that is taken), Unavailable.
        """
        return (await self._enqueue([checked(spec)], owner, request_key))[0]

    async def enqueue_many(self, specs: Sequence[JobSpec], *, owner: str) -> list[JobView]:
        """Store jobs, all or none. Raises as `enqueue` does, TooManyRequests for more than ENQUEUE_MAX."""
        if len(specs) > ENQUEUE_MAX:
            raise TooManyRequests(f"{len(specs)} jobs at once are more than {ENQUEUE_MAX}")
        if not specs:
            return []
        paths = (f"args.{index}" for index in range(len(specs)))
        return await self._enqueue([checked(spec, path) for spec, path in zip(specs, paths, strict=False)], owner, None)

    async def _enqueue(self, specs: list[JobSpec], owner: str, request_key: str | None) -> list[JobView]:
        if request_key is not None and not 0 < len(request_key) <= 256:
            raise BadRequest(
                "args.request_key: 1 to 256 characters", path="args.request_key", rule="1 to 256 characters"
            )
        found: list[JobView] = await self._asking.ask(
            Phase.ENQUEUE,
            lambda turn, taken: enqueueing.enqueue(turn, taken, specs, owner, request_key),
            specs=specs,
        )
        return found

    # ---- workers

    async def claim(self, worker: Worker, limit: int, kinds: frozenset[str]) -> list[Claim]:
        """Lease up to `limit` due steps of these kinds to a worker, best first; none while it is to leave.

        A claim that was stored while its caller went away is not lost: its leases run out.
        """
        self._presence.seen(worker, kinds, self._clock())
        if limit < 1 or self._presence.halted(worker):
            return []
        request = ClaimRequest(worker, min(limit, CLAIM_MAX), kinds, dict(self._holdings.running(worker.id)))
        claims: list[Claim] = await self._asking.ask(Phase.CLAIM, lambda turn, _: claim(turn, request))
        return claims

    async def wait_work(self, kinds: frozenset[str], timeout: float, *, seen: int | None = None) -> bool:
        """Wait until something of these kinds may be claimable, or for `timeout` seconds (then False).

        To be called right after a claim that gave nothing, or less than asked for; `seen` is what `wakes` was before
        it: without, what became ready meanwhile is not seen. A worker should claim after a timeout too: another server
        may have enqueued.
        """
        if seen is not None and seen != self.wakes:
            return True
        event = asyncio.Event()
        self._work[event] = kinds
        try:
            with anyio.move_on_after(timeout):
                await event.wait()
        finally:
            del self._work[event]
        return event.is_set()

    def halted(self, worker: Worker) -> bool:
        """Whether a worker is to leave: `halt` was called after its start."""
        return self._presence.halted(worker)

    async def started(self, lease: str, *, pid: int | None = None, pid_start: str | None = None) -> bool:
        """The process of a claimed step is there. False: nothing is held under that lease."""
        held: bool = await self._asking.ask(
            Phase.REPORT, lambda turn, _: ending.started(turn, lease, pid, pid_start), leases=[lease]
        )
        return held

    async def renew(self, leases: Iterable[str]) -> set[str]:
        """Hold leases for longer; those that still hold. What others run must be stopped, and may then be finished."""
        now, seconds = self._monotonic(), self.config.jobs.lease
        holds, unknown = set(), []
        for lease in leases:
            holding = self._holdings.get(lease)
            if holding is None:
                unknown.append(lease)
            else:  # not reaped yet, so it is still theirs, however late
                holding.until = now + seconds
                if now - holding.stored >= seconds / 3:
                    holding.stored = now
                    self._store_renewal(lease)
                if not holding.ended:
                    holds.add(lease)
        if unknown:
            found = await self._asking.ask(Phase.REPORT, lambda turn, _: ending.adopt(turn, unknown), leases=unknown)
            for lease, (job, worker, ended) in found.items():
                self._holdings.add(Holding(lease, job.id, job.name, worker, now + seconds, now, ended=ended))
            holds |= {lease for lease, (_, _, ended) in found.items() if not ended}
        return holds

    def _store_renewal(self, lease: str) -> None:
        stored = self._asking.ask(Phase.REPORT, lambda turn, _: ending.renew(turn, lease), leases=[lease])
        stored.add_done_callback(lambda said: self._renewed(lease, said))

    def _renewed(self, lease: str, said: asyncio.Future[bool]) -> None:
        """What the store says of a renewal: another server may have asked for the job's end, or reaped it."""
        holding = self._holdings.get(lease)
        if said.cancelled() or holding is None:
            return
        if (error := said.exception()) is not None:
            holding.stored = 0.0
            log.warning("the renewal of a lease of job %s is not stored: %s", holding.job_id, error)
        elif not said.result():
            holding.ended = True

    async def progress(
        self,
        lease: str,
        value: float | None,
        message: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> bool:
        """Say how far an attempt is: 0 to 1, a message, JSON of its own. The latest is stored, at most once a second.

        False: nothing is held under that lease.
        """
        if value is not None and not 0 <= value <= 1:
            raise BadRequest(f"progress: {value} is not from 0 to 1", path="args.progress", rule="0 to 1")
        said = Progress(self._clock(), value, None if message is None else message[:1024], data)
        holding = self._holdings.get(lease)
        if holding is None:
            held: bool = await self._asking.ask(
                Phase.REPORT, lambda turn, _: ending.progress(turn, lease, said), leases=[lease]
            )
            return held
        before = holding.said
        if before is not None:
            said = Progress(
                said.at,
                said.value if said.value is not None else before.value,
                said.message if said.message is not None else before.message,
                said.data if said.data is not None else before.data,
            )
        holding.said = said
        if value is not None:
            holding.progress = value
            self._tally.dirty = True
        return True

    async def finish(self, lease: str, end: End) -> bool:
        """An attempt has ended. False: its lease is over, so the result comes too late or twice and changes nothing."""
        holding = self._holdings.get(lease)
        said = holding.said if holding is not None else None
        if holding is not None:
            holding.said = None
            self._holdings.over(lease)

        def call(turn: Turn, _: Any) -> bool:
            if said is not None:
                ending.progress(turn, lease, said)
            return ending.finish(turn, lease, end)

        known: bool = await self._asking.ask(Phase.REPORT, call, leases=[lease])
        self._holdings.drop(lease)
        if not known:
            log.warning("a result (%s) came under a lease that is over; its output is kept", end.outcome)
        return known

    # ---- people

    async def kill(self, ids: Iterable[str], by: str) -> list[str]:
        """Ask for the end of jobs, those that wait too; the ids of those that waited or ran."""
        return await self._control(ids, lambda turn, wanted: controlling.kill(turn, wanted, by))

    async def remove(self, ids: Iterable[str], by: str) -> list[str]:
        """Ask for jobs to leave the queue; the ids of those that were in it."""
        return await self._control(ids, lambda turn, wanted: controlling.remove(turn, wanted, by))

    async def restart(self, job_id: str, by: str) -> str:
        """Make a waiting job due now (the same id), or a stopped one anew (a new id). Raises NotFound, Conflict."""
        return await self._control([job_id], lambda turn, wanted: enqueueing.restart(turn, job_id, by))

    async def retry(self, job_id: str, by: str) -> str:
        """Let the failed steps of a stopped job wait again; its id. Raises NotFound, Conflict."""
        return await self._control([job_id], lambda turn, wanted: controlling.retry(turn, job_id, by))

    async def pause(self, lane: str | None, by: str) -> list[str]:
        """Start nothing new in a lane (None: in all); the lanes. Raises NotFound."""
        return await self._control([], lambda turn, _: controlling.pause(turn, lane, by))

    async def resume(self, lane: str | None, by: str) -> list[str]:
        """Undo `pause`. Raises NotFound."""
        lanes = await self._control([], lambda turn, _: controlling.pause(turn, lane, None))
        self._wake(None)
        return lanes

    async def halt(self, by: str) -> None:
        """Tell all workers that are there now to leave, after what they run."""
        log.info("%s asked all workers to leave", by)
        self._presence.halt(self._clock())
        self._wake(None)

    async def _control(self, ids: Iterable[str], call: Callable[[Turn, list[str]], T]) -> T:
        wanted = list(ids)
        if len(wanted) > IDS_MAX:
            raise TooManyRequests(f"{len(wanted)} jobs at once are more than {IDS_MAX}")
        result: T = await self._asking.ask(Phase.CONTROL, lambda turn, _: call(turn, wanted), ids=wanted)
        return result

    # ---- what is there

    def counts(self) -> dict[str, int]:
        """Jobs in the queue by state."""
        return self._tally.counts()

    def summary(self) -> list[SummaryRow]:
        """Jobs in the queue by name, state and flags, by state and name."""
        return self._tally.rows(self._holdings.progress())

    def outcomes(self) -> dict[str, int]:
        """Attempts that ended since this process began, by outcome (views.End)."""
        return dict(self._outcomes)

    def workers(self) -> list[WorkerView]:
        """Workers that claimed through this server and were heard of lately."""
        return self._presence.listed(self._clock())

    # ---- turns

    def _turn(self, connection: Connection) -> Turn:
        config = self.config
        return Turn(
            connection,
            now=self._clock(),
            ids=self._ids,
            lease_seconds=config.jobs.lease,
            most=config.limits.queued_jobs,
        )

    def _landed(self, turn: Turn, asks: Sequence[Ask]) -> None:
        """A turn is stored: what is in memory follows."""
        self._tally.move(turn.counts)
        self._outcomes.update(turn.outcomes)
        now = self._monotonic()
        for ask in asks:
            if ask.phase is Phase.CLAIM and ask.error is None:
                for one in ask.result:
                    self._hold(one, now)
        for job_id in turn.killed:
            for lease in self._holdings.end(job_id):
                for told in self.on_kill:
                    told(lease)
        self._upkeep.landed(turn)
        if turn.readied:
            self._wake(turn.readied)

    def _hold(self, claimed: Claim, now: float) -> None:
        job = claimed.job
        until = now + claimed.lease_seconds
        self._holdings.add(Holding(claimed.lease, job.id, job.name, job.worker or "", until, now, progress=0.0))

    def _wake(self, kinds: Iterable[str] | None) -> None:
        self.wakes += 1
        for event, wanted in self._work.items():
            if kinds is None or not wanted.isdisjoint(kinds):
                event.set()
