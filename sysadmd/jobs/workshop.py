"""What a worker has for its work: where outputs are, the pool of tasks, what runs transfers."""

from __future__ import annotations

from pathlib import Path

from sysadmd.jobs.output_file import OutputRefused, open_output
from sysadmd.jobs.tasks.pool import Pool
from sysadmd.jobs.tasks.registry import Registry
from sysadmd.jobs.views import Claim
from sysadmd.jobs.work import TaskWork, Transfers, TransferWork, Work


class Workshop:
    """Makes claims works. `outputs` is the directory of all output files; without `transfers` there are only tasks."""

    def __init__(self, outputs: Path, pool: Pool, registry: Registry, transfers: Transfers | None = None) -> None:
        self._outputs, self._pool, self._registry, self._transfers = outputs, pool, registry, transfers
        outputs.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of jobs that it can run."""
        return frozenset({"task"} if self._transfers is None else {"task", "transfer"})

    def take(self, claim: Claim, until: float) -> Work:
        """The work, with its output open. Raises OutputRefused."""
        if claim.job.kind not in self.kinds:
            raise OutputRefused(f"this worker runs no jobs of the kind {claim.job.kind}")
        output = open_output(self._outputs, claim.output_path)
        if claim.job.kind == "task":
            return TaskWork(claim, output, until, self._pool, self._registry)
        assert self._transfers is not None
        return TransferWork(claim, output, until, self._transfers)
