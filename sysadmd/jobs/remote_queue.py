"""The queue of a server in another process: what a worker needs of it, over the server's Unix socket.

Each call is one method of `queue/work`. A connection that is lost is made again by the next call. A call that was under
way then may have been carried out or not, so it is made again, and that harms nothing: a claim whose answer is lost
runs out with its leases, and an end that is told twice is refused the second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import anyio
import msgspec

from sysadmd.client.errors import RemoteError
from sysadmd.errors import BadRequest, PayloadTooLarge
from sysadmd.jobs.views import Claim, End, Worker

AT_ONCE = 12
"""Calls at once: a connection may have 20, and renewals must find a place among them."""
PATIENCE = 15.0
"""Seconds for an answer, half of the usual lease."""
RESULT_LIMIT = 512 * 1024
"""Bytes of a result: it has to fit into a frame of 1 MiB, with room for escapes."""


class Caller(Protocol):
    """A connected client (client/async_client.py)."""

    async def call(self, method: str, args: Any = None, *, timeout: float | None = None) -> Any:
        """The result of a call. Raises ClientError."""
        ...


class RemoteQueue:
    """The queue behind `client`. Raises ClientError where the server is away or refuses."""

    def __init__(self, client: Caller) -> None:
        self._client = client
        self._room = anyio.Semaphore(AT_ONCE)
        self._halted = False
        self._seen: dict[str, int] = {}

    async def claim(self, worker: Worker, limit: int, kinds: frozenset[str]) -> list[Claim]:
        """Lease up to `limit` steps that are due."""
        args = {"worker": msgspec.to_builtins(worker), "limit": limit, "kinds": sorted(kinds)}
        answer = await self._call("claim", args)
        self._halted = bool(answer["halted"])
        self._seen.update((kind, answer["seen"]) for kind in kinds)
        return msgspec.convert(answer["claims"], list[Claim])

    async def wait_work(self, kinds: frozenset[str], timeout: float) -> bool:
        """Wait until something may be claimable, at most `timeout` seconds."""
        seen = min((self._seen[kind] for kind in kinds if kind in self._seen), default=0)
        args = {"kinds": sorted(kinds), "timeout": timeout, "seen": seen}
        answer = await self._client.call("queue/work/wait", args, timeout=timeout + PATIENCE)
        return bool(answer["work"])

    def halted(self, worker: Worker) -> bool:
        """Whether the worker is to leave, by the answer to its last claim."""
        return self._halted

    async def started(self, lease: str, *, pid: int | None, pid_start: str | None) -> bool:
        """What the lease is about runs; False: the lease is lost."""
        return bool((await self._call("started", {"lease": lease, "pid": pid, "pid_start": pid_start}))["held"])

    async def renew(self, leases: list[str]) -> set[str]:
        """Hold leases for longer; those that still hold."""
        answer = await self._client.call("queue/work/renew", {"leases": leases}, timeout=PATIENCE)
        return set(answer["held"])

    async def progress(
        self, lease: str, value: float | None, message: str | None = None, data: Mapping[str, Any] | None = None
    ) -> bool:
        """How far it is."""
        args = {"lease": lease, "value": value, "message": message, "data": data}
        return bool((await self._call("progress", args))["held"])

    async def finish(self, lease: str, end: End) -> bool:
        """It is over; False: the lease was lost, or this has been said before."""
        told = {name: value for name, value in msgspec.to_builtins(end).items() if name in _TOLD and value is not None}
        try:
            return bool((await self._call("finish", {"lease": lease, "end": told}))["held"])
        except RemoteError as error:
            if error.code not in {BadRequest.code, PayloadTooLarge.code}:
                raise
            # Such as a result that is nested too deeply for a frame: said again it would be refused again.
            why = {"exception": "ResultRefused", "message": f"the server refused the result: {error}", "traceback": []}
            refused = {"outcome": "fail", "error": why, "output_bytes": end.output_bytes}
            return bool((await self._call("finish", {"lease": lease, "end": refused}))["held"])

    async def _call(self, name: str, args: Mapping[str, Any]) -> Any:
        async with self._room:
            return await self._client.call(f"queue/work/{name}", args, timeout=PATIENCE)


_TOLD = frozenset({"outcome", "exit_code", "signal", "error", "delay", "result", "output_bytes"})
