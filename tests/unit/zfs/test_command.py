from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from sysadmd.errors import ZfsError
from sysadmd.zfs.command import ERROR_LIMIT, SEARCH, Command, CommandFailed
from tests.unit.zfs.fake_zpool import program


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def pid_in(path: Path) -> int:
    with anyio.fail_after(10):
        while not (path.exists() and path.read_text().endswith("\n")):  # another process writes it
            await anyio.sleep(0.01)
    return int(path.read_text())


async def gone(pid: int) -> None:
    with anyio.fail_after(10):
        while alive(pid):  # a process cannot set our event
            await anyio.sleep(0.01)


async def test_it_returns_standard_output(tmp_path: Path) -> None:
    assert await Command(program(tmp_path, "#!/bin/sh\necho $1\necho $2\n")).run("a", "b") == "a\nb\n"


async def test_arguments_meet_no_shell(tmp_path: Path) -> None:
    path = program(tmp_path, '#!/bin/sh\nprintf "%s|" "$@"\n')
    assert await Command(path).run("$HOME; ls", "a b", "") == "$HOME; ls|a b||"


async def test_the_environment_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    text = await Command(program(tmp_path, "#!/bin/sh\nexec env\n")).run()
    names = dict(line.split("=", 1) for line in text.splitlines())
    assert names["LC_ALL"] == "C"
    assert names["PATH"] == ":".join(SEARCH)
    assert "SECRET" not in names


async def test_standard_output_is_no_terminal_and_standard_input_is_empty(tmp_path: Path) -> None:
    text = "#!/bin/sh\n[ -t 1 ] && echo terminal\nread line && echo input\necho end\n"
    assert await Command(program(tmp_path, text)).run() == "end\n"


async def test_output_that_is_not_utf8_is_kept_readable(tmp_path: Path) -> None:
    assert await Command(program(tmp_path, "#!/bin/sh\nprintf 'a\\377b\\n'\n")).run() == "a\ufffdb\n"


async def test_large_output_comes_whole(tmp_path: Path) -> None:
    text = await Command(program(tmp_path, "#!/bin/sh\nseq 1 50000\n")).run()
    assert text.splitlines() == [str(number) for number in range(1, 50001)]


async def test_output_over_the_limit_kills_it(tmp_path: Path) -> None:
    path = program(tmp_path, f"#!/bin/sh\necho $$ >{tmp_path}/pid\nyes\n")
    with pytest.raises(ZfsError, match="answers with more than 10000 bytes"):
        await Command(path, output_limit=10000).run()
    await gone(await pid_in(tmp_path / "pid"))


async def test_an_error_text_is_cut(tmp_path: Path) -> None:
    path = program(tmp_path, "#!/bin/sh\necho bad property >&2\nseq 1 100000 >&2\nexit 2\n")
    with pytest.raises(CommandFailed) as failed:
        await Command(path).run()
    assert failed.value.status == 2
    assert failed.value.reason.startswith("bad property\n1\n")
    assert len(failed.value.reason) == ERROR_LIMIT


async def test_a_command_ended_by_a_signal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="exit status -6"):
        await Command(program(tmp_path, "#!/bin/sh\nkill -ABRT $$\n")).run()


async def test_a_missing_command_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZfsError, match="not found or not executable"):
        await Command(tmp_path / "none").run()


async def test_a_command_without_its_interpreter_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ZfsError, match="cannot be started: ") as failed:
        await Command(program(tmp_path, "#!/nonexistent/interpreter\n")).run()
    assert "\n" not in str(failed.value)


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    path = program(tmp_path, f"#!/bin/sh\nsleep 1000 &\necho $! >{tmp_path}/child\necho $$ >{tmp_path}/pid\nwait\n")
    started = time.monotonic()
    with pytest.raises(ZfsError, match=r"no answer within 0.5 s"):
        await Command(path, timeout=0.5).run()
    assert time.monotonic() - started < 5
    await gone(await pid_in(tmp_path / "pid"))
    await gone(await pid_in(tmp_path / "child"))


async def test_the_loop_runs_on_while_a_command_hangs(tmp_path: Path) -> None:
    turns = 0
    path = program(tmp_path, "#!/bin/sh\nexec sleep 1000\n")
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            with pytest.raises(ZfsError):
                await Command(path, timeout=0.5).run()
            group.cancel_scope.cancel()

        group.start_soon(ask)
        while True:
            await anyio.sleep(0.01)
            turns += 1
    assert turns > 10


async def test_a_process_that_survives_its_killing_is_not_joined_by_a_second(tmp_path: Path) -> None:
    class Unkillable:
        pid = 4711
        answers = True

        def is_alive(self) -> bool:
            return self.answers

        def kill_group(self) -> None:
            pass

    path = program(tmp_path, f"#!/bin/sh\necho call >>{tmp_path}/calls\n")
    command, stuck = Command(path, timeout=0.1), Unkillable()
    command._kill(stuck, "no answer")
    with pytest.raises(ZfsError, match="process 4711 does not end, not even when killed"):
        await command.run()
    assert not (tmp_path / "calls").exists()
    stuck.answers = False
    await command.run()
    assert (tmp_path / "calls").read_text() == "call\n"


async def test_queries_of_one_command_run_one_after_the_other(tmp_path: Path) -> None:
    path = program(
        tmp_path, f"#!/bin/sh\nmkdir {tmp_path}/busy || exit 9\nsleep 0.05\nrmdir {tmp_path}/busy\necho ok\n"
    )
    command, answers = Command(path), list[str]()

    async def ask() -> None:
        answers.append(await command.run())

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(ask)
    assert answers == ["ok\n"] * 4


async def test_waiting_behind_a_hanging_query_has_a_deadline(tmp_path: Path) -> None:
    command = Command(program(tmp_path, "#!/bin/sh\nexec sleep 1000\n"), timeout=0.4)
    errors: list[str] = []

    async def ask() -> None:
        with pytest.raises(ZfsError) as failed:
            await command.run()
        errors.append(str(failed.value))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
    assert sum("kept it busy for 0.4 s" in error for error in errors) >= 1
    assert sum("no answer within 0.4 s" in error for error in errors) >= 1


async def test_a_cancelled_query_ends_at_once_and_takes_its_process_along(tmp_path: Path) -> None:
    command = Command(program(tmp_path, f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 1000\n"))
    async with anyio.create_task_group() as group:
        group.start_soon(command.run)
        pid = await pid_in(tmp_path / "pid")
        started = time.monotonic()
        group.cancel_scope.cancel()
    assert time.monotonic() - started < 1
    await gone(pid)


async def test_after_a_cancelled_query_the_next_one_is_answered(tmp_path: Path) -> None:
    text = f"#!/bin/sh\n[ -e {tmp_path}/pid ] && exec echo ok\necho $$ >{tmp_path}/pid\nexec sleep 1000\n"
    command = Command(program(tmp_path, text))
    async with anyio.create_task_group() as group:
        group.start_soon(command.run)
        await pid_in(tmp_path / "pid")
        group.cancel_scope.cancel()
    assert await command.run() == "ok\n"
