"""The queue by the rights of who asks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest, Conflict, Forbidden, NotFound
from sysadmd.jobs.output_file import open_output
from sysadmd.jobs.permitted import PermittedJobs
from sysadmd.jobs.shown import masked_row
from sysadmd.jobs.spec import JobSpec, StepSpec
from sysadmd.jobs.views import End
from tests.unit.jobs.queueing import Bench, bench, task

MINE, OTHER = "demo.Job", "secret.Job"


class Tasks:
    """Every name is a task; what was asked for is kept."""

    asked: tuple[str, ...] = ()

    def names(self) -> list[str]:
        return [MINE, OTHER]

    async def job(self, name: str, args: Mapping[str, Any] | None = None, **given: Any) -> JobSpec:
        self.asked = (*self.asked, name)
        return JobSpec(kind="task", name=name, args=args or {}, **given)


def scope(*patterns: str) -> Scope:
    return Scope("olga", (), patterns)


READS = scope(f"job:{MINE}:read")
RUNS = scope(f"job:{MINE}:read", f"job:{MINE}:run")
ADMIN = scope("job:*:read", "job:*:run")


def jobs(b: Bench, caller: Scope, root: Path = Path("/nonexistent")) -> PermittedJobs:
    return PermittedJobs(b.queue, Tasks(), caller, root)


async def two(b: Bench) -> None:
    await b.queue.enqueue_many([task(name=MINE), task(name=OTHER)], owner="ines")


async def test_a_transfer_is_shown_to_its_owner_and_to_administrators_only(tmp_path: Path) -> None:
    spec = JobSpec(kind="transfer", name="workqueue.list", steps=[StepSpec(type="LIST", spec={})])
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(spec, owner="ines")
        for call in (jobs(b, ADMIN).find(job.id), jobs(b, ADMIN).kill([job.id]), jobs(b, ADMIN).kill([job.name])):
            with pytest.raises(Forbidden):
                await call
        assert (await jobs(b, ADMIN).listing())[0] == [masked_row(job)]
        owner = Scope("ines", (), ADMIN.patterns)
        assert "id" in (await jobs(b, owner).listing())[0][0]
        assert (await jobs(b, owner).find(job.id)).id == job.id
        assert await jobs(b, scope("call:@admin", "job:*:run")).kill([job.id]) == [job.id]


async def test_who_may_run_a_job_enqueues_it_as_its_owner(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        made = await jobs(b, RUNS).enqueue(MINE, {"a": 1}, priority=3)
        assert (made["owner"], made["args"], made["priority"], made["state"]) == ("olga", {"a": 1}, 3, "pending")
        again = [await jobs(b, RUNS).enqueue(MINE, request_key="k") for _ in range(2)]
        assert again[0]["id"] == again[1]["id"]


async def test_nothing_is_asked_about_a_task_that_the_caller_may_not_run(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        tasks = Tasks()
        with pytest.raises(Forbidden):
            await PermittedJobs(b.queue, tasks, READS, tmp_path).enqueue(MINE)
        assert tasks.asked == ()
        assert await b.queue.listing() == []


async def test_a_delay_is_from_now_and_instead_of_a_time(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        made = await jobs(b, RUNS).enqueue(MINE, delay=1000)
        assert abs(made["run_after"] - time.time() - 1000) < 100
        with pytest.raises(BadRequest):
            await jobs(b, RUNS).enqueue(MINE, delay=1, run_after=1.0)


async def test_the_tasks_are_those_that_may_be_run(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert jobs(b, RUNS).tasks() == [MINE]
        assert jobs(b, READS).tasks() == []


async def test_a_list_says_of_foreign_jobs_only_that_they_are_there(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await two(b)
        rows, following = await jobs(b, READS).listing()
        assert rows[0] == {"kind": "task", "name": "UnauthorizedJob", "state": "pending"}
        assert (rows[1]["name"], rows[1]["seq"], following) == (MINE, 1, None)


@pytest.mark.parametrize("wanted", [{"name": OTHER}, {"owner": "ines", "name": OTHER}])
async def test_a_filter_does_not_count_foreign_jobs(tmp_path: Path, wanted: dict[str, Any]) -> None:
    async with bench(tmp_path) as b:
        await two(b)
        assert (await jobs(b, READS).listing(**wanted))[0] == []
        assert len((await jobs(b, READS).listing(owner="ines"))[0]) == 1
        assert len((await jobs(b, ADMIN).listing(**wanted))[0]) == 1


async def test_a_page_says_where_the_next_begins(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task()] * 5, owner="o")
        after, seen = None, []
        for _ in range(3):
            rows, after = await jobs(b, READS).listing(limit=2, after=after)
            seen += [row["seq"] for row in rows]
        assert (seen, after) == ([5, 4, 3, 2, 1], None)


async def test_a_foreign_job_is_neither_shown_nor_read_nor_changed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await two(b)
        mine = jobs(b, RUNS)
        for asked in (mine.detail(2), mine.output(2), mine.kill([2]), mine.remove([OTHER]), mine.restart(2)):
            with pytest.raises(Forbidden):
                await asked
        assert {view.state for view in await b.queue.listing()} == {"pending"}


async def test_who_only_reads_changes_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await two(b)
        reader = jobs(b, READS)
        assert (await reader.detail(1))[0]["name"] == MINE
        for asked in (reader.kill([1]), reader.remove([MINE]), reader.restart(1)):
            with pytest.raises(Forbidden):
                await asked


async def test_nothing_is_killed_when_one_of_them_may_not_be(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await two(b)
        with pytest.raises(Forbidden):
            await jobs(b, RUNS).kill([1, 2])
        assert b.queue.counts() == {"pending": 2}
        assert len(await jobs(b, ADMIN).kill([1, OTHER])) == 2
        assert b.queue.counts() == {"killed": 2}


async def test_a_stopped_job_is_restarted_under_a_new_id(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await two(b)
        await jobs(b, RUNS).kill([1])
        previous, job = await jobs(b, RUNS).restart(1)
        assert (job["state"], job["parent_id"]) == ("pending", previous)
        assert job["id"] != previous
        with pytest.raises(Conflict):
            await jobs(b, RUNS).restart(1)


async def test_the_summary_hides_foreign_names(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await two(b)
        assert [row["name"] for row in jobs(b, READS).summary()] == ["UnauthorizedJob", MINE]


async def test_the_history_counts(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await two(b)
        page = await jobs(b, READS).history(0, 1, newest_first=True, start=None, end=None)
        assert (page.total, page.rows[0].counts) == (2, {"pending": 2})


# Output


async def test_the_output_of_an_attempt_is_read_while_it_runs_and_after(tmp_path: Path) -> None:
    root = tmp_path / "output"
    root.mkdir(mode=0o700)
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(name=MINE), owner="o")
        reader = jobs(b, READS, root)
        nothing = await reader.output(job.id)
        assert (nothing["attempt"], nothing["data"], nothing["eof"]) == (None, "", False)
        claim = await b.one()
        await b.queue.started(claim.lease)
        file = open_output(root, claim.output_path)
        file.note("hello")
        part = await reader.output(job.seq)
        assert (part["attempt"], part["data"], part["eof"]) == (1, "sysadmd: hello\n", False)
        await b.queue.finish(claim.lease, End(outcome="ok", output_bytes=15))
        rest = await reader.output(job.seq, offset=part["next_offset"])
        assert (rest["data"], rest["eof"], rest["state"]) == ("", True, "complete")
        file.close()
        for step, attempt in ((0, 2), (1, None)):
            with pytest.raises(NotFound):
                await reader.output(job.seq, step=step, attempt=attempt)


async def test_a_follower_gets_what_comes_while_it_waits(tmp_path: Path) -> None:
    root = tmp_path / "output"
    root.mkdir(mode=0o700)
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(name=MINE), owner="o")
        claim = await b.one()
        file = open_output(root, claim.output_path)
        got: list[str] = []

        async def follow() -> None:
            got.append((await jobs(b, READS, root).output(job.id, follow=30))["data"])

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                await anyio.sleep(0.05)
                file.note("at last")
        file.close()
        assert got == ["sysadmd: at last\n"]


async def test_a_follower_is_let_go_when_the_attempt_ends(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(name=MINE), owner="o")
        claim = await b.one()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: jobs(b, READS).output(job.id, follow=300))
                await anyio.sleep(0.05)
                await b.queue.finish(claim.lease, End(outcome="ok"))
