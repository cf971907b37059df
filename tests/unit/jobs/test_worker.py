"""A worker between a pretended queue and pretended work: what it does with claims, leases and ends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from sysadmd.jobs import worker as module
from sysadmd.jobs.output_file import OutputFile, OutputRefused
from sysadmd.jobs.views import Claim, End, JobView, StepView
from sysadmd.jobs.views import Worker as Identity
from sysadmd.jobs.work import Began, Work
from sysadmd.jobs.worker import Worker
from sysadmd.jobs.workshop import Workshop
from sysadmd.limits import Limits

LIMITS = Limits(drain=0.2, kill_grace=0.2)
OK = End(outcome="ok")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.02)
    monkeypatch.setattr(module, "RENEW_MOST", 0.02)


def claimed(name: str, seconds: float = 60.0, kind: str = "task") -> Claim:
    job = JobView(id=name, seq=1, kind=kind, name=name, lane="default", owner="olga", state="running", created_at=0.0)
    return Claim(job, StepView(job_id=name, idx=0, stage=0, type="task", state="leased"), name, 1, name, seconds)


class Queue:
    """Gives out what it is given, and remembers what it is told. `broken` names calls that fail."""

    def __init__(self, *claims: Claim) -> None:
        self.due = list(claims)
        self.told: list[tuple[Any, ...]] = []
        self.broken: set[str] = set()
        self.lost: set[str] = set()
        self.leave = False
        self.most = 0
        self.deaf: dict[str, anyio.Event] = {}
        """Calls that are answered only when the event comes."""
        self._work = anyio.Event()

    def add(self, *claims: Claim) -> None:
        self.due += claims
        self._work.set()

    def _call(self, name: str, *args: Any) -> None:
        if name in self.broken:
            raise ConnectionError(f"{name} is broken")
        self.told.append((name, *args))

    async def _heard(self, name: str) -> None:
        if name in self.deaf:
            await self.deaf[name].wait()

    async def claim(self, worker: Identity, limit: int, kinds: frozenset[str]) -> list[Claim]:
        self._call("claim", limit, *kinds)
        self.most = max(self.most, limit)
        found = [claim for claim in self.due if claim.job.kind in kinds][:limit]
        self.due = [claim for claim in self.due if claim not in found]
        self._work = anyio.Event()
        await self._heard("claim")
        return found

    async def wait_work(self, kinds: frozenset[str], timeout: float) -> bool:
        await self._work.wait()
        return True

    async def started(self, lease: str, *, pid: int | None, pid_start: str | None) -> bool:
        self._call("started", lease)
        await self._heard("started")
        return lease not in self.lost

    async def renew(self, leases: list[str]) -> set[str]:
        self._call("renew", *leases)
        return set(leases) - self.lost

    async def progress(
        self, lease: str, value: float | None, message: str | None = None, data: Mapping[str, Any] | None = None
    ) -> None:
        self._call("progress", lease, value, message, data)

    def halted(self, worker: Identity) -> bool:
        return self.leave

    async def finish(self, lease: str, end: End) -> bool:
        self._call("finish", lease, end.outcome)
        await self._heard("finish")
        return lease not in self.lost

    def ends(self) -> dict[str, str]:
        return {lease: outcome for name, lease, *rest in self.told if name == "finish" for outcome in rest}


class Pretended(Work):
    """Work that ends when the test says so, or when it is stopped; `deaf` only at once."""

    def __init__(self, claim: Claim, output: OutputFile, until: float) -> None:
        super().__init__(claim, output, until)
        self.over = anyio.Event()
        self.deaf = False
        self.error: Exception | None = None

    async def _run(self, began: Began) -> End:
        if self.error is not None:
            raise self.error
        await began(1, "2")
        await self.over.wait()
        return End(outcome=self.cause or "ok")

    def _stop(self, *, at_once: bool) -> None:
        if at_once or not self.deaf:
            self.over.set()


class Shop:
    kinds = frozenset({"task"})

    def __init__(self, directory: Path) -> None:
        self.works: dict[str, Pretended] = {}
        self.prepare: Callable[[Pretended], None] = lambda work: None
        self.refuse = False
        self._directory = directory

    def take(self, claim: Claim, until: float) -> Work:
        if self.refuse:
            raise OutputRefused("no room")
        output = OutputFile(os.open(self._directory / claim.output_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
        work = self.works[claim.lease] = Pretended(claim, output, until)
        self.prepare(work)
        return work


@dataclasses.dataclass
class Scene:
    queue: Queue
    shop: Shop
    worker: Worker

    async def until(self, true: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not true():
                await anyio.sleep(0.005)

    async def ended(self, lease: str) -> str:
        await self.until(lambda: lease in self.queue.ends())
        return self.queue.ends()[lease]

    async def begun(self, lease: str) -> Pretended:
        await self.until(lambda: ("started", lease) in self.queue.told)
        return self.shop.works[lease]


def made(queue: Queue, shop: Shop, slots: int = 2, limits: Limits = LIMITS, **options: Any) -> Worker:
    kinds = {"task": slots, "transfer": 1}
    return Worker(queue, cast("Workshop", shop), Identity("w@h", "h", 1.0), limits, slots=kinds, **options)


@contextlib.asynccontextmanager
async def scene(directory: Path, queue: Queue, *, slots: int = 2, **limits: Any) -> AsyncIterator[Scene]:
    shop = Shop(directory)
    worker = made(queue, shop, slots, dataclasses.replace(LIMITS, **limits))
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        yield Scene(queue, shop, worker)
        tasks.cancel_scope.cancel()


async def test_what_is_due_runs_and_its_end_is_told(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"))) as one:
        (await one.begun("a")).over.set()
        assert await one.ended("a") == "ok"


async def test_the_next_step_is_claimed_while_the_end_of_the_last_is_told(tmp_path: Path) -> None:
    queue = Queue(*map(claimed, "ab"))
    queue.deaf["finish"] = anyio.Event()
    async with scene(tmp_path, queue, slots=1) as one:
        (await one.begun("a")).over.set()
        await one.begun("b")
        assert one.worker.running == 2
        assert one.queue.ends() == {"a": "ok"}


async def test_ends_that_nobody_hears_take_no_more_places_than_there_are(tmp_path: Path) -> None:
    queue = Queue(*map(claimed, "abc"))
    queue.deaf["finish"] = anyio.Event()
    async with scene(tmp_path, queue, slots=1) as one:
        (await one.begun("a")).over.set()
        (await one.begun("b")).over.set()
        await one.ended("b")
        await anyio.wait_all_tasks_blocked()
        assert [claim.lease for claim in one.queue.due] == ["c"]
        queue.deaf["finish"].set()
        await one.begun("c")


async def test_an_end_that_comes_beside_a_claim_is_followed_by_another(tmp_path: Path) -> None:
    queue = Queue(claimed("a"))
    queue.deaf["finish"], queue.deaf["claim"] = anyio.Event(), anyio.Event()
    async with scene(tmp_path, queue, slots=1) as one:
        queue.deaf["claim"].set()
        work = await one.begun("a")
        queue.deaf["claim"] = anyio.Event()
        work.over.set()
        await one.ended("a")
        await anyio.wait_all_tasks_blocked()
        queue.due.append(claimed("b"))  # nobody is told of it
        queue.deaf["finish"].set()
        await anyio.wait_all_tasks_blocked()
        queue.deaf["claim"].set()
        await one.begun("b")


async def test_an_end_waits_for_no_word_of_its_start(tmp_path: Path) -> None:
    queue = Queue(claimed("a"))
    queue.deaf["started"] = anyio.Event()
    async with scene(tmp_path, queue) as one:
        (await one.begun("a")).over.set()
        assert await one.ended("a") == "ok"


async def test_it_takes_no_more_than_it_has_places(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(*map(claimed, "abc"))) as one:
        work = await one.begun("a")
        await one.begun("b")
        assert one.worker.running == 2
        assert [claim.lease for claim in one.queue.due] == ["c"]
        work.over.set()
        await one.begun("c")
        assert one.queue.most == 2


async def test_kinds_have_their_own_places(tmp_path: Path) -> None:
    transfers = [claimed(name, kind="transfer") for name in "xy"]
    async with scene(tmp_path, Queue(*map(claimed, "abc"), *transfers)) as one:
        await one.begun("b")
        await one.begun("x")
        assert [claim.lease for claim in one.queue.due] == ["c", "y"]


async def test_it_waits_to_be_told_of_work(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue()) as one:
        await one.until(lambda: ("claim", 1, "transfer") in one.queue.told)
        await anyio.sleep(0.05)
        assert one.queue.told == [("claim", 2, "task"), ("claim", 1, "transfer")]
        one.queue.add(claimed("a"))
        await one.begun("a")


async def test_it_claims_again_after_the_queue_failed(tmp_path: Path) -> None:
    queue = Queue(claimed("a"))
    queue.broken = {"claim"}
    async with scene(tmp_path, queue) as one:
        await anyio.sleep(0.02)
        queue.broken.clear()
        await one.begun("a")


async def test_leases_are_renewed_while_work_runs(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"), claimed("b"))) as one:
        await one.begun("b")
        await one.until(lambda: one.queue.told.count(("renew", "a", "b")) > 2)


async def test_a_lease_that_does_not_hold_any_more_ends_its_work(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"), claimed("b"))) as one:
        await one.begun("a")
        other = await one.begun("b")
        one.queue.lost = {"a"}
        assert await one.ended("a") == "killed"
        assert not other.over.is_set()


async def test_a_kill_is_heard_without_a_renewal(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"))) as one:
        await one.begun("a")
        one.queue.broken = {"renew"}
        one.worker.killed("a")
        one.worker.killed("unknown")
        assert await one.ended("a") == "killed"


async def test_a_lease_that_was_lost_before_the_start_ends_its_work(tmp_path: Path) -> None:
    queue = Queue(claimed("a"))
    queue.lost = {"a"}
    async with scene(tmp_path, queue) as one:
        assert await one.ended("a") == "lost"


async def test_work_is_ended_before_a_lease_that_cannot_be_renewed_is_over(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a", seconds=0.6)), kill_grace=0.3) as one:
        work = await one.begun("a")
        one.queue.broken = {"renew"}
        with anyio.fail_after(20):
            await work.over.wait()
        assert work.cause == "lost"


async def test_work_that_does_not_hear_is_ended_at_once_when_its_lease_is_over(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a", seconds=0.6)), kill_grace=0.3) as one:
        work = await one.begun("a")
        work.deaf = True
        one.queue.broken = {"renew"}
        with anyio.fail_after(20):
            await work.over.wait()


async def test_an_end_is_told_again_until_it_is_heard(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"))) as one:
        work = await one.begun("a")
        one.queue.broken = {"finish"}
        work.over.set()
        await anyio.sleep(0.05)
        assert one.worker.running == 1
        one.queue.broken.clear()
        assert await one.ended("a") == "ok"


async def test_an_end_is_given_up_when_its_lease_is_over(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a", seconds=0.1))) as one:
        work = await one.begun("a")
        one.queue.broken = {"finish", "renew"}
        work.over.set()
        await one.until(lambda: one.worker.running == 0)
        assert one.queue.ends() == {}


async def test_work_goes_on_although_its_start_cannot_be_told(tmp_path: Path) -> None:
    queue = Queue(claimed("a"))
    queue.broken = {"started"}
    async with scene(tmp_path, queue) as one:
        await one.until(lambda: "a" in one.shop.works)
        one.shop.works["a"].over.set()
        assert await one.ended("a") == "ok"


async def test_an_idle_worker_has_no_timers(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"))) as one:
        (await one.begun("a")).over.set()
        await one.until(lambda: one.worker.running == 0)
        await anyio.sleep(0.1)
        told = len(one.queue.told)
        await anyio.sleep(0.1)
        assert len(one.queue.told) == told
        one.queue.add(claimed("b"))
        await one.begun("b")
        await one.until(lambda: ("renew", "b") in one.queue.told)


async def test_only_the_latest_progress_is_told(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"))) as one:
        work = await one.begun("a")
        work.say(0.1, "first")
        work.say(0.2)
        await one.until(lambda: any(told[0] == "progress" for told in one.queue.told))
        assert [told for told in one.queue.told if told[0] == "progress"] == [("progress", "a", 0.2, "first", None)]


async def test_output_above_the_cap_ends_the_attempt(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"), claimed("b")), output_cap=10) as one:
        work = await one.begun("a")
        os.write((await one.begun("b")).output.descriptor, b"x" * 10)
        os.write(work.output.descriptor, b"x" * 11)
        assert await one.ended("a") == "output_limit"
        assert not one.shop.works["b"].over.is_set()


async def test_the_worker_goes_on_when_an_attempt_ends_while_the_progress_of_another_is_told(tmp_path: Path) -> None:
    queue = Queue(claimed("a"), claimed("b"))
    async with scene(tmp_path, queue) as one:
        work, other = await one.begun("a"), await one.begun("b")

        async def slowly(*said: Any) -> None:
            other.over.set()
            await one.until(lambda: other.output.descriptor < 0)
            queue.told.append(("progress", *said))

        queue.progress = slowly  # type: ignore[method-assign,assignment]
        work.say(0.5)
        await one.until(lambda: ("progress", "a", 0.5, None, None) in queue.told)
        work.over.set()
        assert await one.ended("a") == "ok"
        queue.add(claimed("c"))
        await one.begun("c")


async def test_on_a_full_disk_whoever_writes_is_ended(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"), claimed("b")), disk_ceiling=0.0) as one:
        work = await one.begun("a")
        await one.begun("b")
        os.write(work.output.descriptor, b"x")
        assert await one.ended("a") == "output_limit"
        assert not one.shop.works["b"].over.is_set()


async def test_the_worker_goes_on_when_the_disk_of_an_output_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def broken(descriptor: int) -> os.statvfs_result:
        nonlocal asked
        asked += 1
        raise OSError(5, "broken")

    async with scene(tmp_path, Queue(claimed("a"))) as one:
        work = await one.begun("a")
        monkeypatch.setattr(os, "fstatvfs", broken)
        os.write(work.output.descriptor, b"x")
        await one.until(lambda: asked > 1)
        work.over.set()
        assert await one.ended("a") == "ok"


async def test_an_attempt_whose_output_cannot_be_opened_is_put_off_and_costs_no_try(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue()) as one:
        one.shop.refuse = True
        one.queue.add(claimed("a"))
        assert await one.ended("a") == "deferred"


async def test_work_that_breaks_is_a_failure_and_the_worker_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue()) as one:
        one.shop.prepare = lambda work: setattr(work, "error", RuntimeError("broken"))
        one.queue.add(claimed("a"))
        assert await one.ended("a") == "fail"
        one.shop.prepare = lambda work: None
        one.queue.add(claimed("b"))
        await one.begun("b")


async def test_a_drain_waits_for_what_ends_in_time(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a")), drain=20) as one:
        work = await one.begun("a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.worker.drain)
            await anyio.sleep(0.05)
            one.queue.add(claimed("b"))
            work.over.set()
        assert one.queue.ends() == {"a": "ok"}
        assert [claim.lease for claim in one.queue.due] == ["b"]


async def test_a_drain_gives_back_what_does_not_end(tmp_path: Path) -> None:
    async with scene(tmp_path, Queue(claimed("a"))) as one:
        await one.begun("a")
        await one.worker.drain()
        assert one.queue.ends() == {"a": "lost"}


async def test_a_drain_does_not_wait_for_what_is_deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 0.1)
    async with scene(tmp_path, Queue(claimed("a"))) as one:
        (await one.begun("a")).deaf = True
        await one.worker.drain()
        assert await one.ended("a") == "lost"


async def test_a_worker_that_is_halted_leaves_after_what_it_runs(tmp_path: Path) -> None:
    queue = Queue(claimed("a"))
    worker = made(queue, Shop(tmp_path))
    queue.leave = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        while "a" not in cast("Any", worker)._works:
            await anyio.sleep(0.005)
        queue.add(claimed("b"))
        cast("Any", worker)._works["a"].over.set()
    assert queue.ends() == {"a": "ok"}


async def test_a_closed_gate_keeps_new_work_out(tmp_path: Path) -> None:
    opened = False
    queue = Queue(claimed("a"))
    worker = made(queue, Shop(tmp_path), gate=lambda: opened)
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        await anyio.sleep(0.1)
        assert queue.told == []
        opened = True
        with anyio.fail_after(20):
            while ("started", "a") not in queue.told:
                await anyio.sleep(0.005)
        tasks.cancel_scope.cancel()
