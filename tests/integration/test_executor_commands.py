"""What a command gets from the executor, and what the executor says of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sysadmd.executor.protocol import AttemptLimits, Exit, Start, Started
from tests.integration.executor_rig import ENVIRONMENT, executor

LINUX = sys.platform.startswith("linux")
needs_proc = pytest.mark.skipif(not LINUX, reason="reads /proc, which is Linux's")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="runs commands as another user, which takes root")


async def test_exit_code_zero_is_ok_with_times_and_usage(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, output = await server.run("echo", "hello")
        assert (ended.outcome, ended.exit_code, ended.signal, ended.message) == ("ok", 0, None, None)
        assert ended.time_started is not None
        assert ended.time_started <= ended.time_finished
        assert ended.usage is not None
        assert output == b"hello\n"


async def test_exit_echoes_the_lease(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, _ = await server.run("true", lease="c0ffee")
        assert ended.lease == "c0ffee"


async def test_any_other_exit_code_is_fail(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, _ = await server.run("sh", "-c", "exit 37")
        assert (ended.outcome, ended.exit_code) == ("fail", 37)


async def test_death_by_a_signal_is_fail_with_its_number(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, _ = await server.run("sh", "-c", "kill -SEGV $$")
        assert (ended.outcome, ended.exit_code, ended.signal) == ("fail", None, 11)


async def test_stdout_and_stderr_are_one_file_in_order(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("sh", "-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done")
        assert output == b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"


async def test_output_is_appended_by_the_next_command_of_a_chain(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        for word in ("one", "two", "three"):
            await server.exit(server.start("echo", word, output=tmp_path / "chain"))
        assert (tmp_path / "chain").read_bytes() == b"one\ntwo\nthree\n"


async def test_output_that_is_not_utf8_stays_as_it_is(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("printf", r"\377\376\000\200")
        assert output == b"\xff\xfe\x00\x80"


async def test_large_output_goes_straight_to_the_file(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("head", "-c", "50000000", "/dev/zero")
        assert len(output) == 50_000_000


async def test_arguments_keep_unicode_and_blanks(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("printf", "%s|", "a b", "", "grüße 🚂", "$HOME;`x`")
        assert output.decode() == "a b||grüße 🚂|$HOME;`x`|"


async def test_ten_thousand_arguments(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("sh", "-c", "echo $#", "sh", *["argument"] * 10_000)
        assert output == b"10000\n"


async def test_environment_is_exactly_what_the_server_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_SECRET", "not for children")
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("/usr/bin/env", env={"ONLY": "this", "PATH": "/bin"})
        assert sorted(output.splitlines()) == [b"ONLY=this", b"PATH=/bin"]


async def test_the_program_is_found_on_the_path_that_the_server_gives(tmp_path: Path) -> None:
    program = tmp_path / "own-program"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o700)
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("own-program", env={"PATH": f"/nowhere:{tmp_path}"})
        assert output == b"found\n"


async def test_working_directory_umask_and_empty_stdin(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("sh", "-c", "pwd; umask; cat; echo end of stdin", cwd=str(tmp_path))
        assert output.decode().split("\n") == [str(tmp_path), "0022", "end of stdin", ""]


@needs_proc
async def test_each_attempt_leads_a_session_of_its_own(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("cat", "/proc/self/stat")
        ended = await server.exit(attempt)
        fields = (tmp_path / attempt).read_text().split()
        started = await server.started(attempt)
        assert ended.outcome == "ok"
        assert fields[0] == fields[4] == fields[5] == str(started.pid)
        assert fields[21] == str(started.pid_start)


@needs_proc
async def test_a_command_has_the_default_signal_dispositions_and_nothing_blocked(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("cat", "/proc/self/status")
        fields = dict(line.split(":\t", 1) for line in output.decode().splitlines() if ":\t" in line)
        # 32 and 33 are glibc's own (signal(7)); nobody can set them, and its posix_spawn, which make uses, ignores one.
        ours = ~(1 << 31 | 1 << 32)
        assert [int(fields[key], 16) & ours for key in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


@needs_proc
async def test_a_command_inherits_no_descriptor_but_its_own_three(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("sh", "-c", "ls /proc/$$/fd")
        assert output.split() == [b"0", b"1", b"2"]


async def test_resource_limits_are_set(tmp_path: Path) -> None:
    limits = AttemptLimits(rlimits={"nofile": 64, "core": 0})
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("sh", "-c", "ulimit -n; ulimit -c; ulimit -Hn", limits=limits)
        assert output.split() == [b"64", b"0", b"64"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the lock on privileges in Linux's /proc")
@pytest.mark.parametrize("locked", [True, False])
async def test_new_privileges_are_denied_where_the_start_says_so(tmp_path: Path, locked: bool) -> None:
    limits = AttemptLimits(no_new_privs=locked, rlimits={"nofile": 64})
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("sh", "-c", "grep NoNewPrivs /proc/self/status; ulimit -n", limits=limits)
        assert output.split() == [b"NoNewPrivs:", b"1" if locked else b"0", b"64"]


@needs_root
async def test_a_command_runs_as_the_user_with_its_groups_only(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, output = await server.run("sh", "-c", "id -un; id -u -r; id -G; cat /etc/shadow", user="nobody")
        lines = output.decode().splitlines()
        assert lines[0] == "nobody"
        assert "0" not in lines[1:3]
        assert "Permission denied" in lines[3]
        assert ended.exit_code == 1


async def test_naming_the_executors_own_user_changes_nothing(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        _, output = await server.run("id", "-u", user=Path.home().owner() if os.geteuid() else "root")
        assert int(output) == os.geteuid()


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown program": ({"argv": ["no-such-program"]}, "cannot start 'no-such-program': No such file or directory"),
    "unknown path": ({"argv": ["/no/such"]}, "cannot start '/no/such': No such file or directory"),
    "not executable": ({"argv": ["/etc/passwd"]}, "cannot start '/etc/passwd': Permission denied"),
    "a directory": ({"argv": ["/etc"]}, "cannot start '/etc': Permission denied"),
    "no argv": ({"argv": []}, "cannot start a command without a name"),
    "an empty name": ({"argv": [""]}, "cannot start a command without a name"),
    "a NUL": ({"argv": ["echo", "a\0b"]}, "cannot start 'echo': embedded null byte"),
    "missing cwd": (
        {"argv": ["true"], "cwd": "/no/dir"},
        "cannot start 'true' in '/no/dir': No such file or directory",
    ),
    "cwd is a file": (
        {"argv": ["true"], "cwd": "/etc/passwd"},
        "cannot start 'true' in '/etc/passwd': Not a directory",
    ),
    "unknown user": ({"argv": ["true"], "user": "nosuchuser"}, "cannot run as 'nosuchuser': no such user"),
    "too long": ({"argv": ["echo", *["x" * 100_000] * 50]}, "cannot start 'echo': Argument list too long"),
    "bad variable": ({"argv": ["true"], "env": {"A=B": "c"}}, "cannot start 'true': illegal environment variable name"),
    "unknown limit": (
        {"argv": ["true"], "limits": AttemptLimits(rlimits={"wishes": 3})},
        "cannot limit 'wishes': this system has no such resource limit",
    ),
    "negative limit": (
        {"argv": ["true"], "limits": AttemptLimits(rlimits={"core": -1})},
        "cannot limit 'core' to -1: it must be from 0 to any number",
    ),
}


@pytest.mark.parametrize("what", FAILURES)
async def test_what_cannot_be_spawned_ends_with_one_clear_line(tmp_path: Path, what: str) -> None:
    keywords, message = FAILURES[what]
    rest = {key: value for key, value in keywords.items() if key != "argv"}
    async with executor(tmp_path) as rig, rig.server() as server:
        ended, output = await server.run(*keywords["argv"], **rest)
        assert (ended.outcome, ended.exit_code, ended.message) == ("spawn_failed", None, message)
        assert output.decode() == f"sysadmd: {message}\n"
        assert not any(isinstance(frame, Started) for frame in server.frames)
        assert (await server.run("true"))[0].outcome == "ok"


async def test_a_spawn_that_fails_with_a_full_output_still_says_why(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended = await server.exit(server.start("no-such-program", output=Path("/dev/full")))
        assert ended.message == "cannot start 'no-such-program': No such file or directory"


async def test_starting_a_running_attempt_again_answers_started_again(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sleep", "60")
        first = await server.started(attempt)
        seen = len(server.frames)
        server.start("sleep", "60", attempt=attempt)
        assert await server.expect(Started, after=seen) == first
        assert len((await server.listing()).running) == 1


async def test_starting_an_ended_attempt_again_answers_its_exit_again(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("sh", "-c", "echo ran")
        first = await server.exit(attempt, ack=False)
        seen = len(server.frames)
        server.start("sh", "-c", "echo ran", attempt=attempt)
        assert await server.expect(Exit, after=seen) == first
        assert (tmp_path / attempt).read_bytes() == b"ran\n"


async def test_a_thousand_quick_commands_each_end_once(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        before = rig.descriptors() if LINUX else 0
        for number in range(1000):
            start = Start(attempt=str(number), lease="", argv=["true"], env=ENVIRONMENT)
            server.channel.send(start, os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        for number in range(1000):
            assert (await server.exit(str(number))).outcome == "ok"
        ids = [frame.attempt for frame in server.frames if isinstance(frame, Exit)]
        assert sorted(ids, key=int) == [str(number) for number in range(1000)]
        listing = await server.listing()
        assert (listing.running, listing.exits) == ([], [])
        assert not LINUX or rig.descriptors() <= before


async def test_the_log_has_the_program_and_none_of_its_arguments(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        await server.run("echo", "argument-secret", env=ENVIRONMENT | {"TOKEN": "environment-secret"})
        assert "argv0=echo" in rig.log()
        assert "secret" not in rig.log()
        assert "secret" not in (rig.state / "executor" / "journal").read_text()
