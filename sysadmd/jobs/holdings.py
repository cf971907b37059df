"""The leases that this process gave out, in memory.

A worker of this process renews its lease every few seconds, and a thousand of them would write a thousand rows each
time for nothing: the word that counts is here. The store gets it a few times in a lease, so that another server, or the
next one, knows; here the time runs by the monotonic clock, so that a wall clock that jumps neither ends all leases nor
lets them live for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sysadmd.jobs.ending import Progress


@dataclass(slots=True)
class Holding:
    """One lease. `until` and `stored` are monotonic; `ended`: its job was asked to end; `over`: its attempt is at its
    end, which is about to be stored. `said` waits to be stored.
    """

    lease: str
    job_id: str
    name: str
    worker: str
    until: float
    stored: float
    ended: bool = False
    over: bool = False
    progress: float | None = None
    said: Progress | None = None
    written: float = 0.0


class Holdings:
    """All leases of this process that are open."""

    def __init__(self) -> None:
        self._held: dict[str, Holding] = {}
        self._by_job: dict[str, set[str]] = {}
        self._running: dict[str, Counter[str]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, lease: str) -> bool:
        return lease in self._held

    def get(self, lease: str) -> Holding | None:
        """The lease, or None."""
        return self._held.get(lease)

    def add(self, holding: Holding) -> None:
        """A lease was given out, or one of an earlier server was renewed."""
        self.drop(holding.lease)
        self._held[holding.lease] = holding
        self._by_job.setdefault(holding.job_id, set()).add(holding.lease)
        self._running.setdefault(holding.worker, Counter())[holding.name] += 1

    def drop(self, lease: str) -> None:
        """A lease is over."""
        holding = self._held.pop(lease, None)
        if holding is None:
            return
        leases = self._by_job[holding.job_id]
        leases.discard(lease)
        if not leases:
            del self._by_job[holding.job_id]
        self._runs_no_more(holding)

    def over(self, lease: str) -> None:
        """An attempt is at its end and about to be stored so: it counts no more for what its worker may take."""
        holding = self._held.get(lease)
        if holding is not None:
            self._runs_no_more(holding)

    def _runs_no_more(self, holding: Holding) -> None:
        if holding.over:
            return
        holding.over = True
        running = self._running[holding.worker]
        running[holding.name] -= 1
        if running[holding.name] <= 0:
            del running[holding.name]

    def end(self, job_id: str) -> list[str]:
        """The job was asked to end: its leases will not be renewed. Those for which this is news."""
        news = [lease for lease in self._by_job.get(job_id, ()) if not self._held[lease].ended]
        for lease in news:
            self._held[lease].ended = True
        return news

    def running(self, worker: str) -> Mapping[str, int]:
        """What a worker runs, by the name of the job."""
        return self._running.get(worker, Counter())

    def count(self, worker: str) -> int:
        """Attempts that a worker runs."""
        return sum(self.running(worker).values())

    def lengthen(self, seconds: float) -> None:
        """Let all of them last for so much longer."""
        for holding in self._held.values():
            holding.until += seconds

    def leases(self) -> list[str]:
        """All of them."""
        return list(self._held)

    def expired(self, now: float) -> list[str]:
        """Leases whose time is over."""
        return [lease for lease, holding in self._held.items() if holding.until < now]

    def unsaid(self, now: float, every: float) -> list[Holding]:
        """Leases with progress that is not stored, the last of it longer ago than `every` seconds."""
        return [one for one in self._held.values() if one.said is not None and now - one.written >= every]

    def progress(self) -> Iterable[tuple[str, float]]:
        """Name and progress of what runs here."""
        return [(one.name, one.progress) for one in self._held.values() if one.progress is not None]
