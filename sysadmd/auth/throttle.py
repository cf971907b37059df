"""Lock-outs: who failed to log in too often waits, whatever they try meanwhile.

Failures are counted twice: for the account that was named together with the address prefix that it was tried from, and
for the prefix as a whole, with a higher limit. Never for the account alone, since then a stranger could lock its owner
out; and not only for the pair, since then one prefix could try a common password on every account. What is counted is
what can be tried for ever: passwords, and proofs by key. A token has 190 bits and a certificate was verified by TLS, so
whoever has one is not shut out by a neighbour behind the same address.

A count is forgotten once no failure was added to it for `login_window`, and a lock-out when its time is over. A good
log-in clears the count of its pair and no other: one valid account must not buy endless tries of the others.

Two tables of `login_table` entries each, the entry whose last failure is the oldest forgotten first. A flood of made-up
names pushes nobody out, because a prefix can add no more pairs than its own limit before it is locked out; it takes
thousands of prefixes. Memory answers, the database remembers: a change is written at once, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import anyio
import structlog
from anyio.abc import TaskStatus
from sqlalchemy import Connection

from sysadmd.auth import throttle_table
from sysadmd.auth.password import ACCOUNT_NAME
from sysadmd.auth.prefix import MAX_ADDRESS
from sysadmd.auth.throttle_table import Count, Key
from sysadmd.auth.writing import Writer
from sysadmd.errors import SysadmdError
from sysadmd.limits import Limits
from sysadmd.store import Store

log = structlog.get_logger(__name__)

NO_NAME = "?"
"""Stands for every claimed name that cannot be an account's: the stranger who makes them up gets one row, not many."""
SWEEP_INTERVAL = 60.0
"""Seconds between two looks for what is over: its rows go, so that the database keeps no list of past mistypers."""


@dataclass(frozen=True, slots=True)
class Lockout:
    """A count above 0. `account` is None for the prefix as a whole, `blocked_until` while there is no lock-out."""

    account: str | None
    prefix: str
    failures: int
    failed_at: float
    blocked_until: float | None


class Throttle:
    """The counts of one server. Used on the event loop only; nothing here waits but `run`."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._writer, self._clock = writer, clock
        self.limits = limits or Limits()
        """Replaced when the configuration is read again."""
        self._pairs: OrderedDict[Key, Count] = OrderedDict()
        self._prefixes: OrderedDict[Key, Count] = OrderedDict()
        self._dirty: set[Key] = set()
        for key, count in store.read_now(throttle_table.read):
            self._keep(key, count)

    def blocked(self, account: str | None, prefix: str) -> bool:
        """Whether a log-in as `account` (None: no name is claimed) from there is refused unseen."""
        if self._is_blocked(self._prefixes.get(_key(None, prefix))):
            return True
        return account is not None and self._is_blocked(self._pairs.get(_key(account, prefix)))

    def failed(self, account: str | None, prefix: str) -> list[Lockout]:
        """Count a failure; the lock-outs that begin with it."""
        limits = self.limits
        begun = [self._count(_key(None, prefix), limits.login_failures_prefix)]
        if account is not None:
            begun.append(self._count(_key(account, prefix), limits.login_failures))
        self._save()
        return [one for one in begun if one is not None]

    def succeeded(self, account: str | None, prefix: str) -> None:
        """A good log-in: the pair starts anew."""
        if account is not None and self._pairs.pop(key := _key(account, prefix), None) is not None:
            self._dirty.add(key)
            self._save()

    def list(self) -> list[Lockout]:
        """Every count that matters still, the latest failure first."""
        now = self._clock()
        both = [*self._pairs.items(), *self._prefixes.items()]
        found = [_lockout(key, count) for key, count in both if not self._is_over(count, now)]
        return sorted(found, key=lambda one: one.failed_at, reverse=True)

    def clear(self, *, account: str | None = None, prefix: str | None = None) -> int:
        """Forget the counts of this account, or prefix, or both together, or all; how many there were."""
        name = None if account is None else _name(account)
        cleared = 0
        for table in (self._pairs, self._prefixes):
            for key in [k for k in table if name in (None, k[0]) and prefix in (None, k[1])]:
                del table[key]
                self._dirty.add(key)
                cleared += 1
        self._save()
        return cleared

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Forget what is over, until cancelled."""
        task_status.started()
        while True:
            self.sweep()
            await anyio.sleep(SWEEP_INTERVAL)

    def sweep(self) -> None:
        """Forget what is over, and write what could not be written before."""
        now = self._clock()
        for table in (self._pairs, self._prefixes):
            for key in [key for key, count in table.items() if self._is_over(count, now)]:
                del table[key]
                self._dirty.add(key)
        self._save()

    # Counting

    def _is_blocked(self, count: Count | None) -> bool:
        return count is not None and count.blocked_until is not None and self._clock() < count.blocked_until

    def _is_over(self, count: Count, now: float) -> bool:
        if count.blocked_until is not None:
            return now >= count.blocked_until
        return now - count.failed_at > self.limits.login_window

    def _count(self, key: Key, limit: int) -> Lockout | None:
        """Add a failure; the lock-out, if one begins."""
        now = self._clock()
        before = self._table(key).get(key)
        failures = 1 if before is None or self._is_over(before, now) else before.failures + 1
        until = now + self.limits.login_block if failures >= limit else None
        self._keep(key, Count(failures, now, until))
        self._dirty.add(key)
        return None if until is None else _lockout(key, self._table(key)[key])

    def _table(self, key: Key) -> OrderedDict[Key, Count]:
        return self._pairs if key[0] else self._prefixes

    def _keep(self, key: Key, count: Count) -> None:
        table = self._table(key)
        table[key] = count
        table.move_to_end(key)
        while len(table) > self.limits.login_table:
            self._dirty.add(table.popitem(last=False)[0])

    # Writing

    def _save(self) -> None:
        """Write without waiting. What could not be written is tried again with the next change, or sweep."""
        if not self._dirty:
            return
        changed = {key: self._table(key).get(key) for key in self._dirty}
        self._dirty.clear()

        def write(connection: Connection) -> tuple[None, Sequence[object]]:
            throttle_table.replace(connection, changed)
            return None, ()

        def failed(error: BaseException) -> None:
            self._dirty.update(changed)
            log.warning("counts of failed log-ins not written", counts=len(changed), error=str(error))

        def done(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                failed(error)

        try:
            self._writer.submit(write).add_done_callback(done)
        except SysadmdError as error:
            failed(error)


def _key(account: str | None, prefix: str) -> Key:
    return "" if account is None else _name(account), prefix[:MAX_ADDRESS]


@lru_cache(1024)
def _name(account: str) -> str:
    return account if ACCOUNT_NAME.fullmatch(account) else NO_NAME


def _lockout(key: Key, count: Count) -> Lockout:
    return Lockout(key[0] or None, key[1], count.failures, count.failed_at, count.blocked_until)
