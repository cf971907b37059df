"""Real child processes, seen through their pool."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from sysadmd.errors import BadRequest, Unavailable
from sysadmd.executor import process
from sysadmd.jobs.tasks.ends import TaskEnd
from sysadmd.jobs.tasks.frames import Run, encode
from sysadmd.jobs.tasks.leftovers import MARK, Leftovers
from sysadmd.jobs.tasks.pool import Execution, Household, Pool
from sysadmd.jobs.tasks.spawning import CannotSpawn
from sysadmd.limits import Limits

ROOT = Path(__file__).parents[4]
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
PACKAGES = Path(msgspec.__file__).parents[1]
WITH_PACKAGES = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT}:{PACKAGES}"}
LIMITS = Limits(kill_grace=0.5)
linux = pytest.mark.skipif(not process.LINUX, reason="looks into /proc")


@dataclasses.dataclass
class Bench:
    """A pool, and one output file for all that it runs."""

    pool: Pool
    file: Path
    output: int
    said: list[tuple[float, str | None]] = dataclasses.field(default_factory=list)

    async def begin(self, task: str, *, timeout: float | None = None, **args: Any) -> Execution:
        run = Run(
            target=f"tests.sample_tasks:{task}",
            name=task,
            job_id="job1",
            attempt=2,
            owner="olga",
            args=msgspec.json.encode(args),
            result_limit=self.pool.limits.task_result,
        )
        return await self.pool.begin(
            run, self.output, timeout=timeout, on_progress=lambda value, message: self.said.append((value, message))
        )

    async def run(self, task: str, *, timeout: float | None = None, **args: Any) -> TaskEnd:
        return await (await self.begin(task, timeout=timeout, **args)).wait()

    @property
    def text(self) -> str:
        return self.file.read_text()


@contextlib.asynccontextmanager
async def bench(directory: Path, *, account: str | None = None, **limits: Any) -> AsyncIterator[Bench]:
    file = directory / "output"
    output = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pool = Pool(
        Household(account, ENVIRONMENT), dataclasses.replace(LIMITS, **limits), Leftovers(directory / "pool" / "w.json")
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(pool.run)
        try:
            yield Bench(pool, file, output)
        finally:
            tasks.cancel_scope.cancel()
            os.close(output)
    assert len(pool) == 0


async def appears(path: Path) -> str:
    """What is in a file, once it is there."""
    with anyio.fail_after(20):
        while not path.exists() or not path.read_text():
            await anyio.sleep(0.01)
    return path.read_text()


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not true():
            await anyio.sleep(0.01)


def lives(pid: int) -> bool:
    fields = process.stat_fields(pid)
    return fields is not None and fields[0] != b"Z"


async def test_there_is_no_child_before_the_first_task(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        assert len(one.pool) == 0


async def test_a_result_comes_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        assert await one.run("returns", value={"files": [1, 2.5, None, "ü"]}) == TaskEnd(
            "ok", result={"files": [1, 2.5, None, "ü"]}
        )


async def test_an_async_task_runs(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        assert (await one.run("asynchronous")).result == "done"


async def test_a_class_runs(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        assert (await one.run("Job", name="olga", x=1)).result == {"name": "olga", "x": 1}


async def test_a_task_knows_its_attempt(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        assert (await one.run("who")).result == {"job": "job1", "name": "who", "attempt": 2, "owner": "olga"}


async def test_whatever_a_task_writes_is_in_its_output(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.run("speaks")
        for line in (
            "from print",
            "from stderr",
            "INFO sysadmd.task: from the logger",
            "from descriptor 1",
            "a grandchild",
        ):
            assert line in one.text


async def test_attempts_of_one_child_have_their_own_output(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.run("speaks")
        before = one.text
        other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT, 0o600)
        await dataclasses.replace(one, output=other).run("speaks")
        os.close(other)
        assert (one.text, len(one.pool)) == (before, 1)
        assert "from a grandchild" in (tmp_path / "other").read_text()


async def test_an_exception_fails_the_attempt_with_its_traceback(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        end = await one.run("fails", message="no way")
        assert end.outcome == "fail"
        assert end.error is not None
        assert (end.error.exception, end.error.message) == ("ValueError", "no way")
        assert "sample_tasks.py" in end.error.traceback[1]
        assert one.text.splitlines() == list(end.error.traceback)


async def test_an_exception_whose_text_cannot_be_had_fails_all_the_same(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        end = await one.run("fails_without_text")
        assert end.error is not None
        assert end.error.exception == "tests.sample_tasks.BrokenText"


@pytest.mark.parametrize("code,outcome", [(0, "ok"), (1, "fail")])
async def test_sys_exit_is_an_end_like_any_other(tmp_path: Path, code: int, outcome: str) -> None:
    async with bench(tmp_path) as one:
        assert (await one.run("exits", code=code)).outcome == outcome


async def test_a_defer_has_its_reason_and_delay(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        assert await one.run("defers", reason="later", delay=7.5) == TaskEnd("deferred", reason="later", delay=7.5)


async def test_a_task_that_cannot_be_loaded_did_not_start(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        end = await one.run("gone")
        assert end.outcome == "start_failed"
        assert "'gone'" in one.text


async def test_progress_comes_and_the_last_word_is_never_lost(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin("reports_then_waits", path=str(tmp_path / "go"))
        await until(lambda: (0.2, "last word") in one.said)
        (tmp_path / "go").touch()
        assert (await execution.wait()).outcome == "ok"


async def test_a_flood_of_progress_is_a_few_frames(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.run("reports", values=[index / 10_000 for index in range(10_000)])
        assert len(one.said) < 100


async def test_a_result_that_is_no_json_is_told_in_the_output(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        assert await one.run("returns_an_object") == TaskEnd("ok")
        assert "is no JSON" in one.text


async def test_a_result_above_its_limit_is_told_in_the_output(tmp_path: Path) -> None:
    async with bench(tmp_path, task_result=10) as one:
        assert (await one.run("returns", value="x" * 8)).result == "x" * 8
        assert (await one.run("returns", value="x" * 9)).result is None
        assert "its 11 bytes are more than 10" in one.text


async def test_a_child_is_clean(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        found = (await one.run("identity")).result
        assert found["pid"] == found["group"] == found["session"]
        assert (found["cwd"], found["stdin"]) == ("/", "")
        assert set(found["environ"]) - {"LC_CTYPE", MARK} == set(ENVIRONMENT)


@linux
async def test_a_child_inherits_no_descriptor_of_ours(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        with (tmp_path / "secret").open("w") as secret:
            os.set_inheritable(secret.fileno(), True)
            assert not [name for name in (await one.run("descriptors")).result if "secret" in name]


async def test_children_are_reused(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        assert {(await one.run("identity")).result["pid"] for _ in range(3)} == {(await one.begin("noop")).pid}


async def test_what_a_task_changes_of_its_process_is_put_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        before = (await one.run("state")).result
        assert (await one.run("disturbs")).outcome == "ok"
        assert (await one.run("state")).result == before
        assert len(one.pool) == 1


async def test_a_child_is_replaced_after_its_attempts(tmp_path: Path) -> None:
    async with bench(tmp_path, task_recycle=2) as one:
        pids = [(await one.run("identity")).result["pid"] for _ in range(4)]
        assert (pids[0], pids[2]) == (pids[1], pids[3])
        assert pids[0] != pids[2]


async def test_an_idle_child_is_ended(tmp_path: Path) -> None:
    async with bench(tmp_path, task_idle=0) as one:
        pid = (await one.run("identity")).result["pid"]
        await until(lambda: len(one.pool) == 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_several_run_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        waiting = [await one.begin("waits", path=str(tmp_path / "go")) for _ in range(3)]
        assert len({each.pid for each in waiting}) == len(one.pool) == 3
        (tmp_path / "go").touch()
        assert [(await each.wait()).outcome for each in waiting] == ["ok"] * 3


# Ends from outside


async def test_a_kill_lets_finally_blocks_run(tmp_path: Path) -> None:
    async with bench(tmp_path, kill_grace=20) as one:
        execution = await one.begin("sleeps", mark=str(tmp_path / "mark"), after=str(tmp_path / "after"))
        await appears(tmp_path / "mark")
        execution.stop("killed", "killed on request")
        end = await execution.wait()
        assert end.outcome == "killed"
        assert (tmp_path / "after").read_text() == "cleaned up"
        assert "ended by SIGTERM here" in one.text


async def test_a_task_that_ignores_term_is_killed_after_the_grace(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin("ignores_term", mark=str(tmp_path / "mark"))
        await appears(tmp_path / "mark")
        execution.stop("killed", "killed on request")
        end = await execution.wait()
        assert (end.outcome, end.signal) == ("killed", signal.SIGKILL)


@linux
async def test_a_kill_takes_grandchildren_that_ignore_term(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin("has_stubborn_children", mark=str(tmp_path / "mark"))
        pids = [int(text) for text in (await appears(tmp_path / "mark")).split()]
        assert all(map(lives, pids))
        execution.stop("killed", "killed on request")
        assert (await execution.wait()).outcome == "killed"
        assert not any(map(lives, pids))


async def test_a_timeout_kills(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        end = await one.run("sleeps", timeout=0.3)
        assert end.outcome == "timeout"
        assert end.error is not None
        assert end.error.message == "stopped after its timeout of 0.3 s"
        assert (await one.run("noop")).outcome == "ok"


async def test_what_hangs_in_the_c_library_is_killed(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        assert (await one.run("hangs_in_c", timeout=0.3)).outcome == "timeout"


async def test_the_first_cause_stays(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin("sleeps")
        execution.stop("output_limit", "too much")
        execution.stop("killed", "killed on request", at_once=True)
        assert (await execution.wait()).outcome == "output_limit"


async def test_stopping_what_is_over_harms_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin("noop")
        await execution.wait()
        execution.stop("killed", "too late")
        assert (await one.run("identity")).result["pid"] == execution.pid


async def test_whoever_stops_waiting_leaves_nothing_running(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin("sleeps")
        with anyio.move_on_after(0.05):
            await execution.wait()
        await until(lambda: len(one.pool) == 0)


async def test_whoever_is_cancelled_while_a_child_starts_leaves_none_behind(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await one.run("sleeps")
        await until(lambda: len(one.pool) == 0)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


# Ends of the child's own


async def test_a_child_that_exits_fails_the_attempt(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        end = await one.run("dies", code=3)
        assert (end.outcome, end.exit_code) == ("fail", 3)
        assert (await one.run("noop")).outcome == "ok"


async def test_a_child_that_is_killed_by_another_fails_the_attempt(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        end = await one.run("kills_itself")
        assert (end.outcome, end.signal) == ("fail", signal.SIGKILL)
        assert end.error is not None
        assert end.error.message == "the process of the task was ended by SIGKILL"


@linux
async def test_a_death_is_noticed_although_a_fork_holds_the_socket(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        end = await one.run("forks_and_dies", mark=str(tmp_path / "mark"))
        assert (end.outcome, end.exit_code) == ("fail", 7)
        assert not lives(int((tmp_path / "mark").read_text()))


async def test_a_child_that_is_stopped_is_lost_after_a_while(tmp_path: Path) -> None:
    async with bench(tmp_path, task_stopped=1) as one:
        execution = await one.begin("sleeps", mark=str(tmp_path / "mark"))
        await appears(tmp_path / "mark")
        os.kill(execution.pid, signal.SIGSTOP)
        end = await execution.wait()
        assert end.outcome == "lost"
        assert end.error is not None
        assert "stopped for 1 s" in end.error.message


async def test_a_stopped_child_obeys_its_timeout(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin("sleeps", timeout=1, mark=str(tmp_path / "mark"))
        await appears(tmp_path / "mark")
        os.kill(execution.pid, signal.SIGSTOP)
        assert (await execution.wait()).outcome == "timeout"


@linux
async def test_garbage_ends_the_child_and_the_attempt_is_lost(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        end = await one.run("writes_garbage")
        assert end.outcome == "lost"
        assert end.error is not None
        assert "protocol" in end.error.message


@linux
@pytest.mark.parametrize("name", ["leaves_a_process", "leaves_an_orphan"])
async def test_what_a_task_leaves_behind_is_killed_and_its_child_replaced(tmp_path: Path, name: str) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin(name, mark=str(tmp_path / "mark"))
        assert await execution.wait() == TaskEnd("ok")
        assert not lives(int((tmp_path / "mark").read_text()))
        assert (await one.begin("noop")).pid != execution.pid


async def test_a_child_with_a_thread_left_behind_is_replaced(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin("leaves_a_thread")
        assert await execution.wait() == TaskEnd("ok")
        assert (await one.begin("noop")).pid != execution.pid


@linux
async def test_a_child_ends_with_the_process_of_its_pool(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom tests.unit.jobs.tasks.test_pool import bench\n"
        "async def main():\n    async with bench(Path(sys.argv[1])) as one:\n"
        "        await one.run('has_stubborn_children', mark=sys.argv[2])\n"
        "asyncio.run(main())\n"
    )
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), str(tmp_path / "mark"), cwd=ROOT
    )
    pids = [int(text) for text in (await appears(tmp_path / "mark")).split()]
    worker.kill()
    await worker.wait()
    await until(lambda: not any(map(lives, pids)))


@linux
async def test_what_a_task_left_behind_ends_with_the_pool_too(tmp_path: Path) -> None:
    """Also when the pool dies before it hears that something was left."""
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-P", "-m", "sysadmd.jobs.tasks.child", str(theirs.fileno())]
    child = subprocess.Popen(argv, env=ENVIRONMENT, pass_fds=(theirs.fileno(),), start_new_session=True)
    theirs.close()
    args = msgspec.json.encode({"mark": str(tmp_path / "mark")})
    socket.send_fds(ours, [encode(Run("tests.sample_tasks:leaves_a_process", "n", "j", 1, "o", args, 1))], [2])
    left = int(await appears(tmp_path / "mark"))
    ours.close()
    await until(lambda: not lives(left))
    assert child.wait(20) is not None


# Starting


async def test_an_account_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with bench(tmp_path, account="no-such-account") as one:
        with pytest.raises(CannotSpawn, match="no-such-account"):
            await one.begin("noop")
        with pytest.raises(Unavailable):
            await one.pool.describe("noop", "tests.sample_tasks:noop")


def interpreter_for_nobody() -> str | None:
    """Not the one of the tests where it is below root's home, as pyenv has it."""
    if os.geteuid() != 0:
        return None
    for path in (sys.executable, "/usr/bin/python3"):
        argv = [path, "-c", "import msgspec, structlog, anyio"]
        with contextlib.suppress(OSError):
            if not subprocess.run(argv, user="nobody", cwd="/", env=WITH_PACKAGES, capture_output=True).returncode:
                return path
    return None


