"""Executors that die and are followed by others: orphans, records, the lock, launching, a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from sysadmd.errors import ExecutorError
from sysadmd.executor.launch import spawn_detached
from sysadmd.executor.protocol import Drain, connect, socket_path
from tests.integration.executor_rig import Server, alive, executor, until

LINUX = sys.platform.startswith("linux")
needs_proc = pytest.mark.skipif(not LINUX, reason="looks processes up in /proc")


async def test_a_new_executor_kills_the_groups_of_a_dead_one_and_reports_them_lost(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            attempts = [server.start("sh", "-c", "sleep 60 & sleep 60", lease="l1") for _ in range(3)]
            started = [await server.started(attempt) for attempt in attempts]
            instance = (await server.hello()).instance
            await rig.kill()
        assert all(alive(one.pid) for one in started)
        await rig.launch()
        await until(lambda: not any(alive(one.pid) for one in started), "the orphans to be killed")
        async with rig.server(hello=False) as again:
            assert (await again.hello()).instance != instance
            for one in started:
                ended = await again.exit(one.attempt)
                assert (ended.outcome, ended.lease, ended.time_started) == ("lost", "l1", one.time)
                assert ended.message == "the executor that ran it died; what was left of it is killed"


@needs_proc
async def test_a_group_whose_leader_is_gone_is_known_by_the_output_it_writes_to(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            attempt = server.start("sh", "-c", "sleep 60 & echo $!; exec sleep 0.3")
            await server.started(attempt)
            await until(lambda: (tmp_path / attempt).read_bytes().endswith(b"\n"), "the child's number")
            await rig.kill()
        leader_gone = int((tmp_path / attempt).read_text())
        await asyncio.sleep(0.5)
        assert alive(leader_gone)
        await rig.launch()
        await until(lambda: not alive(leader_gone), "the leaderless group to be killed")


@needs_proc
async def test_a_process_that_only_has_the_number_of_a_dead_attempt_is_left_alone(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            attempt = server.start("sleep", "60")
            started = await server.started(attempt)
            await rig.kill()
        os.killpg(started.pid, signal.SIGKILL)
        stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
        try:
            journal = rig.state / "executor" / "journal"
            journal.write_text(journal.read_text().replace(f'"pid":{started.pid},', f'"pid":{stranger.pid},'))
            await rig.launch()
            async with rig.server() as again:
                assert (await again.exit(attempt)).message == "the executor that ran it died"
            time.sleep(0.1)
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()


async def test_after_another_boot_nothing_is_killed_and_all_is_lost(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            attempt = server.start("sleep", "60")
            started = await server.started(attempt)
            boot = (await server.hello()).boot_id
            await rig.kill()
        journal = rig.state / "executor" / "journal"
        journal.write_text(journal.read_text().replace(boot, "of another boot"))
        try:
            await rig.launch()
            async with rig.server() as again:
                ended = await again.exit(attempt)
            assert (ended.outcome, ended.message) == ("lost", "the system was restarted")
            assert alive(started.pid)
        finally:
            os.killpg(started.pid, signal.SIGKILL)


async def test_unacknowledged_exits_survive_the_executor_and_acknowledged_ones_do_not(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            kept = await server.exit(server.start("sh", "-c", "exit 9"), ack=False)
            await server.exit(server.start("true"))
            await server.listing()
            await rig.kill()
        await rig.launch()
        async with rig.server() as again:
            assert (await again.listing()).exits == [kept]


async def test_a_torn_journal_loses_its_last_line_only(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            first = await server.exit(server.start("true"), ack=False)
            await server.exit(server.start("true"), ack=False)
            await rig.kill()
        journal = rig.state / "executor" / "journal"
        journal.write_bytes(journal.read_bytes()[:-20])
        await rig.launch()
        async with rig.server() as again:
            exits = (await again.listing()).exits
            assert first in exits
            assert [ended.outcome for ended in exits if ended != first] == ["lost"]
        assert "the journal has 1 line(s) that cannot be read" in rig.log()


async def test_killing_the_executor_closes_the_servers_channel_and_nothing_else(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        await rig.kill()
        await until(lambda: bool(server.closed), "the channel to notice")
        assert server.closed == [None]
        with pytest.raises(ExecutorError, match="closed"):
            server.channel.send(Drain())


async def test_a_second_executor_of_one_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        second = subprocess.run(
            [sys.executable, "-m", "sysadmd.executor", "--state-dir", str(rig.state)], capture_output=True, text=True
        )
        assert second.returncode == 1
        assert second.stderr == f"sysadmd executor: another executor runs in {rig.state}\n"
        assert (await server.run("true"))[0].outcome == "ok"


async def test_an_unusable_state_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    argv = [sys.executable, "-m", "sysadmd.executor", "--state-dir", str(tmp_path / "file" / "state")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"sysadmd executor: cannot start the executor in {tmp_path / 'file' / 'state'}: ")
    assert done.stderr.count("\n") == 1


async def test_closed_standard_descriptors_never_become_the_journals(tmp_path: Path) -> None:
    argv = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "sysadmd.executor", "--state-dir"]
    process = subprocess.Popen([*argv, str(tmp_path / "state")])
    try:
        await until(lambda: answers(tmp_path / "state"), "the executor to answer")
        server = Server(tmp_path / "state")
        await server.hello()
        ended, output = await server.run("echo", "hello")
        assert (ended.outcome, output) == ("ok", b"hello\n")
        lines = (tmp_path / "state" / "executor" / "journal").read_bytes().splitlines()
        assert all("frame" in msgspec.json.decode(line) for line in lines)
        server.channel.close()
        await asyncio.sleep(0)
    finally:
        process.terminate()
        process.wait(10)


def answers(state: Path) -> bool:
    """Whether an executor answers."""
    with contextlib.suppress(ExecutorError):
        connect(socket_path(state)).close()
        return True
    return False


async def drain(state: Path) -> None:
    """End a detached executor."""
    server = Server(state)
    await server.hello()
    server.channel.send(Drain())
    await until(lambda: bool(server.closed), "the executor to end")
    await until(lambda: not socket_path(state).exists(), "the socket to be gone")


async def test_a_detached_executor_leads_its_own_session_and_is_no_child(tmp_path: Path) -> None:
    await asyncio.to_thread(spawn_detached, tmp_path / "state", log_file=tmp_path / "log")
    server = Server(tmp_path / "state")
    hello = await server.hello()
    try:
        assert os.getsid(hello.pid) == hello.pid
        with pytest.raises(ChildProcessError):
            os.waitpid(hello.pid, os.WNOHANG)
        assert (await server.run("true"))[0].outcome == "ok"
        assert f"executor[{hello.pid}] ready: instance={hello.instance}" in (tmp_path / "log").read_text()
    finally:
        server.channel.close()
        await drain(tmp_path / "state")


async def test_launching_where_one_runs_is_as_good(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        await asyncio.to_thread(spawn_detached, rig.state, log_file=tmp_path / "other-log")
        async with rig.server(hello=False) as server:
            assert (await server.hello()).pid == rig.pid


async def test_a_launch_that_fails_says_with_which_status(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    with pytest.raises(ExecutorError, match=r"the executor ended with status 1; .*log says why"):
        await asyncio.to_thread(spawn_detached, tmp_path / "state", log_file=tmp_path / "log")


async def test_systemd_is_told_when_the_executor_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with executor(tmp_path):
            assert notify.recv(100) == b"READY=1"


@pytest.mark.skipif(not LINUX, reason="long socket paths go through /proc, elsewhere they are an error")
async def test_a_state_directory_deeper_than_a_socket_address_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with executor(deep) as rig, rig.server() as server:
        assert (await server.run("true"))[0].outcome == "ok"


@pytest.mark.skipif(not LINUX, reason="limits the running executor's files by prlimit(2)")
async def test_a_full_disk_keeps_exits_in_memory_says_so_and_recovers(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    async with executor(tmp_path) as rig:
        await rig.kill()
        await rig.launch(stderr=writer)
        os.close(writer)
        async with rig.server() as server:
            limits = resource.prlimit(rig.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(rig.pid, resource.RLIMIT_FSIZE, (1, limits[1]))  # to write(2) as good as a full disk
            attempts = [server.start("true") for _ in range(20)]
            ended = [await server.exit(attempt, ack=False) for attempt in attempts]
            assert {one.outcome for one in ended} == {"ok"}
            resource.prlimit(rig.pid, resource.RLIMIT_FSIZE, limits)
            log = b""
            while b"the journal is written again" not in log:
                log += await asyncio.to_thread(os.read, reader, 65536)
            await rig.kill()
        os.close(reader)
        assert log.count(b"cannot write the journal (File too large); ") == 1
        await rig.launch()
        async with rig.server() as again:
            assert (await again.listing()).exits == ended


@pytest.mark.skipif(not LINUX, reason="reads the executor's memory in /proc")
async def test_the_journal_stays_small_over_thousands_of_attempts(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        for _ in range(10):
            attempts = [server.start("") for _ in range(300)]
            for attempt in attempts:
                await server.exit(attempt)
            server.frames.clear()
        await server.listing()
        assert (rig.state / "executor" / "journal").stat().st_size < 200_000


def cpu_of_children() -> float:
    """Seconds of CPU that the children waited for have used: unlike the wall clock, no matter of the machine's load."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_the_executor_starts_quickly_and_imports_little() -> None:
    times = []
    for _ in range(5):
        before = cpu_of_children()
        subprocess.run([sys.executable, "-m", "sysadmd.executor", "--help"], check=True, capture_output=True)
        times.append(cpu_of_children() - before)
    assert min(times) < 0.2  # seconds of CPU; measured 0.1
    code = "import sys, sysadmd.executor.main; print(*(m for m in sys.modules if m.startswith(('sysadmd', 'anyio'))))"
    names = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert [name for name in names if not name.startswith("sysadmd.executor")] == ["sysadmd", "sysadmd.errors"]
