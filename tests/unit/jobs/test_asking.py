from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from sysadmd.errors import TooManyRequests, Unavailable
from sysadmd.jobs import asking
from sysadmd.jobs.asking import Phase
from sysadmd.jobs.views import End
from tests.unit.jobs.queueing import TASK, WORKER, Bench, bench, task


def commits(b: Bench) -> list[int]:
    """Numbers of asks of each turn from now on."""
    found: list[int] = []
    landed = b.queue._asking._done

    def done(turn: Any, asks: Any) -> None:
        found.append(len(asks))
        landed(turn, asks)

    b.queue._asking._done = done
    return found


async def test_what_is_asked_in_one_turn_of_the_loop_shares_a_transaction(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        turns = commits(b)
        claiming = asyncio.create_task(b.queue.claim(WORKER, 9, TASK))
        await asyncio.gather(*(b.queue.enqueue(task(), owner="o") for _ in range(5)))
        # Claims come last in a turn, whenever they were asked for.
        assert len(await claiming) == 5
        assert turns == [6]


async def test_a_defect_takes_nobody_else_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(turn: Any, _: Any) -> None:
        turn.put(None)

    async with bench(tmp_path) as b:
        bad = b.queue._asking.ask(Phase.CONTROL, broken)
        job = await b.queue.enqueue(task(), owner="o")
        with pytest.raises(TypeError):
            await bad
        assert await b.state(job.id) == "pending"
        assert b.queue.counts() == {"pending": 1}
        assert "tried one by one" in caplog.text


async def test_too_much_that_waits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ASKS_WAITING", 2)
    async with bench(tmp_path) as b:
        waiting = [b.queue._asking.ask(Phase.CONTROL, lambda turn, _: 1) for _ in range(2)]
        with pytest.raises(Unavailable):
            b.queue._asking.ask(Phase.CONTROL, lambda turn, _: 1)
        assert await asyncio.gather(*waiting) == [1, 1]


async def test_one_job_more_than_the_queue_takes_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path, {"limits.queued_jobs": 2}) as b:
        await b.queue.enqueue(task(), owner="o")
        with pytest.raises(TooManyRequests):
            await b.queue.enqueue_many([task(), task()], owner="o")
        await b.queue.enqueue(task(), owner="o")
        with pytest.raises(TooManyRequests):
            await b.queue.enqueue(task(), owner="o")
        await b.run()
        await b.queue.enqueue(task(), owner="o")


async def test_a_caller_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        asked = asyncio.create_task(b.queue.enqueue(task(), owner="o"))
        await asyncio.sleep(0)
        asked.cancel()
        await b.queue.enqueue(task(), owner="o")
        assert b.queue.counts() == {"pending": 2}


async def test_a_store_that_fails_refuses_what_was_asked_and_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> Any:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))

    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        claim = await b.one()
        await b.queue.progress(claim.lease, 0.5)
        with monkeypatch.context() as broken:
            broken.setattr(b.store, "transaction", full)
            with pytest.raises(Unavailable):
                await b.queue.enqueue(task(), owner="o")
            with pytest.raises(Unavailable):
                await b.queue.finish(claim.lease, End(outcome="ok"))
            with pytest.raises(Unavailable):
                await b.look(2)
        assert await b.queue.finish(claim.lease, End(outcome="ok"))
        assert b.queue.counts() == {}
        assert b.names() == ["enqueue_job", "request_start_job", "complete_job"]


async def test_a_defect_after_the_commit_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(turn: Any, asks: Any) -> None:
        raise ValueError("broken")

    async with bench(tmp_path) as b:
        monkeypatch.setattr(b.queue._asking, "_done", broken)
        job = await asyncio.wait_for(b.queue.enqueue(task(), owner="o"), 20)
        assert await b.state(job.id) == "pending"
        assert "what follows a turn of the job queue failed" in caplog.text
