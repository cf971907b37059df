"""How many jobs are in the queue, by name, state and flags, kept with each change.

The table `job_count` has a row for each combination that was ever there, and under the empty name the sums by state,
so that an event may tell the state of the queue at the price of reading eight rows a turn. Nobody counts jobs.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, insert, select, update

from sysadmd.jobs.lifecycle import QueuedJob
from sysadmd.store.prepared import Prepared
from sysadmd.store.tables import job_count

ZOMBIE, WALL, REMOVED, KILLED = 1, 2, 4, 8
"""The bits of `flags`."""

Key = tuple[str, str, int]
"""Name, state and flags."""

_ADD = Prepared(
    update(job_count)
    .where(
        job_count.c.name == bindparam("old_name"),
        job_count.c.state == bindparam("old_state"),
        job_count.c.flags == bindparam("old_flags"),
    )
    .values(n=job_count.c.n + bindparam("new_n")),
    ("old_name", "old_state", "old_flags", "new_n"),
)
_INSERT = Prepared(insert(job_count), ("name", "state", "flags", "n"))


def key_of(job: QueuedJob) -> Key | None:
    """Where a job is counted; None when it is not in the queue."""
    if job.archived_at is not None:
        return None
    flags = ZOMBIE * (job.zombie_at is not None) + WALL * (job.wall_at is not None)
    flags += REMOVED * (job.remove_requested_at is not None) + KILLED * (job.kill_requested_at is not None)
    return job.name, job.state, flags


class Counts:
    """The counts in one transaction: the sums as they are now, and what has changed."""

    def __init__(self, sums: Mapping[str, int]) -> None:
        self.sums = dict(sums)
        self.changed: dict[Key, int] = {}

    def move(self, old: QueuedJob | None, new: QueuedJob) -> None:
        """A job was there as `old` (None: not yet) and is there as `new`."""
        before, after = (None if old is None else key_of(old)), key_of(new)
        if before == after:
            return
        if before is not None:
            self._add(before, -1)
        if after is not None:
            self._add(after, 1)

    def told(self) -> dict[str, int]:
        """Jobs by state, those with none left out: what an event carries."""
        return {state: n for state, n in self.sums.items() if n}

    def _add(self, key: Key, n: int) -> None:
        self.changed[key] = self.changed.get(key, 0) + n
        self.sums[key[1]] = self.sums.get(key[1], 0) + n

    def write(self, connection: Connection) -> None:
        """Add what has changed to the table."""
        found: dict[Key, int] = {}
        for key, n in self.changed.items():
            if n:
                found[key] = n
                total = ("", key[1], 0)
                found[total] = found.get(total, 0) + n
        for key, n in found.items():
            # A row that is not there yet: once for each combination in the life of a database.
            if not _ADD.run(connection, [(*key, n)]):
                _INSERT.run(connection, [(*key, n)])


def load_sums(connection: Connection) -> dict[str, int]:
    """Jobs in the queue by state."""
    rows = connection.execute(select(job_count.c.state, job_count.c.n).where(job_count.c.name == ""))
    return {row.state: row.n for row in rows}


def load_all(connection: Connection) -> dict[Key, int]:
    """Every count that is not 0, without the sums."""
    rows = connection.execute(select(job_count).where(job_count.c.name != "", job_count.c.n != 0))
    return {(row.name, row.state, row.flags): row.n for row in rows}
