"""What happens to one job, as server-sent events, and what it wrote.

A stream is a session of its own, so it ends with the token, the account or the server as every other does. It wakes
when an event tells of its job, and each second for what the job writes meanwhile::

    event: state    the job's document, at first and after each change
    event: log      what it wrote since
    event: close    its last state; nothing comes after it
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread

from sysadmd.errors import Forbidden
from sysadmd.events.filter import Filter
from sysadmd.events.subscription import SubscriptionSpec
from sysadmd.jobs.model import FINAL_STATES
from sysadmd.jobs.output_reading import read_bytes, size_of
from sysadmd.jobs.rights import may
from sysadmd.jobs.views import JobView
from sysadmd.listen.core4.channels import Sight
from sysadmd.listen.core4.exchange import Exchange
from sysadmd.listen.core4.pager import Page
from sysadmd.listen.core4.records import document
from sysadmd.listen.sse import EventStream, StreamOutlet
from sysadmd.rpc.session import Session
from sysadmd.wire.messages import Meta, Request
from sysadmd.wire.text import encode

LOOK = 1.0
"""Seconds between two looks at what a job writes."""
CHUNK = 64 * 1024
"""Bytes of output in one event."""
LOG_MAX = 4 * 1024 * 1024
"""Bytes of output that are paged; of more, the end."""
OUTPUT = "output"


class _Wake:
    """A dialect that tells of a record only that there is one."""

    name = "core4-wake"

    def reply(self, request: Request, result: Any) -> bytes:
        raise NotImplementedError

    def error(self, request: Request | None, error: Exception) -> bytes:
        raise NotImplementedError

    def event(self, topic: str, data: Any, meta: Meta | None = None) -> Sequence[bytes]:
        return [b"."]


_WAKE = _Wake()


async def follow(exchange: Exchange, job: JobView) -> EventStream:
    """The response that tells what happens to a job from now on."""
    scope, engine = exchange.scope, exchange.engine
    if not may(scope, job):
        raise Forbidden(f"{scope.account} may not read this job")
    outlet = StreamOutlet(keepalive=LOOK)
    old, new = exchange.session, engine.open(outlet, exchange.session.peer)
    try:
        new.login(scope, old.token, old.expires, old.voucher, method=old.method or "token")
        wanted = Filter.parse({"job.id": job.id})
        # The permission is for this job; the topic belongs to it.
        spec = SubscriptionSpec(frozenset({"queue"}), _WAKE, _OneJob(scope), filter=wanted)
        new.subscriptions.add_extended(spec)
    except BaseException:
        new.close()
        raise
    limits = engine.limits
    stream = EventStream(new, outlet, patience=limits.ping_interval + limits.ping_timeout)
    stream.body_iterator = _told(exchange, job.id, new, outlet)
    return stream


class _Reading:
    """How far the output of one attempt was read; a character may lie across two reads. `over`: there is no more."""

    def __init__(self) -> None:
        self.offset = 0
        self.over = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, chunk: bytes) -> str:
        self.offset += len(chunk)
        return self._decoder.decode(chunk)


class _OneJob(Sight):
    """Sees the topic whatever the account may see elsewhere."""

    def may_see(self, topic: str) -> bool:
        return topic == "queue"


async def output_page(exchange: Exchange, job: JobView) -> Page:
    """What a job wrote, in pages of lines."""
    attempts = await exchange.parts.queue.attempts(job.id)
    root = exchange.parts.config.state_dir / OUTPUT
    text = await anyio.to_thread.run_sync(_end_of, root, [one.output_path for one in attempts])
    lines = text.decode("utf-8", "replace").splitlines()
    rows = [{"_id": number, "identifier": job.id, "message": line} for number, line in enumerate(lines)]
    return exchange.page().of(rows)


def _end_of(root: Path, paths: Sequence[str | None]) -> bytes:
    """The last LOG_MAX bytes of some files, one after the other. Blocking."""
    parts: list[bytes] = []
    left = LOG_MAX
    for path in reversed(paths):
        parts.append(read_bytes(root, path, max(0, size_of(root, path) - left), left))
        left -= len(parts[-1])
        if left <= 0:
            break
    return b"".join(reversed(parts))


async def _told(exchange: Exchange, job_id: str, session: Session, outlet: StreamOutlet) -> AsyncIterator[bytes]:
    queue, root = exchange.parts.queue, exchange.parts.config.state_dir / OUTPUT
    read: dict[tuple[int, int], _Reading] = {}
    shown = None
    while (job := await queue.detail(job_id)) is not None:
        if not _may_read(session, job):
            break
        attempts = await queue.attempts(job_id)
        state = document(job, attempts)
        if state != shown:
            shown = state
            yield _block("state", state)
        for one in attempts:
            reading = read.setdefault((one.idx, one.n), _Reading())
            while not reading.over and _may_read(session, job):
                chunk = await anyio.to_thread.run_sync(read_bytes, root, one.output_path, reading.offset, CHUNK)
                if not chunk:
                    reading.over = one.outcome is not None
                    break
                yield _block("log", {"message": reading.text(chunk)})
        if job.state in FINAL_STATES:
            yield _block("close", state)
            return
        if await outlet.take() is None:
            break
        session.subscriptions.resume()
    yield _block("close", {"error": outlet.reason or "the job cannot be followed any more"})


def _may_read(session: Session, job: JobView) -> bool:
    """Asked after whatever was awaited: a log-out takes the scope, and a policy that changed replaces it."""
    return session.scope is not None and may(session.scope, job)


def _block(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), encode(data))
