"""What the queue does by the clock.

========== ================================================================================================
due jobs   retries, deferred and postponed jobs become ready at their time; a deferral beyond its budget ends
leases     those that ran out end their attempts as lost
progress   what workers reported is stored, at most once a second for each attempt
schedules  what the clock enqueues (schedule.py)
flags      jobs that run for too long, or without a word of progress
summary    how many jobs there are, when that has changed, at most every three seconds
========== ================================================================================================

*Clocks.* Times in the store are wall-clock times, since another server, or the next one, must understand them. Waits
here run by the monotonic clock. When the wall clock is set forward, every stored lease looks over at once; so after a
jump nothing is reaped for the length of a lease, in which living workers renew. When it is set back, a stored lease
or a retry may look as far away as the jump; what lies further ahead than it was ever put is brought back
(flagging.py). And when this process stood still for long, its own workers did too: their leases wait with them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import anyio
import anyio.abc
from sqlalchemy import Connection, func, select

from sysadmd.config import Config
from sysadmd.errors import SysadmdError
from sysadmd.events.log import EventLog
from sysadmd.jobs import ending, flagging, lifecycle
from sysadmd.jobs.asking import Asking, Phase
from sysadmd.jobs.holdings import Holdings
from sysadmd.jobs.summary import Tally, summary_draft
from sysadmd.jobs.turn import Turn
from sysadmd.store import Store
from sysadmd.store.tables import job as jobs

log = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks at the clock; a look costs microseconds when nothing is due."""
DUE_MAX = 1000
"""Jobs that become ready in one turn."""
PROGRESS_EVERY = 1.0
SUMMARY_EVERY = 3.0
FLAGS_EVERY = 10.0
LOOK_EVERY = 15.0
"""Seconds between two looks for due jobs and counts of other servers."""
FAILED = 5.0
"""Seconds until upkeep that failed is tried again."""
JUMP = 5.0
"""Seconds by which the two clocks may differ between two looks: more than a stalled process explains."""


