"""The queue as one caller may use it: each job by the rights that the caller's scope has to it (rights.py).

In lists a job that may not be read has no other name than `UnauthorizedJob`, and no id. Asked for by id it is refused.
A filter by name or owner would tell by the number of such rows what they are, so there they are left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Unpack

import anyio
import anyio.to_thread
import msgspec

from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest, Forbidden, NotFound
from sysadmd.jobs import shown
from sysadmd.jobs.output_reading import read_text, size_of
from sysadmd.jobs.queue import Queue
from sysadmd.jobs.queue_reads import Wanted
from sysadmd.jobs.references import Reference, find, find_all, is_name
from sysadmd.jobs.rights import is_anothers_transfer, may
from sysadmd.jobs.shown import Shown
from sysadmd.jobs.spec import JobSpec
from sysadmd.jobs.views import AttemptView, HistoryPage, JobView
from sysadmd.store.tables import FINAL_STATES
from sysadmd.wire.masking import masked_rows

LOOK = 0.25
"""Seconds between two looks at a file that somebody waits for: a file tells nobody that it has grown."""
LOOKS = 4
"""Of so many looks at the file one is at the store, too: has the attempt ended?"""
PAGE_MAX = 256 * 1024
"""Bytes of output in one answer."""


class Tasks(Protocol):
    """What is needed of the tasks (jobs.tasks.catalogue.Catalogue)."""

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        ...

    async def job(self, name: str, args: Mapping[str, Any] | None = None, **given: Any) -> JobSpec:
        """The job that runs a task with `args`. Raises NotFound, BadRequest, Unavailable."""
        ...


class PermittedJobs:
    """The queue for one caller. `outputs` is the directory of the output files."""

    def __init__(self, queue: Queue, tasks: Tasks, caller: Scope, outputs: Path) -> None:
        self._queue, self._tasks, self._caller, self._outputs = queue, tasks, caller, outputs

    # Change

    async def enqueue(
        self,
        name: str,
        args: Mapping[str, Any] | None = None,
        *,
        delay: float | None = None,
        request_key: str | None = None,
        **given: Any,
    ) -> Shown:
        """Store a job for the task `name`; `given` are fields of JobSpec, `delay` is seconds from now.

        Raises Forbidden, and what Tasks.job and Queue.enqueue raise.
        """
        self._check(name, "run")  # before a process is asked about the task
        if delay is not None:
            if given.get("run_after") is not None:
                raise BadRequest("args.delay: there is run_after already; give one", path="args.delay", rule="not both")
            given["run_after"] = time.time() + delay
        spec = await self._tasks.job(name, args, **given)
        view = await self._queue.enqueue(spec, owner=self._caller.account, request_key=request_key)
        return shown.whole(view)

    def tasks(self) -> list[str]:
        """The names of tasks that the caller may run."""
        return [name for name in self._tasks.names() if self._caller.may_job(name, "run")]

    async def kill(self, references: Iterable[Reference]) -> list[str]:
        """Ask for the end of jobs; the ids of those that waited or ran. Nothing is asked if one may not be."""
        return await self._queue.kill(await self._ids(references), self._caller.account)

    async def remove(self, references: Iterable[Reference]) -> list[str]:
        """Ask for jobs to leave the queue; the ids of those that were in it."""
        return await self._queue.remove(await self._ids(references), self._caller.account)

    async def restart(self, reference: Reference) -> tuple[str, Shown]:
        """Make a waiting job due, or a stopped one anew: the id that it had, and the job. Raises Conflict."""
        view = await self.find(reference, "run")
        found = await self._queue.detail(await self._queue.restart(view.id, self._caller.account))
        if found is None:
            raise NotFound(f"job {view.id} is not kept any more")
        return view.id, shown.whole(found)

    # Read

    async def find(self, reference: Reference, right: str = "read", path: str = "args.job") -> JobView:
        """The job that is meant. Raises NotFound, BadRequest and Forbidden."""
        view = await find(self._queue, reference, path)
        self._check_job(view, right)
        return view

    async def detail(self, reference: Reference) -> tuple[Shown, list[Any]]:
        """All that is known of a job, and its executions where it has one step."""
        view = await self.find(reference)
        attempts = await self._queue.attempts(view.id) if view.steps_total == 1 else []
        return shown.whole(view), [shown.attempt(one) for one in attempts]

    async def listing(self, *, limit: int = 100, **wanted: Unpack[Wanted]) -> tuple[list[Shown], int | None]:
        """Jobs, newest first, and where the next page begins (None: there is none)."""
        views = await self._queue.listing(limit=limit, **wanted)
        rows = [shown.row(view) if may(self._caller, view) else shown.masked_row(view) for view in views]
        if wanted.get("name") is not None or wanted.get("owner") is not None:
            rows = [row for row in rows if "id" in row]
        return rows, views[-1].seq if len(views) == limit else None

    def summary(self) -> list[Any]:
        """How many jobs there are of each name, state and flags."""
        rows = [msgspec.structs.asdict(row) for row in self._queue.summary()]
        return list(masked_rows(rows, self._caller.may_job))

    async def history(
        self, page: int, per_page: int, *, newest_first: bool, start: float | None, end: float | None
    ) -> HistoryPage:
        """How many jobs there were after each change."""
        return await self._queue.history(page, per_page, -1 if newest_first else 1, start, end)

    # Output

    async def output(
        self,
        reference: Reference,
        *,
        step: int = 0,
        attempt: int | None = None,
        offset: int = 0,
        length: int = 64 * 1024,
        follow: float = 0.0,
    ) -> Shown:
        """A part of what one execution (None: the latest) of a step wrote. `follow` waits so many seconds for more.

        Raises NotFound for an execution that there is not, and what `find` raises.
        """
        view, chosen = await self.attempt(reference, step, attempt)
        deadline, looks = anyio.current_time() + follow, 0
        while True:
            ended = view.state in FINAL_STATES if chosen is None else chosen.outcome is not None
            path = None if chosen is None else chosen.output_path
            text, reached = await anyio.to_thread.run_sync(
                lambda: read_text(self._outputs, path, offset, min(length, PAGE_MAX), ended=ended)  # noqa: B023 - run at once
            )
            left = deadline - anyio.current_time()
            if reached > offset or ended or left <= 0:
                break
            await anyio.sleep(min(LOOK, left))
            looks += 1
            if looks % LOOKS == 0:
                view, chosen = await self.attempt(view.id, step, attempt)
        return {
            "job": view.id,
            "step": step,
            "attempt": None if chosen is None else chosen.n,
            "offset": offset,
            "next_offset": reached,
            "data": text,
            "eof": ended and reached >= size_of(self._outputs, path),
            "state": view.state,
        }

    async def attempt(
        self, reference: Reference, step: int = 0, n: int | None = None
    ) -> tuple[JobView, AttemptView | None]:
        """A job and an execution of one of its steps: number `n`, or the latest, if any. Raises NotFound."""
        view = await self.find(reference)
        if not step < view.steps_total:
            raise NotFound(f"args.step: job {view.id} has no step {step}", path="args.step")
        attempts = await self._queue.attempts(view.id, step)
        if n is None:
            return view, attempts[-1] if attempts else None
        chosen = next((one for one in attempts if one.n == n), None)
        if chosen is None:
            raise NotFound(f"args.attempt: step {step} of job {view.id} has no attempt {n}", path="args.attempt")
        return view, chosen

    # Rights

    async def _ids(self, references: Iterable[Reference]) -> list[str]:
        wanted: Sequence[Reference] = list(references)
        for reference in wanted:
            if is_name(reference):
                self._check(str(reference), "run")  # before it could tell whether there are any
        views = await find_all(self._queue, wanted)
        for view in views:
            self._check_job(view, "run")
        return [view.id for view in views]

    def _check_job(self, view: JobView, right: str) -> None:
        self._check(view.name, right)
        if is_anothers_transfer(self._caller, view):
            raise Forbidden(f"{self._caller.account} may not {right} this job: it is somebody else's transfer")

    def _check(self, name: str, right: str) -> None:
        if not self._caller.may_job(name, right):
            shown_name = name[:80] if right == "run" and self._caller.may_job(name) else "this job"
            raise Forbidden(f"{self._caller.account} may not {right} {shown_name}")
