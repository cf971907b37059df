"""One file from any site to any site.

::

    source ──4 MiB──► part (temporary name, beside the target) ──sync──► checked ──rename──► target

An attempt that fails leaves the part where it has at least one checkpoint, and the next attempt goes on from the last
one: every 64 MiB the part is synced before anything more is written, so what lies before a checkpoint survives even a
power failure. Its name holds the source's size and time, so the part belongs to this very source; and a checksum of
what is there is compared with the source before it is trusted: of all of it where both are files of this host, of the
last 4 MiB where reading it again would cost as much as sending it.

Between two directories of this host the kernel copies. Otherwise the next chunk is read while one is written, and no
more than three of them are in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from sysadmd.jobs.transfers.faults import TransferError
from sysadmd.jobs.transfers.file_site import FileSource, FileTarget, Threads
from sysadmd.jobs.transfers.names import SitePath
from sysadmd.jobs.transfers.part import CHUNK, copy_range
from sysadmd.jobs.transfers.progress import Progress, Report
from sysadmd.jobs.transfers.site import Found, Site, Source, Target

CHECKPOINT = 64 * 1024 * 1024
"""Bytes between two syncs of a part, and the least that is worth going on from."""
CLEANUP = 5.0
"""Seconds that a failed or cancelled attempt has for giving back what it holds."""
SECOND = 1_000_000_000
Slice: TypeAlias = tuple[int, bytes]


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What is copied where, and how. `step` names the step for ever; `again`: an earlier attempt began;
    `keep`: there may be another one, which goes on from the part.
    """

    source: Site
    src: SitePath
    target: Site
    dst: SitePath
    step: str
    again: bool
    keep: Callable[[], bool]
    checksum: bool
    overwrite: bool
    threads: Threads
    log: Callable[[str], None]
    report: Report
    clock: Callable[[], float]
    checkpoint: int = CHECKPOINT

    async def run(self) -> dict[str, Any]:
        """Copy; returns the result of the step: the last figures, and the checksum where one was asked for."""
        async with _open(await self.source.source(self.src)) as source:
            found = source.found
            there = await self.target.look(self.dst)
            if there is not None:
                if there.identity is not None and there.identity == found.identity:
                    raise TransferError(self.dst.text, "is the source itself")
                if self.again and _same(there, found):
                    self.log("an earlier attempt has copied it already")
                    return await self._finished(source, Progress(self.report, found.size, self.clock, found.size))
                if not self.overwrite:
                    raise TransferError(self.dst.text, "is there already")
            async with self._part(source) as target:
                return await self._through(source, target)

    async def _through(self, source: Source, target: Target) -> dict[str, Any]:
        found = source.found
        start = await resume_point(source, target, self.checkpoint, self.threads)
        if start:
            self.log(f"going on at {start} of {found.size} bytes")
        await target.truncate(start)
        digest = hashlib.sha256() if self.checksum else None
        if digest is not None and start:
            kept = target if isinstance(target, FileTarget) else source
            await _digest(digest, kept, 0, start, self.threads)
        progress = Progress(self.report, found.size, self.clock, start)
        reached = await _Transfer(self, source, target, progress, digest).run()
        if reached != found.size or await source.changed():
            raise TransferError(self.src.text, "was changed while it was copied", worthless=True)
        if digest is not None and isinstance(target, FileTarget):
            written = hashlib.sha256()
            await _digest(written, target, 0, reached, self.threads)
            if written.digest() != digest.digest():
                raise TransferError(self.dst.text, "what was written has another checksum", worthless=True)
        await target.publish(found.mode, found.mtime_ns, overwrite=self.overwrite)
        progress.reached(reached, last=True)
        return _result(progress, digest)

    async def _finished(self, source: Source, progress: Progress) -> dict[str, Any]:
        """The result of a copy that is there already."""
        digest = hashlib.sha256() if self.checksum else None
        if digest is not None:
            await _digest(digest, source, 0, source.found.size, self.threads)
        progress.reached(source.found.size, last=True)
        return _result(progress, digest)

    @asynccontextmanager
    async def _part(self, source: Source) -> AsyncIterator[Target]:
        name = part_name(self.step, source.found)
        target = await self.target.target(self.dst, name)
        try:
            yield target
        except BaseException as error:
            worthless = isinstance(error, TransferError) and error.worthless
            if target.length > self.checkpoint and not worthless and self.keep():
                self.log(f"what was written is kept for the next attempt, as {os.fsdecode(name)} beside the target")
            else:
                with anyio.move_on_after(CLEANUP, shield=True):
                    await target.discard()
            raise
        finally:
            with anyio.move_on_after(CLEANUP, shield=True):
                await target.aclose()


