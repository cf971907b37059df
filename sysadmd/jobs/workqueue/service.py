"""The file jobs of the pdm clients: asked for, shown, waited for, cancelled and tried again.

A thin layer over the queue, which every listener's facade shares. Who asks is a Scope: a job is its owner's and the
administrators', and for everybody else it does not exist. Besides, its type has to be one that the caller may read
(`job:workqueue.<type>:read`) or run. Results are the objects of shape.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread

from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest, Conflict, Forbidden, InternalError, NotFound
from sysadmd.events.log import EventLog
from sysadmd.jobs.rights import is_anothers_transfer
from sysadmd.jobs.spec import JobSpec
from sysadmd.jobs.transfers.pdm import JobStatus, JobType
from sysadmd.jobs.views import AttemptView, JobView, StepView
from sysadmd.jobs.workqueue import reading, shape
from sysadmd.jobs.workqueue.output import Logs
from sysadmd.jobs.workqueue.request import TYPES, requested, sites
from sysadmd.jobs.workqueue.waiting import Watch
from sysadmd.limits import Limits
from sysadmd.store import Store

PAGE = 500
"""Jobs or elements that are read at once; a list without a limit is many pages."""
SEQ_MAX = 2**53
"""Above it there is no job, and a database could not even be asked."""
KIND = frozenset({"transfer"})
FINAL = frozenset({JobStatus.DONE.name, JobStatus.FAILED.name})

Shown = dict[str, Any]


class JobQueue(Protocol):
    """What is needed of the queue (jobs.queue.Queue)."""

    async def enqueue(self, spec: JobSpec, *, owner: str, request_key: str | None = None) -> JobView:
        """Store a job; with a request key that came before, the job that it made then."""
        ...

    async def kill(self, ids: Sequence[str], by: str) -> list[str]:
        """Ask for the end of jobs; those that waited or ran."""
        ...

    async def retry(self, job_id: str, by: str) -> str:
        """Let the failed steps of a stopped job wait again. Raises Conflict."""
        ...

    async def detail(self, key: str | int) -> JobView | None:
        """A job by its id or its number."""
        ...

    async def listing(
        self,
        *,
        owner: str | None = None,
        kinds: Collection[str] | None = None,
        archived: bool | None = False,
        after: int | None = None,
        limit: int = 100,
    ) -> list[JobView]:
        """Jobs, newest first."""
        ...

    async def steps(self, job_id: str, after: int | None = None, limit: int = 100) -> list[StepView]:
        """Steps of a job in order."""
        ...


class Workqueue:
    """The service. `outputs` is the directory of the output files; `knows_site` says which sites there are."""

    def __init__(
        self,
        queue: JobQueue,
        store: Store,
        events: EventLog,
        outputs: Path,
        *,
        knows_site: Callable[[int], bool],
        limits: Callable[[], Limits],
    ) -> None:
        self._queue, self._store, self._outputs = queue, store, outputs
        self._knows_site, self._limits = knows_site, limits
        self._watch = Watch(events)

    # Change

    async def submit(
        self, caller: Scope, body: Any, kind: JobType | None = None, *, request_key: str | None = None
    ) -> Shown:
        """Ask for a job; its status reads SUBMITTED whatever has happened to it by now.

        Raises BadRequest (the field is its `path`), Forbidden, Conflict for a request key of another kind of job,
        Unavailable.
        """
        spec = requested(body, kind)
        if not caller.may_job(spec.name, "run"):
            raise Forbidden(f"{caller.account} may not run {spec.name}")
        for field, site in sites(spec.args).items():
            if not self._knows_site(site):
                raise BadRequest(f"{field}: there is no site {site}", path=field)
        view = await self._queue.enqueue(spec, owner=caller.account, request_key=request_key)
        if not _is_file_job(view):
            raise Conflict("this request key belongs to a job that was not asked for here", rule="request key")
        return shape.job(view, accepted=True)

    async def cancel(self, caller: Scope, seq: int) -> Shown:
        """End a job that waits or runs; its status now. Raises NotFound, Forbidden, Conflict for one that is over."""
        view = await self._find(caller, seq, "run")
        if not await self._queue.kill([view.id], caller.account):
            raise Conflict(f"job {seq} is over: {shape.status_of(view, running=False).name}")
        return await self.status(caller, seq)

    async def retry(self, caller: Scope, seq: int) -> Shown:
        """Let what failed of a job be tried again. Raises NotFound, Forbidden, Conflict for one that is not FAILED."""
        view = await self._find(caller, seq, "run")
        if shape.status_of(view, running=False) is not JobStatus.FAILED:
            raise Conflict(f"job {seq} is not FAILED, there is nothing to be tried again")
        await self._queue.retry(view.id, caller.account)
        return shape.job(await self._find(caller, seq), accepted=True)

    # Jobs

    async def jobs(
        self,
        caller: Scope,
        *,
        owner: str | None = None,
        after: int | None = None,
        limit: int | None = None,
        counts: bool = False,
    ) -> AsyncIterator[list[Shown]]:
        """Pages of jobs, newest first, after the one with number `after`: the caller's, or for an administrator those
        of `owner` (`*`: everybody's). `counts`: with how many elements are in which status.
        """
        mine = caller.account if owner is None else owner
        if mine != caller.account and not caller.administers:
            raise Forbidden(f"{caller.account} sees its own jobs only")
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            views = await self._queue.listing(
                owner=None if mine == "*" else mine, kinds=KIND, archived=None, after=after, limit=size
            )
            shown = [view for view in views if _is_file_job(view) and caller.may_job(view.name)]
            yield await self._shown_jobs(shown, counts=counts)
            if len(views) < size:
                return
            after, left = views[-1].seq, None if left is None else left - len(shown)

    async def job(self, caller: Scope, seq: int) -> Shown:
        """One job. Raises NotFound and Forbidden."""
        view = await self._find(caller, seq)
        return (await self._shown_jobs([view]))[0]

    async def status(self, caller: Scope, seq: int, *, wait: float = 0.0, known: str | None = None) -> Shown:
        """The status of a job: at once, or within `wait` seconds when the job is over, or its status another than
        `known`. Raises NotFound and Forbidden.
        """
        view = await self._find(caller, seq)

        async def look() -> Shown:
            return await self._job_state(await self._find(caller, seq))

        return await self._awaited(view.id, look, wait, known, elements=known is not None)

    # Elements

    async def elements(
        self, caller: Scope, seq: int, *, after: int | None = None, limit: int | None = None, full: bool = False
    ) -> AsyncIterator[list[Shown]]:
        """Pages of a job's elements in order, after the one with number `after`. Raises NotFound and Forbidden."""
        view = await self._find(caller, seq)
        async for steps in self._steps(view, after, limit):
            attempts = await self._attempts(view, steps)
            yield [shape.element(step, view, _last(attempts.get(step.idx)), full=full) for step in steps]

    async def element(self, caller: Scope, seq: int, idx: int, *, full: bool = False) -> Shown:
        """One element. Raises NotFound and Forbidden."""
        view, step = await self._find_step(caller, seq, idx)
        attempts = await self._attempts(view, [step])
        return shape.element(step, view, _last(attempts.get(idx)), full=full)

    async def element_status(
        self, caller: Scope, seq: int, idx: int, *, wait: float = 0.0, known: str | None = None
    ) -> Shown:
        """The status of an element, as `status` gives a job's. Raises NotFound and Forbidden."""
        view, _ = await self._find_step(caller, seq, idx)

        async def look() -> Shown:
            found, step = await self._find_step(caller, seq, idx)
            return shape.element_state(step, found)

        return await self._awaited(view.id, look, wait, known, elements=True)

    # Output

    async def output(
        self, caller: Scope, seq: int, *, after: int | None = None, limit: int | None = None, full: bool = False
    ) -> list[Shown]:
        """The latest output of each element that has begun, of a page of them as `elements` has it.

        Raises NotFound, Forbidden, and InternalError where a file is missing.
        """
        view = await self._find(caller, seq)
        outputs = await self._outputs_of(view, self._steps(view, after, limit), full=full, latest=True)
        return [shown for each in outputs for shown in each]

    async def all_output(
        self, caller: Scope, seq: int, *, after: int | None = None, limit: int | None = None, full: bool = False
    ) -> list[list[Shown]]:
        """A list for each element, of the output of each attempt; a file that is missing has a line that says so."""
        view = await self._find(caller, seq)
        return await self._outputs_of(view, self._steps(view, after, limit), full=full, latest=False)

    async def element_output(
        self, caller: Scope, seq: int, idx: int, attempt: int = -1, *, full: bool = False
    ) -> Shown:
        """The output of an attempt: 1 is the first, -1 the latest.

        Raises NotFound, BadRequest where none has begun or there is no such attempt, InternalError for a missing file.
        """
        view, step = await self._find_step(caller, seq, idx)
        found = _begun((await self._attempts(view, [step])).get(idx, []))
        if not found:
            raise BadRequest(f"the output of element {idx} of job {seq} is not ready yet", path="element")
        numbers = [one.n for one in found]
        if attempt not in numbers and not -len(found) <= attempt < 0:
            there = ", ".join(map(str, numbers[-20:]))
            raise BadRequest(
                f"attempt: there is no {attempt}; there are {there}, and -1 for the latest", path="attempt"
            )
        chosen = found[attempt] if attempt < 0 else found[numbers.index(attempt)]
        return (await self._shown_outputs(self._logs(), view, [(step, [chosen])], full=full, strict=True))[0][0]

    async def all_element_output(self, caller: Scope, seq: int, idx: int, *, full: bool = False) -> list[Shown]:
        """The output of each attempt of an element. Raises NotFound, and BadRequest where none has begun."""
        view, step = await self._find_step(caller, seq, idx)
        found = _begun((await self._attempts(view, [step])).get(idx, []))
        if not found:
            raise BadRequest(f"the output of element {idx} of job {seq} is not ready yet", path="element")
        return (await self._shown_outputs(self._logs(), view, [(step, found)], full=full))[0]

    # What these stand on

    async def _find(self, caller: Scope, seq: int, right: str = "read") -> JobView:
        view = await self._queue.detail(seq) if 0 <= seq < SEQ_MAX else None
        if view is None or not _is_file_job(view) or is_anothers_transfer(caller, view):
            raise NotFound(f"there is no job {seq}", path="job")
        if not caller.may_job(view.name, right):
            raise Forbidden(f"{caller.account} may not {right} {view.name}")
        return view

    async def _find_step(self, caller: Scope, seq: int, idx: int) -> tuple[JobView, StepView]:
        view = await self._find(caller, seq)
        steps = await self._queue.steps(view.id, idx - 1, 1) if 0 <= idx < view.steps_total else []
        if not steps or steps[0].idx != idx:
            raise NotFound(f"job {seq} has no element {idx}", path="element")
        return view, steps[0]

    async def _shown_jobs(self, views: Sequence[JobView], *, counts: bool = False) -> list[Shown]:
        ids = [view.id for view in views]
        live = [view.id for view in views if view.state == "running"]
        running = await self._store.read(lambda connection: reading.running(connection, live)) if live else set()
        shown = [shape.job(view, running=view.id in running) for view in views]
        if counts:
            found = await self._store.read(lambda connection: reading.counts(connection, ids))
            shown = [{**one, **shape.counted(found.get(key, {}))} for one, key in zip(shown, ids, strict=True)]
        return shown

    async def _job_state(self, view: JobView) -> Shown:
        if view.state != "running":
            return shape.job_state(view, running=False)
        running = await self._store.read(lambda connection: reading.running(connection, [view.id]))
        return shape.job_state(view, running=bool(running))

    async def _awaited(
        self, job_id: str, look: Callable[[], Any], wait: float, known: str | None, *, elements: bool
    ) -> Shown:
        """What `look` gives when it is over or news, or when the time is."""
        if wait <= 0:
            return dict(await look())
        with self._watch.following(job_id, elements=elements) as waiter:
            with anyio.move_on_after(wait):
                while True:
                    shown: Shown = await look()
                    if shown["status"] in FINAL or (known is not None and shown["status"] != known):
                        return shown
                    await waiter.changed()
            return dict(await look())

    async def _steps(
        self, view: JobView, after: int | None = None, limit: int | None = None
    ) -> AsyncIterator[list[StepView]]:
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            steps = await self._queue.steps(view.id, after, size)
            yield steps
            if len(steps) < size:
                return
            after, left = steps[-1].idx, None if left is None else left - len(steps)

    async def _attempts(self, view: JobView, steps: Sequence[StepView]) -> dict[int, list[AttemptView]]:
        begun = [step.idx for step in steps if step.starts]
        if not begun:
            return {}
        return await self._store.read(lambda connection: reading.attempts_of(connection, view.id, begun))

    async def _outputs_of(
        self, view: JobView, pages: AsyncIterator[list[StepView]], *, full: bool, latest: bool
    ) -> list[list[Shown]]:
        logs, shown = self._logs(), []
        async for steps in pages:
            attempts = await self._attempts(view, steps)
            found = [(step, _begun(attempts.get(step.idx, []))[-1 if latest else 0 :]) for step in steps]
            shown += await self._shown_outputs(logs, view, [one for one in found if one[1]], full=full, strict=latest)
        return shown

    async def _shown_outputs(
        self,
        logs: Logs,
        view: JobView,
        found: Sequence[tuple[StepView, list[AttemptView]]],
        *,
        full: bool,
        strict: bool = False,
    ) -> list[list[Shown]]:
        """The outputs of some attempts of some steps. `strict`: a missing file is an error, and not a line."""
        texts = iter(await anyio.to_thread.run_sync(logs.read, [each for _, some in found for each in some]))
        return [
            [shape.output(each, step, view, _text(next(texts), each, view, strict=strict), full=full) for each in some]
            for step, some in found
        ]

    def _logs(self) -> Logs:
        return Logs(self._outputs, self._limits())


def _is_file_job(view: JobView) -> bool:
    """Whether it was asked for here: a job of another kind may have such a name, and other arguments."""
    return view.kind in KIND and view.name in TYPES and view.args.get("type") == TYPES[view.name]


def _begun(attempts: Sequence[AttemptView]) -> list[AttemptView]:
    """Those that have or had a process, and those that ended without."""
    return [one for one in attempts if one.started_at is not None or one.outcome is not None]


def _last(attempts: Sequence[AttemptView] | None) -> AttemptView | None:
    return attempts[-1] if attempts else None


def _text(log: str | None, attempt: AttemptView, view: JobView, *, strict: bool) -> str:
    if log is not None:
        return log
    what = f"the output file of attempt {attempt.n} of element {attempt.idx} of job {view.seq} is missing"
    if strict:
        raise InternalError(what)
    return f"[sysadmd: {what}]\n"