class Upkeep:
    """The timers of one queue. `landed` hears of each turn that was stored."""

    def __init__(
        self,
        asking: Asking,
        store: Store,
        events: EventLog,
        *,
        holdings: Holdings,
        tally: Tally,
        config: Config,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._asking, self._store, self._events = asking, store, events
        self._holdings, self._tally, self._config = holdings, tally, config
        self._clock, self._monotonic = clock, monotonic
        self._next_due: float | None = None
        self._due: dict[str, float] = {}
        self._offset = clock() - monotonic()
        self._stirred = asyncio.Event()
        self._looked: float | None = None
        self._grace = 0.0
        self._next_schedule: float | None = 0.0
        self._jumped = True
        """At the start too: the clock may have been set while no server was there."""

    def reconfigure(self, config: Config) -> None:
        """Take over changed settings."""
        self._config = config
        self._next_schedule = 0.0
        self._stirred.set()

    def landed(self, turn: Turn) -> None:
        """When to look for due jobs next."""
        self._stirred.set()
        if turn.next_due is not None:
            self._next_due = turn.next_due if self._next_due is None else min(self._next_due, turn.next_due)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look at the clock for ever. What fails is tried again at its next time."""
        task_status.started()
        while True:
            try:
                await self.look()
            except SysadmdError as error:
                log.error("the upkeep of the job queue failed, it is tried again: %s", error)
                await anyio.sleep(FAILED)
            except Exception:
                log.exception("the upkeep of the job queue failed, it is tried again")
                await anyio.sleep(FAILED)
            await anyio.sleep(TICK)
            await self._rest()

    async def _rest(self) -> None:
        """Wait until there may be something to do: an idle queue wakes nobody."""
        if len(self._holdings) or self._tally.dirty:
            return
        now = self._clock()
        times = [time - now for time in (self._next_due, self._next_schedule) if time is not None]
        self._stirred.clear()
        with anyio.move_on_after(max(0.0, min([LOOK_EVERY, *times]))):
            await self._stirred.wait()
        self._looked = None

    async def look(self) -> None:
        """Do what is due now."""
        self._notice_jump()
        now = self._monotonic()
        self._notice_standstill(now)
        if self._is_due("look", now, LOOK_EVERY):
            await self._look_around()
        if self._jumped and self._next_due is not None:
            await self._asking.ask(Phase.CONTROL, lambda turn, _: flagging.pull_back(turn))
        self._jumped = False
        if self._next_due is not None and self._next_due <= self._clock():
            self._next_due = None
            await self._asking.ask(Phase.CONTROL, lambda turn, _: make_due(turn))
        await self._run_schedules()
        await self._store_progress(now)
        running = self._tally.counts().get("running", 0) > 0 or len(self._holdings) > 0
        if running and self._is_due("reap", now, self._config.jobs.lease / 3):
            await self._reap(now)
        if running and self._is_due("flags", now, FLAGS_EVERY):
            await self._asking.ask(Phase.CONTROL, lambda turn, _: flagging.flag(turn))
        if self._tally.dirty and self._is_due("summary", now, SUMMARY_EVERY):
            self._tally.dirty = False
            self._events.publish(summary_draft(self._tally.rows(self._holdings.progress())))

    async def _run_schedules(self) -> None:
        """Enqueue what the clock says. Look again at the next time of a schedule, which may be changed by others."""
        wanted = self._config.schedules
        if not wanted:
            self._next_schedule = None
        if self._next_schedule is None or self._next_schedule > self._clock():
            return
        from sysadmd.jobs.schedule import run_due

        self._next_schedule = await self._asking.ask(Phase.CONTROL, lambda turn, _: run_due(turn, wanted))

    def _is_due(self, what: str, now: float, every: float) -> bool:
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every
        return True

    def _notice_jump(self) -> None:
        offset = self._clock() - self._monotonic()
        if abs(offset - self._offset) > JUMP:
            log.warning("the clock was set by %+.0f s; no lease is reaped for its length", offset - self._offset)
            self._grace = self._monotonic() + self._config.jobs.lease
            self._due.clear()
            self._next_due, self._next_schedule, self._jumped = 0.0, 0.0, True
        self._offset = offset

    def _notice_standstill(self, now: float) -> None:
        """Time in which this process did not run, stopped or starved, counts for no lease: nobody could renew one."""
        stood = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        if stood > self._config.jobs.lease / 2:
            log.warning("nothing ran here for %.0f s; the leases of this process are longer by that", stood)
            self._holdings.lengthen(stood)

    async def _look_around(self) -> None:
        """What other servers did, and what an earlier run of this one left."""
        moves = self._tally.moves
        due, counts = await self._store.read(lambda connection: (_first_due(connection), Tally.read(connection)))
        if due is not None:
            self._next_due = due if self._next_due is None else min(self._next_due, due)
        if moves == self._tally.moves and self._asking.idle:
            self._tally.load(counts)

    async def _store_progress(self, now: float) -> None:
        reports = []
        for holding in self._holdings.unsaid(now, PROGRESS_EVERY):
            said = holding.said
            assert said is not None
            holding.said, holding.written = None, now
            reports.append((holding.lease, said))
        if not reports:
            return

        def call(turn: Turn, _: Any) -> None:
            for lease, said in reports:
                ending.progress(turn, lease, said)

        await self._asking.ask(Phase.REPORT, call, leases=[lease for lease, _ in reports])

    async def _reap(self, now: float) -> None:
        """End attempts whose lease is over: of this process by the monotonic clock, of others by the stored time."""
        mine = self._holdings.expired(now)
        held = {lease for lease in self._holdings.leases() if lease not in mine}
        others = now >= self._grace
        seconds = self._config.jobs.lease

        def call(turn: Turn, _: Any) -> list[str]:
            late = set(mine)
            if others:
                late |= flagging.expired_leases(turn, seconds) - held
            ending.reap(turn, sorted(late))
            return sorted(late)

        if mine or others:
            for lease in await self._asking.ask(Phase.REPORT, call, leases=mine):
                self._holdings.drop(lease)


def make_due(turn: Turn) -> None:
    """Look at every job whose time has come, the longest waiting first."""
    wanted = select(jobs.c.id).where(jobs.c.due_at <= turn.now).order_by(jobs.c.due_at).limit(DUE_MAX)
    ids = list(turn.connection.execute(wanted).scalars())
    turn.preload(ids=ids)
    for job_id in ids:
        job = turn.job(job_id)
        turn.put(lifecycle.due(job, turn.first_due(job), turn.now))
    turn.flush()
    due = _first_due(turn.connection)
    if due is not None:
        turn.next_due = due


def _first_due(connection: Connection) -> float | None:
    found: float | None = connection.execute(select(func.min(jobs.c.due_at)).where(jobs.c.due_at.is_not(None))).scalar()
    return found
