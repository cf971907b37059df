"""How attempts are ended: timeouts, signals, and what becomes of the processes a command leaves behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from sysadmd.executor.protocol import AttemptLimits, ErrorFrame, Exit, Signal
from tests.integration.executor_rig import Server, alive, executor, until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc")

DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
POLITE = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"


async def ready(server: Server, attempt: str, lines: int = 1) -> list[str]:
    """The first lines of the attempt's output, once they are there."""
    path = server.output / attempt
    await until(lambda: path.read_bytes().count(b"\n") >= lines, f"output of {attempt}")
    return path.read_text().splitlines()


async def test_a_timeout_ends_a_command_that_heeds_term(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, _ = await server.run("sleep", "60", limits=AttemptLimits(timeout=0.2))
        assert (ended.outcome, ended.signal) == ("timeout", signal.SIGTERM)
        assert ended.message == "stopped after its timeout of 0.2 s"


async def test_a_timeout_kills_a_command_that_ignores_term_after_the_grace(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, _ = await server.run("sh", "-c", DEAF, limits=AttemptLimits(timeout=0.3, grace=0.4))
        assert (ended.outcome, ended.signal) == ("timeout", signal.SIGKILL)
        assert ended.time_started is not None
        assert 0.7 <= ended.time_finished - ended.time_started < 5


async def test_an_exit_with_zero_after_the_timeout_is_still_a_timeout(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, output = await server.run("sh", "-c", POLITE, limits=AttemptLimits(timeout=0.5))
        assert (ended.outcome, ended.exit_code) == ("timeout", 0)
        assert output.endswith(b"bye\n")


async def test_a_command_within_its_timeout_is_left_alone(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, _ = await server.run("true", limits=AttemptLimits(timeout=0.3, grace=0.0))
        assert ended.outcome == "ok"


async def test_kill_is_term_first(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sh", "-c", POLITE)
        await ready(server, attempt)
        server.channel.send(Signal(attempt, "kill"))
        ended = await server.exit(attempt)
        assert (ended.outcome, ended.exit_code, ended.message) == ("killed", 0, "killed on request")


async def test_kill_is_kill_after_the_grace_that_it_names(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sh", "-c", DEAF, limits=AttemptLimits(grace=60))
        await ready(server, attempt)
        server.channel.send(Signal(attempt, "kill", grace=0.2))
        ended = await server.exit(attempt)
        assert (ended.outcome, ended.signal) == ("killed", signal.SIGKILL)


async def test_kill_without_a_grace_uses_the_attempts_own(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sh", "-c", DEAF, limits=AttemptLimits(grace=0.2))
        await ready(server, attempt)
        server.channel.send(Signal(attempt, "kill"))
        assert (await server.exit(attempt)).signal == signal.SIGKILL


async def test_a_second_kill_can_bring_the_end_forward(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sh", "-c", DEAF)
        await ready(server, attempt)
        server.channel.send(Signal(attempt, "kill", grace=60))
        server.channel.send(Signal(attempt, "kill", grace=0.1))
        server.channel.send(Signal(attempt, "kill", grace=60))
        assert (await server.exit(attempt)).outcome == "killed"


async def test_a_stopped_command_hears_the_term_of_a_kill(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sh", "-c", POLITE)
        await ready(server, attempt)
        server.channel.send(Signal(attempt, "STOP"))
        server.channel.send(Signal(attempt, "kill", grace=60))
        assert (await server.exit(attempt)).exit_code == 0


@pytest.mark.parametrize("name", ["TERM", "KILL", "INT", "QUIT"])
async def test_a_plain_signal_that_asks_for_the_end_makes_it_killed(tmp_path: Path, name: str) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sleep", "60")
        await server.started(attempt)
        server.channel.send(Signal(attempt, name))  # type: ignore[arg-type]  # the parameters are such names
        ended = await server.exit(attempt)
        assert (ended.outcome, ended.signal) == ("killed", signal.Signals[f"SIG{name}"])


async def test_a_signal_that_a_program_may_use_for_anything_makes_it_fail(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sleep", "60")
        await server.started(attempt)
        server.channel.send(Signal(attempt, "HUP"))
        assert (await server.exit(attempt)).outcome == "fail"


async def test_a_signal_reaches_the_whole_group(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sh", "-c", "sleep 60 & echo $!; wait")
        child = int((await ready(server, attempt))[0])
        server.channel.send(Signal(attempt, "kill"))
        await server.exit(attempt)
        await until(lambda: not alive(child), "the child to end")


async def test_a_signal_to_an_unknown_attempt_is_an_error(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        server.channel.send(Signal("nobody", "kill"))
        assert (await server.expect(ErrorFrame)).code == "not_running"


async def test_a_signal_to_an_ended_attempt_is_answered_by_its_exit(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("true")
        first = await server.exit(attempt, ack=False)
        seen = len(server.frames)
        server.channel.send(Signal(attempt, "kill"))
        assert await server.expect(Exit, after=seen) == first
        assert first.outcome == "ok"


async def test_what_stays_in_the_group_is_killed_when_the_command_ends(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sh", "-c", "trap '' TERM HUP; sleep 60 & echo $!; exit 5")
        ended = await server.exit(attempt)
        child = int((await ready(server, attempt))[0])
        assert (ended.outcome, ended.exit_code) == ("fail", 5)
        assert ended.time_started is not None
        assert ended.time_finished - ended.time_started < 10
        await until(lambda: not alive(child), "the child to be killed")


async def test_what_leaves_the_session_lives_on_as_a_daemon_must(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        script = "setsid sh -c 'echo $$; exec sleep 60' & while [ ! -s \"$1\" ]; do sleep 0.01; done"
        attempt = server.start("sh", "-c", script, "sh", str(tmp_path / "daemon"), attempt="daemon")
        ended = await server.exit(attempt)
        daemon = int((await ready(server, attempt))[0])
        try:
            assert ended.outcome == "ok"
            time.sleep(0.1)
            assert alive(daemon)
        finally:
            os.kill(daemon, signal.SIGKILL)


async def test_a_fork_bomb_of_some_hundred_leaves_nobody(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sh", "-c", "i=0; while [ $i -lt 200 ]; do sleep 60 & echo $!; i=$((i+1)); done")
        await server.exit(attempt)
        children = [int(line) for line in await ready(server, attempt, 200)]
        await until(lambda: not any(alive(child) for child in children), "all children to be killed")


async def test_many_timeouts_at_once_end_each_attempt(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempts = [server.start("sleep", "60", limits=AttemptLimits(timeout=0.5)) for _ in range(50)]
        assert {(await server.exit(attempt)).outcome for attempt in attempts} == {"timeout"}


async def test_a_reason_is_cut_however_long_the_name_that_could_not_be_started(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, output = await server.run("/nowhere/" + "x" * 100_000)
        assert ended.outcome == "spawn_failed"
        assert ended.message is not None
        assert len(ended.message) == 1000
        assert len(output) < 2000
