"""The workers that are there: who claims, says so by claiming."""

from __future__ import annotations

from dataclasses import dataclass

from sysadmd.jobs.holdings import Holdings
from sysadmd.jobs.views import Worker, WorkerView

SILENT = 60.0
"""Seconds without a claim after which a worker that runs nothing is no longer listed."""
WORKERS_MAX = 4096
"""Workers that are remembered; the one that was silent for longest makes room."""


@dataclass(slots=True)
class _Seen:
    worker: Worker
    kinds: frozenset[str]
    at: float


class Presence:
    """Workers by id."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._seen: dict[str, _Seen] = {}
        self._halted_at: float | None = None

    def seen(self, worker: Worker, kinds: frozenset[str], now: float) -> None:
        """It claims."""
        before = self._seen.pop(worker.id, None)
        if before is not None and before.worker.started_at == worker.started_at:
            kinds |= before.kinds  # one claim is for the kinds that there is room for
        self._seen[worker.id] = _Seen(worker, kinds, now)
        if len(self._seen) > WORKERS_MAX:
            del self._seen[next(iter(self._seen))]

    def halt(self, now: float) -> None:
        """Workers that began before now are to leave."""
        self._halted_at = now

    def halted(self, worker: Worker) -> bool:
        """Whether it is to leave."""
        return self._halted_at is not None and worker.started_at <= self._halted_at

    def listed(self, now: float) -> list[WorkerView]:
        """Workers by name; silent ones that run nothing left out."""
        found = []
        for worker_id, seen in sorted(self._seen.items()):
            running = self._holdings.count(worker_id)
            if running or now - seen.at <= SILENT:
                worker = seen.worker
                found.append(
                    WorkerView(
                        id=worker_id,
                        host=worker.host,
                        started_at=worker.started_at,
                        heartbeat_at=seen.at,
                        slots=worker.slots,
                        kinds=tuple(sorted(seen.kinds)),
                        running=running,
                        halted=self.halted(worker),
                    )
                )
        return found
