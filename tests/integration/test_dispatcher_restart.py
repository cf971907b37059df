"""A server that ends in the middle of a chain, and an executor that does: nothing is lost, and what is, is said."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.executor.protocol import socket_path
from tests.integration.dispatcher_harness import (
    dispatcher_process,
    running_dispatcher,
    running_executor,
    stored_events,
    wait_for_executor,
)


def wait_until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, "it did not happen within 15 s"
        time.sleep(0.01)


def chain(directory: Path) -> list[list[str]]:
    """Two commands; the first waits for the file `go`."""
    first = (
        f"echo first; touch {directory}/running; while ! test -e {directory}/go; do sleep 0.02; done; echo done; exit 0"
    )
    return [["sh", "-c", first], ["sh", "-c", f"echo second; touch {directory}/second; exit 7"]]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("when", ["the first runs", "the first has ended meanwhile"])
async def test_a_chain_outlives_its_server(tmp_path: Path, how: signal.Signals, when: str) -> None:
    with running_executor(tmp_path):
        with dispatcher_process(tmp_path, {"p": chain(tmp_path)}) as server:
            wait_until((tmp_path / "running").exists)
            server.send_signal(how)
            server.wait(10)
        if when == "the first has ended meanwhile":
            (tmp_path / "go").touch()
            time.sleep(0.3)
            assert not (tmp_path / "second").exists()
        async with running_dispatcher(tmp_path) as running:
            (tmp_path / "go").touch()
            with anyio.fail_after(20):
                job = await running.dispatcher.wait("p")
            log = await running.dispatcher.read_log(process_id="p", command=0)
    assert [step.return_code for step in job.steps] == ["0", "7"]
    assert log["data"] == "first\ndone\n"
    events = stored_events(tmp_path)
    assert [event["phase"] for event in events] == ["pending", "started", "command", "finished"]
    texts = [events[-1]["details"][command] for command in events[-1]["details"]["cmd_list"]]
    assert texts == ["first\ndone\n", "second\n"]


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04])
async def test_a_server_killed_at_any_moment_runs_every_command_exactly_once(tmp_path: Path, delay: float) -> None:
    commands = [["sh", "-c", f"echo {n} >> {tmp_path}/ran"] for n in range(3)]
    with running_executor(tmp_path):
        with dispatcher_process(tmp_path, {"p": commands}) as server:
            time.sleep(delay)
            server.kill()
            server.wait(10)
        async with running_dispatcher(tmp_path) as running:
            with anyio.fail_after(20):
                job = await running.dispatcher.wait("p")
    assert job.state == "complete"
    assert (tmp_path / "ran").read_text().split() == ["0", "1", "2"]
    assert [event["phase"] for event in stored_events(tmp_path)].count("finished") == 1


async def test_a_killed_executor_loses_its_attempts_and_the_server_goes_on(tmp_path: Path) -> None:
    async with running_dispatcher(tmp_path) as running:
        with running_executor(tmp_path) as executor:
            await running.dispatcher.start({"p": [["sh", "-c", "echo begun; sleep 60"], "echo never"]}, "test")
            with anyio.fail_after(20):
                assert (await running.dispatcher.read_log(process_id="p", follow=10))["data"] == "begun\n"
            executor.kill()
            executor.wait()
        await running.dispatcher.start({"q": "echo later"}, "test")
        with running_executor(tmp_path):
            with anyio.fail_after(20):
                lost = await running.dispatcher.wait("p")
                done = await running.dispatcher.wait("q")
            text = (await running.dispatcher.read_log(process_id="p", command=0))["data"]
    assert (lost.state, lost.steps[0].return_code, lost.steps[1].state) == ("error", "-1", "skipped")
    assert lost.steps[0].attempt is not None
    assert lost.steps[0].attempt.outcome == "lost"
    assert text.startswith("begun\nsysadmd: the result is lost: ")
    assert done.state == "complete"


async def test_an_executor_is_started_where_none_answers_and_outlives_the_dispatcher(tmp_path: Path) -> None:
    pids: list[int] = []
    try:
        async with running_dispatcher(tmp_path, launch_executor=True) as running:
            with anyio.fail_after(20):
                assert (await running.dispatcher.execute("echo hi", "test"))["echo hi"] == "hi\n"
        pids = executors_of(tmp_path)
        assert len(pids) == 1
        async with running_dispatcher(tmp_path, launch_executor=True) as running:
            with anyio.fail_after(20):
                await running.dispatcher.execute("true", "test")
            os.kill(pids[0], signal.SIGKILL)
            with anyio.fail_after(20):
                await running.dispatcher.execute("true", "test")
        assert executors_of(tmp_path) != pids
    finally:
        for pid in executors_of(tmp_path):
            os.kill(pid, signal.SIGKILL)


async def test_an_executor_that_says_nothing_is_left_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysadmd.dispatcher.link.HANDSHAKE", 0.2)
    async with await anyio.create_unix_listener(socket_path(tmp_path)), running_dispatcher(tmp_path) as running:
        await anyio.sleep(0.5)
        assert not running.dispatcher.connected
        socket_path(tmp_path).unlink()
        with running_executor(tmp_path):
            wait_for_executor(tmp_path)
            with anyio.fail_after(20):
                await running.dispatcher.execute("true", "test")


def executors_of(state: Path) -> list[int]:
    """Pids of the executors of a state directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"sysadmd.executor" in arguments and str(state).encode() in arguments:
            found.append(int(entry.parent.name))
    return found
