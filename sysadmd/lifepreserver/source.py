"""The source of the topic `life_preserver`: lpreserver's main logs, watched by asking for their status each second.

Asking is as good as any kernel's notification here (a status costs a microsecond, the logs get a line in minutes), and
it is the same on every system and through rotation, which moves the watched name to another file.

The lines that are there at the first start ever are history that nobody asked for: only the newest of them becomes an
event, so that there is something to replay to a new subscriber. After that every line becomes an event, also those that
were written while the server was down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskStatus
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sysadmd.errors import SysadmdError
from sysadmd.events import Draft, EventLog
from sysadmd.lifepreserver import positions
from sysadmd.lifepreserver.parse import Payload
from sysadmd.lifepreserver.watch import State, Watch
from sysadmd.store import Store

log = structlog.get_logger(__name__)

TOPIC = "life_preserver"
_SPACING = 0.05
"""Seconds from one look to the next, however often somebody pokes."""


class LifePreserver:
    """Turns new log lines into events. `paths` are main logs; `interval` is the seconds between two looks."""

    def __init__(
        self,
        events: EventLog,
        store: Store,
        paths: Sequence[Path],
        *,
        interval: float = 1.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events, self._store = events, store
        self._interval, self._clock, self._monotonic = interval, clock, monotonic
        self._watches = {path: Watch(path) for path in paths}
        self._states: dict[Path, State] = {}
        self._one = anyio.Lock()
        self._poked = anyio.Event()
        self._failures: dict[Path, str] = {}

    def poke(self) -> None:
        """Look now instead of at the next second: somebody subscribed. Never blocks."""
        self._poked.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled; started when what the logs hold now has been read."""
        try:
            await self.check()
            task_status.started()
            while True:
                with anyio.move_on_after(self._interval):
                    await self._poked.wait()
                self._poked = anyio.Event()
                await self.check()
                await anyio.sleep(_SPACING)
        finally:
            for watch in self._watches.values():
                watch.close()

    async def check(self) -> None:
        """Read every log to its end; returns when its events are stored and published."""
        async with self._one:
            for path, watch in self._watches.items():
                try:
                    await self._check(watch)
                except (SysadmdError, SQLAlchemyError, OSError) as error:
                    # Nothing was taken as read: the next look finds the same lines again.
                    if self._failures.get(path) != str(error):
                        log.warning(
                            "lpreserver's log could not be turned into events", log=str(path), reason=str(error)
                        )
                    self._failures[path] = str(error)
                else:
                    self._failures.pop(path, None)

    async def _check(self, watch: Watch) -> None:
        state = self._states.get(watch.path)
        if state is None:
            state = await self._store.read(lambda connection: positions.load(connection, watch.path))
        if state is None:
            await self._first(watch)
            return
        self._states[watch.path] = state
        more = True
        while more:
            look = await anyio.to_thread.run_sync(watch.look, state, self._monotonic())
            if look.payloads or positions.columns(look.state) != positions.columns(state):
                await self._commit(watch, look.state, look.payloads)
            state = self._states[watch.path] = look.state
            more = look.more

    async def _first(self, watch: Watch) -> None:
        state = await anyio.to_thread.run_sync(watch.begin)
        newest: tuple[Payload, ...] = ()
        more = True
        while more:
            look = await anyio.to_thread.run_sync(watch.look, state, self._monotonic())
            state, newest, more = look.state, look.payloads[-1:] or newest, look.more
        await self._commit(watch, state, newest)
        self._states[watch.path] = state

    async def _commit(self, watch: Watch, state: State, payloads: Sequence[Payload]) -> None:
        """Store the position and the events in one transaction, in the order of the log."""

        def write(connection: Connection) -> tuple[None, Sequence[Draft]]:
            positions.save(connection, watch.path, state, self._clock())
            return None, [Draft(topic=TOPIC, data=payload, durable=True) for payload in payloads]

        await self._events.submit(write)