def part_name(step: str, found: Found) -> bytes:
    """The temporary name of a step's file. A source that was changed meanwhile has another one."""
    mark = f"{step}\0{found.size}\0{found.mtime_ns}".encode()
    return b".sysadmd-" + hashlib.sha256(mark).hexdigest()[:24].encode() + b".part"


async def resume_point(source: Source, target: Target, checkpoint: int, threads: Threads) -> int:
    """How many bytes of the part are whole: up to its last checkpoint, if they are those of the source, else none.

    A part that ends at a checkpoint may not have been synced there.
    """
    whole = max(0, min(target.length, source.found.size) - 1) // checkpoint * checkpoint
    if not whole:
        return 0
    both_here = isinstance(source, FileSource) and isinstance(target, FileTarget)
    begin = 0 if both_here else max(0, whole - CHUNK)
    sums = hashlib.sha256(), hashlib.sha256()
    await _digest(sums[0], source, begin, whole, threads)
    await _digest(sums[1], target, begin, whole, threads)
    return whole if sums[0].digest() == sums[1].digest() else 0


class _Transfer:
    """The bytes of one file, from where `progress` begins."""

    def __init__(self, copy: Copy, source: Source, target: Target, progress: Progress, digest: Any) -> None:
        self._source, self._target, self._at = source, target, progress.transferred
        self._progress, self._digest = progress, digest
        self._threads, self._checkpoint = copy.threads, copy.checkpoint
        self._size = source.found.size
        self._failure: Exception | None = None

    async def run(self) -> int:
        """Move them; returns the offset of the end. Stops at the size that the source had, even if it grows."""
        if isinstance(self._source, FileSource) and isinstance(self._target, FileTarget) and self._digest is None:
            await self._in_the_kernel(self._source, self._target)
            return self._at
        send, receive = anyio.create_memory_object_stream[Slice](1)
        with send, receive:
            async with anyio.create_task_group() as group:
                for work in (partial(self._reads, send), partial(self._writes, receive)):
                    group.start_soon(self._kept, work, group.cancel_scope)
        if self._failure is not None:
            raise self._failure
        return self._at

    async def _in_the_kernel(self, source: FileSource, target: FileTarget) -> None:
        while self._at < self._size:
            count = min(2 * CHUNK, self._size - self._at, self._checkpoint - self._at % self._checkpoint)
            done = await self._threads.run(copy_range, source.file, target.part, self._at, count)
            if not done:
                return
            await self._reached(done)

    async def _reads(self, send: MemoryObjectSendStream[Slice]) -> None:
        async with send:
            at = self._at
            while at < self._size:
                data = await self._source.read(
                    at, min(CHUNK, self._size - at, self._checkpoint - at % self._checkpoint)
                )
                if not data:
                    return
                await send.send((at, data))
                at += len(data)

    async def _writes(self, receive: MemoryObjectReceiveStream[Slice]) -> None:
        async with receive:
            async for at, data in receive:
                if self._digest is not None:
                    await self._threads.run(self._digest.update, data)
                await self._target.write(at, data)
                await self._reached(len(data))

    async def _reached(self, count: int) -> None:
        before = self._at // self._checkpoint
        self._at += count
        if self._at // self._checkpoint != before:
            await self._target.sync()
        self._progress.reached(self._at)

    async def _kept(self, work: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        """A failure of either side ends both, and is raised as itself rather than in a group."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again by run()
            self._failure = self._failure or error
            scope.cancel()


@asynccontextmanager
async def _open(source: Source) -> AsyncIterator[Source]:
    try:
        yield source
    finally:
        with anyio.move_on_after(CLEANUP, shield=True):
            await source.aclose()


async def _digest(digest: Any, file: Source | Target, begin: int, end: int, threads: Threads) -> None:
    at = begin
    while at < end:
        data = await file.read(at, min(CHUNK, end - at))
        if not data:
            return
        await threads.run(digest.update, data)
        at += len(data)


def _same(there: Found, found: Found) -> bool:
    """Whether it is what a copy would make; times only as exact as both sites know them."""
    return there.size == found.size and there.mtime_ns // SECOND == found.mtime_ns // SECOND


def _result(progress: Progress, digest: Any) -> dict[str, Any]:
    result = progress.figures()
    if digest is not None:
        result["checksum"] = {"sha256": digest.hexdigest()}
    return result
