"""From many callers to few transactions.

Whoever wants something of the queue puts an `Ask` here and awaits its future. One turn at a time is on its way through
the log; what comes meanwhile waits and makes the next turn, so the more is asked, the larger the turns, and a commit is
shared by all of one (as the dispatcher has it, dispatcher/scheduler.py).

Order within a turn: what workers report, then what people ask of jobs, then new jobs, then claims. So a slot that an
end frees is given away in the same commit, a key that an end frees may be taken again, and what has ended by itself is
not reported as killed.

An ask that is refused (a conflict, an unknown id) must have changed nothing by then. One that fails in a way that
nobody thought of fails its whole turn; then each ask of it gets a turn of its own, so that one alone pays.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection

from sysadmd.errors import SysadmdError, Unavailable
from sysadmd.events.log import EventLog
from sysadmd.events.record import Draft
from sysadmd.jobs.enqueueing import TakenKeys
from sysadmd.jobs.spec import JobSpec
from sysadmd.jobs.turn import Turn

log = logging.getLogger(__name__)

ASKS_WAITING = 20_000
"""Asks that wait for their turn; more than a second of the busiest queue."""
TURN_ASKS = 1000
"""Asks of one turn: beyond it a commit is no longer the larger part."""


class Phase(IntEnum):
    """When in its turn an ask is looked at."""

    REPORT = 0
    CONTROL = 1
    ENQUEUE = 2
    CLAIM = 3


@dataclass(slots=True, eq=False)
class Ask:
    """`call` runs in the writer's thread. `ids`, `leases` and `specs` are what it will look at."""

    phase: Phase
    call: Callable[[Turn, TakenKeys], Any]
    future: asyncio.Future[Any]
    ids: Iterable[str] = ()
    leases: Iterable[str] = ()
    specs: Sequence[JobSpec] = ()
    alone: bool = False
    result: Any = None
    error: SysadmdError | None = field(default=None)


class Asking:
    """The asks that wait, and the turn that is on its way. Belongs to the event loop's thread."""

    def __init__(
        self, events: EventLog, make: Callable[[Connection], Turn], done: Callable[[Turn, Sequence[Ask]], None]
    ) -> None:
        self._events, self._make, self._done = events, make, done
        self._waiting: deque[Ask] = deque()
        self._flying = self._kicked = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is on its way."""
        return not self._flying and not self._waiting

    def ask(
        self,
        phase: Phase,
        call: Callable[[Turn, TakenKeys], Any],
        *,
        ids: Iterable[str] = (),
        leases: Iterable[str] = (),
        specs: Sequence[JobSpec] = (),
    ) -> asyncio.Future[Any]:
        """Have `call` run in the next turn; the future has its result after the commit. Raises Unavailable when too
        much waits.
        """
        if len(self._waiting) >= ASKS_WAITING:
            raise Unavailable("too much waits for the job queue")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(Ask(phase, call, future, ids, leases, specs))
        self._kick()
        return future

    def _kick(self) -> None:
        if not self._flying and not self._kicked and self._waiting:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._kicked = False
        if self._flying or not self._waiting:
            return
        asks = self._take()
        turns: list[Turn] = []

        def write(connection: Connection) -> tuple[None, Sequence[Draft]]:
            turn = self._make(connection)
            turns.append(turn)
            run(turn, asks)
            return None, turn.drafts

        try:
            written = self._events.submit(write)
        except Unavailable as error:
            _refuse(asks, error)
            return
        self._flying = True
        written.add_done_callback(lambda future: self._landed(future, turns, asks))

    def _take(self) -> list[Ask]:
        asks = [self._waiting.popleft()]
        while self._waiting and len(asks) < TURN_ASKS and not asks[0].alone and not self._waiting[0].alone:
            asks.append(self._waiting.popleft())
        return asks

    def _landed(self, future: asyncio.Future[None], turns: Sequence[Turn], asks: Sequence[Ask]) -> None:
        self._flying = False
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            try:
                self._done(turns[0], asks)
            except Exception:  # it is stored: nobody may wait for ever because of what comes after
                log.exception("what follows a turn of the job queue failed")
            _answer(asks)
        elif len(asks) > 1 and not isinstance(error, Unavailable):
            log.error("a turn of the job queue failed, its %d parts are tried one by one", len(asks), exc_info=error)
            for ask in asks:
                ask.alone, ask.result, ask.error = True, None, None
            self._waiting.extendleft(reversed(asks))
        else:
            _refuse(asks, error)
        self._kick()


def run(turn: Turn, asks: Sequence[Ask]) -> None:
    """Let each ask do its part of the turn, in the order of the phases, and write what they changed."""
    turn.preload(
        ids=[one for ask in asks for one in ask.ids],
        leases=[one for ask in asks for one in ask.leases],
    )
    taken = TakenKeys(turn, ())
    phase = Phase.REPORT
    for ask in sorted(asks, key=lambda ask: ask.phase):
        if phase < ask.phase == Phase.ENQUEUE:
            turn.flush()
            taken = TakenKeys(turn, [spec for one in asks for spec in one.specs])
        phase = ask.phase
        try:
            ask.result = ask.call(turn, taken)
        except SysadmdError as error:
            ask.error = error
    turn.finish()


def _answer(asks: Iterable[Ask]) -> None:
    for ask in asks:
        if ask.future.done():
            continue
        if ask.error is not None:
            ask.future.set_exception(ask.error)
        else:
            ask.future.set_result(ask.result)


def _refuse(asks: Iterable[Ask], error: BaseException) -> None:
    for ask in asks:
        if not ask.future.done():
            ask.future.set_exception(error)
            ask.future.exception()  # seen: who asked may have gone, and asyncio would complain