@pytest.mark.skipif(interpreter_for_nobody() is None, reason="takes root, and an interpreter that nobody may run")
async def test_a_child_becomes_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", interpreter_for_nobody())
    async with bench(tmp_path, account="nobody") as one:
        one.pool._household = Household("nobody", WITH_PACKAGES)
        found = (await one.run("identity")).result
        assert found["uid"] == pwd.getpwnam("nobody").pw_uid
        assert 0 not in found["groups"]


async def test_a_child_that_cannot_start_says_why_in_the_output(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        one.pool._household = Household(None, {**ENVIRONMENT, "PYTHONHOME": "/nowhere"})
        end = await one.run("noop")
        assert end.outcome == "start_failed"
        assert end.error is not None
        assert "cannot start" in end.error.message
        assert one.text


async def test_a_child_that_is_killed_before_it_is_ready_is_a_failure_like_a_later_kill(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        execution = await one.begin("noop")
        os.kill(execution.pid, signal.SIGKILL)
        end = await execution.wait()
        assert (end.outcome, end.signal) == ("fail", signal.SIGKILL)


async def test_a_description_whose_child_is_killed_is_to_be_asked_for_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, anyio.create_task_group() as tasks:

        async def kill() -> None:
            await until(lambda: len(one.pool) == 1)
            (child,) = one.pool._children
            os.kill(child.pid, signal.SIGKILL)

        tasks.start_soon(kill)
        with pytest.raises(Unavailable, match="SIGKILL"):
            await one.pool.describe("settled", "tests.sample_tasks:settled")


async def test_a_task_is_described_without_running_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        found = await one.pool.describe("settled", "tests.sample_tasks:settled")
        assert [parameter.name for parameter in found.parameters] == ["where", "often"]
        assert found is await one.pool.describe("settled", "tests.sample_tasks:settled")


async def test_a_task_that_hangs_when_it_is_loaded_keeps_nobody_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hanging_task.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", f"{ROOT}:{tmp_path}")
    async with bench(tmp_path) as one:
        hanging = asyncio.create_task(one.pool.describe("hangs", "hanging_task:run"))
        while not len(one.pool):
            await anyio.sleep(0.01)
        found = await one.pool.describe("settled", "tests.sample_tasks:settled")
        assert found.name == "settled"
        assert not hanging.done()
        hanging.cancel()
        await asyncio.wait([hanging])


async def test_what_cannot_be_described_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        with pytest.raises(BadRequest, match="ModuleNotFoundError"):
            await one.pool.describe("gone", "tests.no_such_module:noop")
        with pytest.raises(BadRequest, match="no method execute"):
            await one.pool.describe("none", "tests.sample_tasks:NoJob")
