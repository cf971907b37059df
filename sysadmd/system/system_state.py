"""The source of the topic `system_state`: the host name and every pool, with priorities (spec sysadm §5.5).

The machine is looked at often and told of seldom: an event is sent at the start, when the host name, the set of pools,
a pool's health or its capacity in percent has changed (priorities follow from those), and when the last one is as old
as the interval. Sizes alone are no change: they move with every write.

A query that fails is not a pool that vanished. While zpool does not answer (a suspended pool makes it hang), the pools
last known stand, after a restart those of the last event in the log; the failure is in our own log and in `problem`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

import anyio
import structlog
from anyio.abc import TaskStatus
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sysadmd.errors import SysadmdError, ZfsError
from sysadmd.events import Draft, EventLog
from sysadmd.system.base import System, this_system
from sysadmd.zfs import Pool

log = structlog.get_logger(__name__)

TOPIC = "system_state"
RENAMED, FULL, UNHEALTHY = 3, 6, 9
"""Priorities: the host name changed, a pool is filled beyond FULL_PERCENT, a pool is not ONLINE."""
FULL_PERCENT = 90

Payload = dict[str, Any]
"""The canonical payload: `hostname`, `hostnamechanged`, `priority`, `zpools` (absent without pools)."""


class PoolSource(Protocol):
    """Where the pools come from: `Zfs`, or a table in a test."""

    async def pools(self) -> dict[str, Pool]:
        """The pools by name; raises ZfsError when asking failed."""
        ...


def pool_priority(pool: Pool) -> int:
    """0, FULL or UNHEALTHY."""
    if pool.health != "ONLINE":
        return UNHEALTHY
    percent = pool.percent()
    return FULL if percent is not None and percent > FULL_PERCENT else 0


def assess(hostname: str, pools: Mapping[str, Pool], *, renamed: bool) -> Payload:
    """The payload of a state. Its priority is the highest of the pools' and that of a change of name."""
    priorities = {name: pool_priority(pool) for name, pool in pools.items()}
    highest = max([RENAMED if renamed else 0, *priorities.values()])
    payload: Payload = {"hostname": hostname, "hostnamechanged": renamed, "priority": highest}
    if pools:
        payload["zpools"] = {
            name: {**pool.columns(), "priority": priorities[name]} for name, pool in sorted(pools.items())
        }
    return payload


def outline(payload: Payload) -> object:
    """What of a state is worth an event when it differs. Without the priority of a new name: it lasts for one event."""
    pools = payload.get("zpools", {})
    return payload["hostname"], {name: (pool["health"], pool["capacity"]) for name, pool in pools.items()}


class SystemState:
    """Watches the machine. `check` is the seconds between two looks, `interval` between two events without a change."""

    def __init__(
        self,
        events: EventLog,
        zfs: PoolSource,
        system: System | None = None,
        *,
        interval: float = 900.0,
        check: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events, self._zfs, self._system = events, zfs, system or this_system()
        self._interval, self._check, self._monotonic = interval, check, monotonic
        self._one = anyio.Lock()
        self._pools: dict[str, Pool] = {}
        self._sent: Payload | None = None
        self._sent_at: float | None = None
        self._current: Payload | None = None
        self._restored = False
        self.problem: str | None = None
        """Why the pools could not be asked for at the last look; None when they could."""

    def current(self) -> Payload | None:
        """The state at the last look, `hostnamechanged` always False; None before the first."""
        return self._current

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled, the first time at once. Started before that look: a hanging zpool delays no start."""
        task_status.started()
        while True:
            await self.check_now()
            await anyio.sleep(self._pause())

    async def check_now(self) -> Payload:
        """Look at the machine; returns the state when an event about it, if one was due, is stored and published."""
        async with self._one:
            self._restore()
            pools = await self._ask()
            hostname = self._system.hostname()
            self._current = assess(hostname, pools, renamed=False)
            renamed = self._sent is not None and self._sent["hostname"] != hostname
            state = assess(hostname, pools, renamed=renamed)
            if self._due() or self._sent is None or outline(state) != outline(self._sent):
                await self._send(state)
            return self._current

    def _restore(self) -> None:
        """Begin where the last event in the log ended: a new name or lost pool since then is a change, too."""
        if self._restored:
            return
        self._restored = True
        last = self._events.last(TOPIC)
        if last is not None:
            self._sent = last.data
            self._pools = {name: _pool(columns) for name, columns in last.data.get("zpools", {}).items()}

    def _due(self) -> bool:
        """Whether the last event of this run is as old as the interval; the first look of a run always sends."""
        return self._sent_at is None or self._monotonic() - self._sent_at >= self._interval

    def _pause(self) -> float:
        """Seconds to the next look: the usual ones, or fewer when an event falls due before."""
        if self._sent_at is None:
            return self._check
        return min(self._check, max(0.0, self._sent_at + self._interval - self._monotonic()) or self._check)

    async def _ask(self) -> dict[str, Pool]:
        try:
            self._pools = await self._zfs.pools()
        except ZfsError as error:
            if self.problem != str(error):
                log.warning("the pools cannot be asked for, those last known stand", reason=str(error))
            self.problem = str(error)
        else:
            if self.problem:
                log.info("the pools can be asked for again")
            self.problem = None
        return self._pools

    async def _send(self, state: Payload) -> None:
        def write(connection: Connection) -> tuple[None, Sequence[Draft]]:
            return None, [Draft(topic=TOPIC, data=state, durable=True)]

        try:
            await self._events.submit(write)
        except (SysadmdError, SQLAlchemyError, OSError) as error:
            # What was sent last stays as it was, so the next look sends this change.
            log.warning("a system state event could not be stored", reason=str(error))
            return
        self._sent, self._sent_at = state, self._monotonic()


def _pool(columns: Mapping[str, Any]) -> Pool:
    """A pool as a stored event has it."""
    return Pool(**{field.name: str(columns.get(field.name, "-")) for field in fields(Pool)})
