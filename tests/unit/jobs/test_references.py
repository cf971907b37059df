from __future__ import annotations

from pathlib import Path

import pytest

from sysadmd.errors import BadRequest, NotFound, TooManyRequests
from sysadmd.jobs import references
from sysadmd.jobs.references import find, find_all, is_name
from tests.unit.jobs.queueing import bench, task


@pytest.mark.parametrize("reference", ["6925a3c09d1f04b7e2000001", "6925", "abcd", "7", 7, "0000000000"])
def test_ids_their_beginnings_and_numbers_are_no_names(reference: str | int) -> None:
    assert not is_name(reference)


@pytest.mark.parametrize("reference", ["demo.Job", "abc", "6925A3C0", "abcd-", "\u0667", "6925a3c09d1f04b7e20000011"])
def test_everything_else_is_a_name(reference: str) -> None:
    assert is_name(reference)


async def test_a_job_is_found_by_id_number_and_beginning(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.queue.enqueue(task(), owner="o")
        for reference in (job.id, job.seq, str(job.seq), job.id[:6], job.id[:23]):
            assert (await find(b.queue, reference)).id == job.id


async def test_a_beginning_of_several_ids_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task(), task()], owner="o")
        (one, _) = await b.queue.listing()
        with pytest.raises(BadRequest, match="several jobs"):
            await find(b.queue, one.id[:8])


@pytest.mark.parametrize("reference", [4711, "4711", "f" * 24, "ffff", "demo.Job", 2**62, -1])
async def test_a_job_that_is_not_there(tmp_path: Path, reference: str | int) -> None:
    async with bench(tmp_path) as b:
        await b.queue.enqueue(task(), owner="o")
        with pytest.raises(NotFound):
            await find(b.queue, reference)


async def test_a_name_stands_for_all_its_jobs_in_the_queue(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        made = await b.queue.enqueue_many([task(), task(), task(name="other")], owner="o")
        await b.queue.remove([made[0].id], "o")
        assert [view.seq for view in await find_all(b.queue, ["demo.Job", made[1].id, 3])] == [2, 3]
        with pytest.raises(NotFound):
            await find_all(b.queue, ["no.such.Job"])


async def test_a_name_of_too_many_jobs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "ROWS_MAX", 2)
    monkeypatch.setattr(references, "NAMED_MAX", 4)
    async with bench(tmp_path) as b:
        await b.queue.enqueue_many([task()] * 3, owner="o")
        assert len(await find_all(b.queue, ["demo.Job"])) == 3
        await b.queue.enqueue_many([task()] * 2, owner="o")
        with pytest.raises(TooManyRequests):
            await find_all(b.queue, ["demo.Job"])
