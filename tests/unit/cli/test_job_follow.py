"""Following a job, against a client that plays what a server would say."""

from __future__ import annotations

import asyncio
from typing import Any, Self, cast

from sysadmd.cli.job_follow import Follower
from sysadmd.client import AsyncClient, Event

ID = "6925a3c09d1f04b7e2000001"


class Stream:
    def __init__(self, events: asyncio.Queue[Any]) -> None:
        self._events = events

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def __anext__(self) -> Event:
        return Event("queue", await self._events.get(), "e", 1, 0.0, "n")


class Played:
    """A server with one job: its state, and what each execution wrote; None: that one has not ended."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.state, self.outputs, self.open, self.calls = "running", ["one\n"], True, 0

    def events(self, topics: tuple[str, ...]) -> Stream:
        assert "queue" in topics
        return Stream(self.queue)

    def tell(self, event: str, state: str) -> None:
        self.state = state
        self.queue.put_nowait({"event": event, "job": {"id": ID}, "counts": {}, "attempts_left": 0})

    async def call(self, method: str, args: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        self.calls += 1
        if method == "queue/detail":
            attempts = [{"n": n} for n in range(1, len(self.outputs) + 1)]
            return {"job": {"id": ID, "name": "demo.Job", "state": self.state}, "attempts": attempts}
        n = args.get("attempt", len(self.outputs))
        text = self.outputs[n - 1][args["offset"] :]
        ended = not self.open or n < len(self.outputs)
        if not text and not ended:
            await asyncio.sleep(0.01)
        return {
            "attempt": n, "data": text, "next_offset": args["offset"] + len(text), "eof": ended, "state": self.state,
        }  # fmt: skip


def follower(played: Played, seen: list[Any], out: list[str] | None = None) -> Follower:
    client = cast("AsyncClient", played)
    write = None if out is None else out.append
    return Follower(client, ID, changed=lambda event, job: seen.append((event, job["state"])), output=write)


async def test_each_event_of_the_job_is_told_and_those_of_others_are_not() -> None:
    played, seen = Played(), list[Any]()
    task = asyncio.create_task(follower(played, seen).run())
    played.queue.put_nowait({"event": "start_job", "job": {"id": "f" * 24}, "counts": {}, "attempts_left": 0})
    played.queue.put_nowait({"event": "summary", "rows": [{"name": "other", "state": "running"}]})
    played.queue.put_nowait({"event": "summary", "rows": [{"name": "demo.Job", "state": "running"}]})
    while len(seen) < 2:
        await asyncio.sleep(0)
    played.tell("complete_job", "complete")
    assert (await task)["state"] == "complete"
    assert seen == [("", "running"), ("", "running"), ("complete_job", "complete")]


async def test_a_job_that_is_over_already_needs_no_event() -> None:
    played, seen = Played(), list[Any]()
    played.state, played.open = "error", False
    out: list[str] = []
    assert (await follower(played, seen, out).run())["state"] == "error"
    assert out == ["one\n"]


async def test_the_output_of_each_execution_is_written_once() -> None:
    played, seen, out = Played(), list[Any](), list[str]()
    task = asyncio.create_task(follower(played, seen, out).run())
    while not out:
        await asyncio.sleep(0)
    played.open = False
    played.tell("failed_job", "failed")
    await asyncio.sleep(0.05)
    played.outputs.append("two\n")
    played.open = True
    played.tell("start_job", "running")
    while len(out) < 2:
        await asyncio.sleep(0)
    played.open = False
    played.tell("complete_job", "complete")
    await task
    assert out == ["one\n", "two\n"]


async def test_one_execution_is_read_to_its_end_and_no_further() -> None:
    played, out = Played(), list[str]()
    played.outputs.append("two\n")
    await follower(played, [], out).read_output(1)
    assert out == ["one\n"]
