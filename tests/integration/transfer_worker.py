"""A worker of file jobs that takes a step when the test says so."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from sysadmd.jobs.output_file import open_output
from sysadmd.jobs.transfers.engine import run
from sysadmd.jobs.transfers.sites import Sites
from sysadmd.jobs.views import Claim, End, Worker
from sysadmd.server.app import App

TRANSFER = frozenset({"transfer"})
WORKER = Worker("hand@test", "test", 0.0, 64)


@dataclass
class HandWorker:
    """Claims, runs and finishes. `done` are the elements in the order of their ends: (job, element, type, source)."""

    app: App
    sites: Sites
    done: list[tuple[int, int, str, str]] = field(default_factory=list)

    async def claim(self, limit: int = 1) -> list[Claim]:
        """Lease steps, which then wait for `begin` and `finish`."""
        return await self.app.queue.claim(WORKER, limit, TRANSFER)

    async def begin(self, claim: Claim) -> None:
        """The step runs from now on."""
        open_output(self.app.config.state_dir / "output", claim.output_path).close()
        assert await self.app.queue.started(claim.lease, pid=1, pid_start="1")

    async def finish(self, claim: Claim, end: End | None = None) -> None:
        """The step ends: as the engine says, or as the test does."""
        output = open_output(self.app.config.state_dir / "output", claim.output_path)
        try:
            if end is None:
                with open(output.descriptor, "ab", closefd=False) as file:  # a file of the test's own
                    end = await run(claim.step, sites=self.sites, report=lambda *told: None, output=file)
            else:
                output.note(f"the test says {end.outcome}")
        finally:
            output.close()
        assert await self.app.queue.finish(claim.lease, end)
        self.done.append((claim.job.seq, claim.step.idx, claim.step.type, claim.step.spec["src"]))

    async def step(self, end: End | None = None) -> bool:
        """Do one step; whether there was one."""
        claims = await self.claim()
        for claim in claims:
            await self.begin(claim)
            await self.finish(claim, end)
        return bool(claims)

    async def all(self, *, batch: int = 20, between: Callable[[], object] | None = None) -> None:
        """Do everything that is due, in batches."""
        while claims := await self.claim(batch):
            for claim in claims:
                await self.begin(claim)
                await self.finish(claim)


@contextlib.asynccontextmanager
async def hand_worker(app: App) -> AsyncIterator[HandWorker]:
    """A worker for this application."""
    async with Sites(app.config.sites, app.config.limits) as sites:
        yield HandWorker(app, sites)
