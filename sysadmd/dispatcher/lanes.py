"""Who may run now: lanes as pure bookkeeping.

A job enters its lane when it is accepted, gets a slot when one of its lane's is free and all that came before it have
one, and keeps the slot until it is final: between two commands of a chain nobody else of a serial lane may slip in. So
a lane with one slot is the FIFO that `pkg_queue` needs, and one with many runs them side by side; there is no second
mechanism.

A slot says that a job may run, not that it does: when the executor is away, jobs hold slots and wait for it. After a
restart, a job that was running gets its slot back even when the configuration now offers fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sysadmd.jobs.model import Job


class Lane:
    """One lane. `slots` bounds the jobs that run at once; a lane with one slot is serial and has queue positions."""

    __slots__ = ("holding", "name", "slots", "waiting")

    def __init__(self, name: str, slots: int) -> None:
        self.name, self.slots = name, slots
        # Dictionaries as ordered sets: O(1) to leave from the middle, which a killed job does.
        self.holding: dict[str, None] = {}
        self.waiting: dict[str, None] = {}

    @property
    def serial(self) -> bool:
        """Whether jobs run one after another here."""
        return self.slots == 1

    def grant(self) -> Iterator[str]:
        """Give free slots to those that wait, in order; yields their ids."""
        while self.waiting and len(self.holding) < self.slots:
            job_id = next(iter(self.waiting))
            del self.waiting[job_id]
            self.holding[job_id] = None
            yield job_id

    def positions(self) -> Iterator[tuple[str, int]]:
        """Ids and their places in the lane; 0 is the one that runs or is next."""
        return ((job_id, place) for place, job_id in enumerate((*self.holding, *self.waiting)))


class Lanes:
    """All lanes. `parallel` is what a lane without a number of its own (None) gets."""

    def __init__(self, configured: Mapping[str, int | None], parallel: int) -> None:
        self._lanes: dict[str, Lane] = {}
        self._configured: frozenset[str] = frozenset()
        self.configure(configured, parallel)

    def configure(self, configured: Mapping[str, int | None], parallel: int) -> None:
        """Take over changed numbers. A lane that is no longer named takes no new jobs; those in it go on."""
        for name, slots in configured.items():
            self._lane(name).slots = slots or parallel
        self._configured = frozenset(configured)

    def knows(self, name: str) -> bool:
        """Whether a job may be put there."""
        return name in self._configured

    def names(self) -> list[str]:
        """The lanes that take jobs."""
        return sorted(self._configured)

    def add(self, job: Job) -> None:
        """A job that is not final: it waits, or holds its slot when it has begun already."""
        lane = self._lane(job.lane)
        (lane.holding if job.state == "running" else lane.waiting)[job.id] = None

    def remove(self, job: Job) -> None:
        """A job that is final or was never stored."""
        lane = self._lanes[job.lane]
        lane.holding.pop(job.id, None)
        lane.waiting.pop(job.id, None)

    def grant(self) -> list[str]:
        """Give every free slot away; the ids of the jobs that may run from now on."""
        return [job_id for lane in self._lanes.values() if lane.waiting for job_id in lane.grant()]

    def rebuild(self, jobs: Iterable[Job]) -> None:
        """Begin again from the stored jobs, in their order, after a turn that could not be committed."""
        for lane in self._lanes.values():
            lane.holding.clear()
            lane.waiting.clear()
        for job in jobs:
            self.add(job)

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def _lane(self, name: str) -> Lane:
        # A stored job may name a lane that the configuration has dropped: serial is the careful choice.
        return self._lanes.setdefault(name, Lane(name, 1))
