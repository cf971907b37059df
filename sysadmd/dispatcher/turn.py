"""One turn of the dispatcher: everything that has happened since the last one, as one transaction in the making.

Jobs are immutable, so a turn is a set of (stored value, new value) pairs and the records that tell of them. Until the
commit the dispatcher keeps the stored values; a commit that fails leaves nothing to undo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from sysadmd.events.record import Draft
from sysadmd.jobs import table
from sysadmd.jobs.model import Job


class Turn:
    """Changes on top of `live`, the stored jobs by id."""

    __slots__ = ("_live", "changes", "drafts")

    def __init__(self, live: Mapping[str, Job]) -> None:
        self._live = live
        self.changes: dict[str, tuple[Job | None, Job]] = {}
        self.drafts: list[Draft] = []

    def job(self, job_id: str) -> Job | None:
        """The job as this turn has made it so far; None when it is not live."""
        change = self.changes.get(job_id)
        return change[1] if change else self._live.get(job_id)

    def put(self, job: Job, *drafts: Draft) -> None:
        """The job's new value and the records that tell of it, in order."""
        change = self.changes.get(job.id)
        self.changes[job.id] = (change[0] if change else self._live.get(job.id), job)
        self.drafts.extend(drafts)

    def write(self, connection: Connection) -> tuple[None, Sequence[Draft]]:
        """What `EventLog.submit` runs: the rows now, the records with them."""
        table.save(connection, self.changes.values())
        return None, self.drafts
