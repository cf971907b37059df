"""What a claim decides by, as one text: the jobs that are due stand in an index behind it.

Whether a worker may take a job depends on its kind, lane and name (pauses, limits), on the worker it wants and on how
many of its name may run at once. Jobs that agree in all of these are taken or passed over together, so their key is
the first column of the index, and their order (`rank`, `seq`) the next: a claim looks at the few keys there are, and at
as many jobs as it takes, however many others wait. A scan in the order of `rank` alone would walk over ten thousand
jobs of a paused lane to find the first of another.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

SEPARATOR = "\x1f"
"""No name holds a control character (spec.py)."""


class _Keyed(Protocol):
    """What a key is made of."""

    @property
    def kind(self) -> str:
        """task or transfer."""
        ...

    @property
    def lane(self) -> str:
        """The lane."""
        ...

    @property
    def name(self) -> str:
        """The name of the job."""
        ...

    @property
    def worker_selector(self) -> str | None:
        """The only worker that may run it."""
        ...

    @property
    def max_parallel(self) -> int | None:
        """Jobs of its name at once on one worker."""
        ...


class ReadyKey(NamedTuple):
    """The parts of a key."""

    kind: str
    lane: str
    name: str
    worker: str | None
    max_parallel: int | None


def ready_key(job: _Keyed) -> str:
    """The key of a job."""
    parallel = "" if job.max_parallel is None else str(job.max_parallel)
    return SEPARATOR.join((job.kind, job.lane, job.name, job.worker_selector or "", parallel))


def parse(key: str) -> ReadyKey:
    """The parts of a key."""
    kind, lane, name, worker, parallel = key.split(SEPARATOR)
    return ReadyKey(kind, lane, name, worker or None, int(parallel) if parallel else None)
