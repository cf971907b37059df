"""Following one job: its events say when to look, and long calls bring its output. Nothing is asked again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sysadmd.client import AsyncClient

FINAL = frozenset({"complete", "error", "inactive", "killed"})
TOPICS = ("queue", "workqueue")
REST = 0.5
"""Seconds between two looks at a transfer for the sake of its elements, which may be many."""
PATIENCE = 20.0
"""Seconds that one call waits for output; below the client's deadline for a call."""

Job = dict[str, Any]


class Follower:
    """Follows the job `job_id`. `changed(event, job)` is called with each of its events, "" for progress;
    `output(text)`, where there is one, with what it writes.
    """

    def __init__(
        self,
        client: AsyncClient,
        job_id: str,
        *,
        changed: Callable[[str, Job], None],
        output: Callable[[str], None] | None = None,
    ) -> None:
        self._client, self._id = client, job_id
        self._changed, self._output = changed, output
        self._told = asyncio.Event()
        self._looked = 0.0

    async def run(self) -> Job:
        """Until the job is over: the job then. Raises what calls and streams raise."""
        # First the events, then the look: what happens between the two is told.
        async with self._client.events(TOPICS) as stream:
            job = await self._look("")
            reading = None if self._output is None else asyncio.create_task(self.read_output())
            try:
                while job["state"] not in FINAL:
                    event = await anext(stream)
                    name = self._concerns(event.topic, event.args, job)
                    if name is not None:
                        job = await self._look(name)
                if reading is not None:
                    await reading
            finally:
                if reading is not None:
                    reading.cancel()
        return job

    async def read_output(self, attempt: int | None = None) -> None:
        """Hand on what the job writes, execution after execution, until it is over; only one of them if it is named."""
        assert self._output is not None
        offset, latest = 0, attempt
        while True:
            self._told.clear()
            args: dict[str, Any] = {"job": self._id, "offset": offset, "follow": PATIENCE}
            part = await self._client.call("queue/output", args if latest is None else {**args, "attempt": latest})
            if part["data"]:
                self._output(part["data"])
            offset, latest = part["next_offset"], part["attempt"]
            if not part["eof"]:
                continue
            if attempt is not None or part["state"] in FINAL:
                newest = await self._newest(latest) if attempt is None else latest
                if newest == latest:
                    return
                offset, latest = 0, newest
            else:
                await self._told.wait()
                offset, latest = await self._after(latest, offset)

    async def _after(self, latest: int | None, offset: int) -> tuple[int, int | None]:
        newest = await self._newest(latest)
        return (offset, latest) if newest == latest else (0, newest)

    async def _newest(self, known: int | None) -> int | None:
        """The next execution after the one that was read, or that one."""
        attempts = (await self._client.call("queue/detail", {"job": self._id}))["attempts"]
        later = [one["n"] for one in attempts if one["n"] > (known or 0)]
        return later[0] if later else known

    def _concerns(self, topic: str, args: Any, job: Job) -> str | None:
        """The name of an event that is about the job, "" for one that may be (progress, a gap), else None."""
        if topic not in TOPICS or not isinstance(args, dict):
            return ""
        if topic == "workqueue":
            mine = args.get("job", {}).get("id") == self._id
            return "" if mine and time.monotonic() - self._looked >= REST else None
        if args.get("event") == "summary":
            running = any(row["name"] == job["name"] and row["state"] == "running" for row in args["rows"])
            return "" if running else None
        return str(args["event"]) if args.get("job", {}).get("id") == self._id else None

    async def _look(self, event: str) -> Job:
        found: Job = (await self._client.call("queue/detail", {"job": self._id}))["job"]
        self._looked = time.monotonic()
        self._changed(event, found)
        self._told.set()
        return found
