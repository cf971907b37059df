"""An attempt as its worker sees it: how it ends, what it says, what is pretended."""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.config import SiteConfig
from sysadmd.jobs.transfers import tree
from sysadmd.jobs.transfers.engine import run
from sysadmd.jobs.transfers.file_site import Threads
from sysadmd.jobs.transfers.options import Options
from sysadmd.jobs.transfers.pretending import pretended_copy
from sysadmd.jobs.transfers.sites import Sites
from sysadmd.jobs.views import StepView
from sysadmd.limits import Limits
from tests.unit.jobs.transfers.attempts import Reports, attempt, content, directories, failure, job


@pytest.fixture
def one(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    return tmp_path / "one"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    (tmp_path / "two").mkdir()
    return tmp_path / "two"


async def test_a_site_that_is_not_configured_is_said_so(one: Path) -> None:
    async with directories(one) as sites:
        end = await attempt(sites, "LIST", src="/", src_site=7)
    assert failure(end) == "site 7: is not in the configuration"


async def test_a_step_that_is_nonsense_fails_with_a_reason(one: Path) -> None:
    async with directories(one) as sites:
        assert failure(await attempt(sites, "MOVE", src="/")) == "MOVE: is no operation on files"
        assert "dst" in failure(await attempt(sites, "COPY", src="/f"))
        assert "extra_opts" in failure(await attempt(sites, "LIST", src="/", opts={"x": 1}))


async def test_a_cancelled_listing_ends_its_thread(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk asks whether it is still wanted; here it would go on for ever."""

    entered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(root: Any, path: Any, bounds: Any, *, levels: int | None, pause: Any) -> Any:
        loop.call_soon_threadsafe(entered.set)
        while True:
            pause()

    monkeypatch.setattr(tree, "listing", endless)
    async with directories(one) as sites:
        task = asyncio.create_task(attempt(sites, "LIST", src="/"))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_name_cannot_forge_a_line_of_the_output(one: Path) -> None:
    (one / "a\nCOPY done\x1b[2J").write_text("x")
    output = io.BytesIO()
    async with directories(one) as sites:
        await attempt(sites, "REMOVE", src="/a\nCOPY done\x1b[2J", output=output)
    assert output.getvalue().decode().splitlines() == [r"REMOVE site 1 /a\nCOPY done\x1b[2J", "removed"]


@pytest.mark.parametrize("protocol", [None, "DUMMY"])
async def test_a_dummy_pretends_with_sizes(one: Path, protocol: str | None) -> None:
    configured = {} if protocol else {1: SiteConfig(dummy=True), 2: SiteConfig(root=str(one))}
    async with Sites(configured, Limits()) as sites:
        ends = await job(sites, "COPY", "/some", "/where", protocol=protocol, opts={"dummy_files": 2, "dummy_size": 7})
        ends += await job(sites, "REMOVE", "/some/file.dat", protocol=protocol)
        for kind, more in (("MKDIR", {}), ("RENAME", {"dst": "/b"})):
            ends += await job(sites, kind, "/a", protocol=protocol, **more)  # type: ignore[arg-type]
    assert {end.outcome for end in ends} == {"ok"}
    assert [end.result["transferred"] for end in ends[1:3]] == [7, 7]
    assert content(one) == {}


async def test_a_pretended_copy_takes_its_time_and_reports(one: Path) -> None:
    reports = Reports()
    now = iter(range(1000))

    await pretended_copy(100, Options(dummy_seconds=10), reports, lambda: float(next(now)))
    assert reports[-1][1]["transferred"] == 100
    assert len(reports) > 2


async def test_another_configuration_applies_to_the_next_attempt(one: Path, two: Path) -> None:
    async with directories(one, one) as sites:
        same = sites.site(1)
        assert (await attempt(sites, "MKDIR", src="/a", src_site=2)).outcome == "ok"
        sites.reconfigure({1: SiteConfig(root=str(one)), 2: SiteConfig(root=str(two))}, Limits())
        assert (await attempt(sites, "MKDIR", src="/b", src_site=2)).outcome == "ok"
        assert sites.site(1) is same
        sites.reconfigure({}, Limits())
        assert "not in the configuration" in failure(await attempt(sites, "MKDIR", src="/c"))
    assert ([path.name for path in one.iterdir()], [path.name for path in two.iterdir()]) == (["a"], ["b"])


async def test_other_limits_apply_to_the_next_attempt(one: Path) -> None:
    configured = {1: SiteConfig(root=str(one))}
    for name in "ab":
        (one / name).touch()
    async with Sites(configured, Limits()) as sites:
        assert (await attempt(sites, "LIST", src="/")).outcome == "ok"
        sites.reconfigure(configured, Limits(listing_entries=1, transfer_threads=1))
        assert "1" in failure(await attempt(sites, "LIST", src="/"))
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(sites.threads.run, time.sleep, 0.05)
            while not sites.threads.busy:
                await anyio.sleep(0.001)
            assert sites.threads.busy == 1


async def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setitem(sys.modules, "sysadmd.jobs.transfers.ssh_site", None)
    configured = SiteConfig(ssh="a@localhost", key=Path("/k"), host_key="ssh-ed25519 A")
    async with Sites({1: configured}, Limits()) as sites:
        assert "pip install 'sysadmd[ssh]'" in failure(await attempt(sites, "LIST", src="/"))


class FullDisk(io.BytesIO):
    """An output on a disk that is full."""

    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


async def test_an_output_that_cannot_be_written_does_not_end_an_attempt(one: Path) -> None:
    async with directories(one) as sites:
        assert (await attempt(sites, "MKDIR", src="/d", output=FullDisk())).outcome == "ok"
    assert (one / "d").is_dir()


async def test_no_more_threads_than_the_bound_work_at_once() -> None:
    threads, started, going_on = Threads(2), threading.Semaphore(0), threading.Event()

    def work() -> None:
        started.release()
        going_on.wait(30)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(threads.run, work)
        while threads.busy < 2:
            await anyio.sleep(0.01)
        await anyio.wait_all_tasks_blocked()
        assert threads.busy == 2
        going_on.set()
    assert threads.busy == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=2),
    max_leaves=3,
)


@given(
    type=st.sampled_from(["LIST", "COPY", "REMOVE", "RENAME", "MKDIR", ""]),
    spec=st.dictionaries(
        st.sampled_from(["src", "dst", "src_site", "dst_site", "opts", "protocol", "then"]),
        JSON | st.sampled_from([1, 2, "/f", "..", "COPY", "REMOVE", {"overwrite": True}]),
    ),
)
@settings(max_examples=60)
def test_any_spec_ends_in_words_and_touches_nothing_outside(type: str, spec: dict[str, Any]) -> None:
    async def tried() -> None:
        with tempfile.TemporaryDirectory() as place:
            root, beside = Path(place, "root"), Path(place, "beside")
            root.mkdir()
            beside.write_text("x")
            async with directories(root) as sites:
                step = StepView(job_id="6" * 24, idx=0, stage=0, type=type, state="running", spec=spec)
                end = await run(step, sites=sites, report=Reports(), output=io.BytesIO())
            assert end.outcome in {"ok", "fail"}
            assert (end.error is None) == (end.outcome == "ok")
            assert beside.read_text() == "x"

    asyncio.run(tried())
