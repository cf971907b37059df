"""The dispatcher with a real executor and real commands: the stated result of each odd case."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Any

import anyio

from sysadmd.config import DispatcherConfig
from sysadmd.dispatcher import ProcessSpec
from sysadmd.limits import MIB, Limits
from tests.integration.dispatcher_harness import (
    FAST,
    Running,
    running_dispatcher,
    running_executor,
    stored_events,
)


async def run(running: Running, process: Any) -> dict[str, Any]:
    """Run one process to its end; its finished log object."""
    with anyio.fail_after(20):
        return await running.dispatcher.execute(process, "test")


async def test_a_command_runs_and_tells_its_output(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            details = await run(running, ['echo "hello  world"', ["sh", "-c", "echo out; echo err >&2"]])
    assert details['echo "hello  world"'] == "hello  world\n"
    assert details['sh -c "echo out; echo err >&2"'] == "out\nerr\n"
    assert [event["phase"] for event in stored_events(tmp_path)] == ["pending", "started", "command", "finished"]


async def test_an_unknown_program_has_return_code_minus_one_and_a_reason(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            details = await run(running, ["no-such-program x", "echo never"])
    assert details["return_codes/no-such-program x"] == "-1"
    assert details["no-such-program x"] == "sysadmd: cannot start 'no-such-program': No such file or directory\n"
    assert "echo never" not in details


async def test_a_death_by_signal_is_minus_its_number(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            command = ["sh", "-c", "kill -SEGV $$"]
            details = await run(running, [command])
    assert details['return_codes/sh -c "kill -SEGV $$"'] == "-11"


async def test_output_that_is_not_utf8_is_readable(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            details = await run(running, [["printf", r"a\377\303\244\303"]])
    assert details[r"printf a\377\303\244\303"] == "a\N{REPLACEMENT CHARACTER}ä\N{REPLACEMENT CHARACTER}"


async def test_the_environment_is_the_allow_list(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        options = DispatcherConfig(environment=("PATH",), variables={"COLOUR": "blue"})
        async with running_dispatcher(tmp_path, dispatcher=options) as running:
            details = await run(running, {"commands": ["env"], "cwd": "/tmp"})
    assert set(details["env"].split()) <= {f"PATH={os.environ['PATH']}", "COLOUR=blue", "PWD=/tmp"}


async def test_a_timeout_ends_the_command_and_says_so(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            details = await run(running, {"commands": ["sleep 60"], "timeout": 0.2})
    assert details["return_codes/sleep 60"] == "-15"
    assert details["sleep 60"].endswith("sysadmd: ended after its time limit\n")


async def test_a_command_that_ignores_term_is_killed_after_the_grace(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            script = 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
            await running.dispatcher.start({"p": [["sh", "-c", script]]}, "test")
            with anyio.fail_after(20):
                await running.dispatcher.read_log(process_id="p", follow=10)
                assert await running.dispatcher.kill(["p"], "boss") == ["p"]
                job = await running.dispatcher.wait("p")
    assert (job.state, job.steps[0].return_code) == ("killed", "-9")
    assert [event["phase"] for event in stored_events(tmp_path)] == ["pending", "started", "finished"]


async def test_a_child_that_forks_and_leaves_does_not_hold_its_process(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            script = "setsid sh -c 'sleep 0.8; echo late' & sleep 0.3; echo early"
            begin = time.monotonic()
            details = await run(running, [["sh", "-c", script]])
            assert time.monotonic() - begin < 0.8
            (process_id,) = (await running.dispatcher.listing(history=True))["no_queue"]
            assert list(details.values())[5] == "early\n"
            with anyio.fail_after(10):
                while True:
                    part = await running.dispatcher.read_log(process_id=process_id)
                    if part["data"] == "early\nlate\n":
                        break
                    await anyio.sleep(0.05)


async def test_output_above_the_cap_ends_the_command(tmp_path: Path) -> None:
    limits = Limits(running_update=0.05, output_cap=5 * MIB)
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path, limits=limits) as running:
            details = await run(running, ["yes", "echo never"])
    assert details["return_codes/yes"] == "-9"
    assert details["yes"].startswith("y\ny\n")
    assert "bytes are left out here; read_log has them" in details["yes"]
    assert details["yes"].endswith("sysadmd: ended: its output is above the limit, or the disk is nearly full\n")


async def test_a_nearly_full_disk_ends_what_writes(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path, use=lambda _: 0.96) as running:
            assert (await run(running, ["yes"]))["return_codes/yes"] == "-9"


async def test_output_files_are_ours_alone(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            await run(running, ["true"])
    (file,) = (tmp_path / "output").rglob("*.log")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "output", file.parent)} == {0o700}


async def test_serial_lanes_run_one_at_a_time_beside_each_other(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            script = f"date +%s.%N >> {tmp_path}/times; sleep 0.1; date +%s.%N >> {tmp_path}/times"
            spec = ProcessSpec([["sh", "-c", script]], lane="pkg_queue")
            await running.dispatcher.start(dict.fromkeys("abc", spec), "test")
            with anyio.fail_after(20):
                await asyncio.gather(*map(running.dispatcher.wait, "abc"))
    times = [float(line) for line in (tmp_path / "times").read_text().split()]
    assert times == sorted(times)
    assert len(times) == 6


async def test_many_processes_at_once_all_end_once(tmp_path: Path) -> None:
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path) as running:
            names = [f"p{n}" for n in range(150)]
            await running.dispatcher.start(dict.fromkeys(names, "true"), "test")
            with anyio.fail_after(40):
                jobs = await asyncio.gather(*map(running.dispatcher.wait, names))
    assert {job.state for job in jobs} == {"complete"}
    finished = [event["process_id"] for event in stored_events(tmp_path) if event["phase"] == "finished"]
    assert sorted(finished) == sorted(names)


async def test_much_output_costs_no_memory(tmp_path: Path) -> None:
    """300 MB here; the benchmark has the whole gigabyte."""
    with running_executor(tmp_path):
        async with running_dispatcher(tmp_path, limits=FAST) as running:
            before = _resident()
            details = await run(running, ["head -c 300000000 /dev/zero"])
            grown = _resident() - before
    assert details["return_codes/head -c 300000000 /dev/zero"] == "0"
    assert grown < 32 * MIB


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
