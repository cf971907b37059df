"""One attempt of one step of a transfer job, for a worker.

::

    claim = …                                        # of the queue
    async with Sites(config.sites, limits) as sites:
        end = await run(claim.step, sites=sites, report=report, output=file)
        await queue.finish(claim.lease, end)

What fails is an `End` with the outcome `fail`, and a line in the output. Cancelling the call ends the attempt within a
chunk of 4 MiB: the worker knows whether that was a kill or a timeout.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, BinaryIO

import anyio

from sysadmd.errors import SysadmdError
from sysadmd.jobs.spec import StepSpec
from sysadmd.jobs.transfers.copying import Copy
from sysadmd.jobs.transfers.elements import expand
from sysadmd.jobs.transfers.faults import TransferError
from sysadmd.jobs.transfers.names import SitePath, parse, shown
from sysadmd.jobs.transfers.options import Options, options
from sysadmd.jobs.transfers.pretending import pretended_copy, pretended_listing
from sysadmd.jobs.transfers.progress import Report
from sysadmd.jobs.transfers.sites import Sites
from sysadmd.jobs.views import End, StepView

Result = tuple[Any, tuple[StepSpec, ...]]
"""The result of a step, and the steps that follow from it."""


async def run(
    step: StepView,
    *,
    sites: Sites,
    report: Report,
    output: BinaryIO,
    again: Callable[[], bool] = lambda: True,
    clock: Callable[[], float] = time.monotonic,
) -> End:
    """Make the attempt. `report` is told of progress; `output` gets what a person wants to read about it, in UTF-8.

    `again` is asked when the attempt is cancelled: whether another one may follow, for which half a file is kept.
    """
    attempt = _Attempt(step, sites, report, output, clock)
    attempt.another = lambda: step.tries_used < step.tries_max and again()
    # In a task of its own: a worker may cancel with asyncio's own means, and threads must not outlive their files.
    async with anyio.create_task_group() as group:
        group.start_soon(attempt.run)
    return attempt.end


class _Attempt:
    """One attempt."""

    def __init__(
        self, step: StepView, sites: Sites, report: Report, output: BinaryIO, clock: Callable[[], float]
    ) -> None:
        self.step, self.spec, self.sites, self.report, self.clock = step, step.spec, sites, report, clock
        self._output, self._written = output, 0
        self.another: Callable[[], bool] = lambda: True
        self.end = End(outcome="fail", exit_code=1)

    async def run(self) -> None:
        """Do it, and say in `end` how it ended."""
        try:
            self.log(self._headline())
            result, following = await self._result()
        except Exception as error:  # noqa: BLE001 - what is a defect has its traceback in the end of this attempt
            expected = isinstance(error, SysadmdError | OSError)
            text = str(error) if expected else f"{type(error).__name__}: {error}"
            lines = [] if expected else traceback.format_exception(error)
            self.log(f"failed: {text}")
            told = {"exception": type(error).__name__, "message": text, "traceback": lines}
            self.end = End(outcome="fail", exit_code=1, error=told, output_bytes=self._written)
        else:
            self.end = End(outcome="ok", exit_code=0, result=result, expand=following, output_bytes=self._written)

    async def _result(self) -> Result:
        operation = _OPERATIONS.get(self.step.type)
        if operation is None:
            raise TransferError(self.step.type, "is no operation on files")
        return await operation(self, options(self.spec.get("opts")))

    def log(self, line: str) -> None:
        """A line of the output. Control characters of names do not reach it."""
        raw = f"{shown(line)}\n".encode("utf-8", "backslashreplace")
        self._written += len(raw)
        # Where the output's disk is full, what the attempt does on others goes on.
        with suppress(OSError):
            self._output.write(raw)
            self._output.flush()

    def path(self, which: str) -> SitePath:
        """The path `src` or `dst`."""
        try:
            return parse(self.spec[which])
        except ValueError as error:
            raise TransferError(str(self.spec[which]), str(error)) from error

    @property
    def pretended(self) -> bool:
        """Whether nothing is to be touched."""
        if self.spec.get("protocol") == "DUMMY":
            return True
        ends = [self.spec[key] for key in ("src_site", "dst_site") if key in self.spec]
        pretends = [self.sites.pretends(end) for end in ends]  # each of them, as each has to be there
        return any(pretends)

    @property
    def repeated(self) -> bool:
        """Whether an earlier attempt may have done some of it."""
        return self.step.starts > 1

    def _headline(self) -> str:
        source = f"site {self.spec['src_site']} {self.spec['src']}"
        target = f" to site {self.spec['dst_site']} {self.spec['dst']}" if "dst" in self.spec else ""
        return f"{self.step.type} {source}{target}"


async def _list(attempt: _Attempt, options: Options) -> Result:
    path, after = attempt.path("src"), attempt.spec.get("then")
    if attempt.pretended:
        listing = pretended_listing(path, options)
    else:
        levels = 1 if after is None and not options.recursive else None
        # What is renamed has to be there; what is in it does not matter.
        levels = 0 if after == "RENAME" else levels
        listing = await attempt.sites.site(attempt.spec["src_site"]).listing(path, levels=levels)
    attempt.log(f"{sum(map(len, listing.values()))} entries in {len(listing)} directories")
    following = tuple(await attempt.sites.threads.run(expand, attempt.spec, listing))
    if after is not None:
        attempt.log(f"{len(following)} steps follow")
    return {"listing": listing}, following


async def _copy(attempt: _Attempt, options: Options) -> Result:
    src, dst, step = attempt.path("src"), attempt.path("dst"), attempt.step
    if attempt.pretended:
        result = await pretended_copy(step.size, options, attempt.report, attempt.clock)
    else:
        copy = Copy(
            source=attempt.sites.site(attempt.spec["src_site"]),
            src=src,
            target=attempt.sites.site(attempt.spec["dst_site"]),
            dst=dst,
            step=f"{step.job_id}:{step.idx}",
            again=attempt.repeated,
            keep=attempt.another,
            checksum=options.checksum is not None,
            overwrite=options.overwrite is not False,
            threads=attempt.sites.threads,
            log=attempt.log,
            report=attempt.report,
            clock=attempt.clock,
        )
        result = await copy.run()
    attempt.log(f"{result['transferred']} bytes in {result['elapsed']} s")
    if "checksum" in result:
        attempt.log(f"sha256 {result['checksum']['sha256']}")
    return result, ()


async def _remove(attempt: _Attempt, options: Options) -> Result:
    path = attempt.path("src")
    if not attempt.pretended:
        attempt.log(await attempt.sites.site(attempt.spec["src_site"]).remove(path))
    return None, ()


async def _rename(attempt: _Attempt, options: Options) -> Result:
    src, dst = attempt.path("src"), attempt.path("dst")
    if attempt.spec["src_site"] != attempt.spec["dst_site"]:
        raise TransferError(dst.text, "is on another site: copy and remove it instead")
    if not attempt.pretended:
        site = attempt.sites.site(attempt.spec["src_site"])
        attempt.log(await site.rename(src, dst, overwrite=options.overwrite is True, again=attempt.repeated))
    return None, ()


async def _make(attempt: _Attempt, options: Options) -> Result:
    path = attempt.path("src")
    if not attempt.pretended:
        attempt.log(await attempt.sites.site(attempt.spec["src_site"]).make(path, parents=options.parents))
    return None, ()


_OPERATIONS: Mapping[str, Callable[[_Attempt, Options], Awaitable[Result]]] = MappingProxyType(
    {"LIST": _list, "COPY": _copy, "REMOVE": _remove, "RENAME": _rename, "MKDIR": _make}
)
