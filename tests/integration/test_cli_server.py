"""The commands against a real server: as a person types them, as a script reads them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sysadmd.client import AsyncClient, AuthFailed, RemoteError
from tests.integration.servers import PASSWORD, RunningServer, running_server


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def argv(*args: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "sysadmd", *args)


async def sysadmd(server: RunningServer | None, *args: str, stdin: str = "", **environ: str) -> Done:
    """Run one command to its end, with the state directory of this server."""
    env = {**os.environ, **(server.env if server else {}), **environ}
    process = await asyncio.create_subprocess_exec(
        *argv(*args),
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def start(server: RunningServer, *args: str) -> asyncio.subprocess.Process:
    """Start a command that goes on."""
    return await asyncio.create_subprocess_exec(
        *argv(*args), env=server.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def line_of(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(15):
        line: dict[str, Any] = json.loads(await process.stdout.readline())
        return line


async def finish(process: asyncio.subprocess.Process, number: int | None = None) -> tuple[int, str]:
    """The exit code and standard error of a command, after a signal."""
    if number is not None:
        process.send_signal(number)
    async with asyncio.timeout(15):
        _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


# call


async def test_the_local_socket_needs_no_log_in(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        done = await sysadmd(server, "call", "rpc/query")
    assert (done.code, done.err) == (0, "")
    assert done.json["rpc/dispatcher"] == "read/write"
    assert done.out.count("\n") == 1


async def test_a_call_over_tls_with_the_pinned_certificate_and_a_password(tmp_path: Path) -> None:
    async with running_server(tmp_path, tls=True) as server:
        there = ("--server", server.url, "--user", "admin", "--password-stdin")
        pinned = ("--ca", str(server.state_dir / "server.crt"))
        done = await sysadmd(server, "call", "rpc/dispatcher/list", *there, *pinned, stdin=PASSWORD + "\n")
        assert (done.code, done.json) == (0, {"jobs": {}})
        wrong = await sysadmd(server, "call", "rpc/dispatcher/list", *there, *pinned, stdin="guess\n")
        assert (wrong.code, wrong.err) == (3, "sysadmd: the server refused the log-in\n")
        unpinned = await sysadmd(server, "call", "rpc/dispatcher/list", *there, stdin=PASSWORD + "\n")
        fingerprint = next(line for line in server.log_lines() if line.get("event") == "certificate")["fingerprint"]
        assert unpinned.code == 3
        assert fingerprint in unpinned.err
        trusting = await sysadmd(server, "call", "rpc/query", *there, "--insecure", stdin=PASSWORD + "\n")
        assert trusting.code == 0


async def test_a_token_of_the_environment_logs_in(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with server.connect(None) as peer:
            token = await peer.login()
            done = await sysadmd(server, "call", "rpc/query", "--server", server.url, SYSADMD_TOKEN=token)
        assert done.code == 0
        bad = await sysadmd(server, "call", "rpc/query", "--server", server.url, SYSADMD_TOKEN="x" * 32)
        assert bad.code == 3


async def test_arguments_from_standard_input_follow_the_password(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        log_in = ("--server", server.url, "--user", "admin", "--password-stdin")
        args = f'{PASSWORD}\n{{"job-1":\n ["true"]}}\n'
        done = await sysadmd(server, "call", "rpc/dispatcher/run", "-", *log_in, stdin=args)
    assert (done.code, done.json) == (0, {"started": ["job-1"]})


async def test_an_error_reply_is_exit_1_with_its_text(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        unknown = await sysadmd(server, "call", "rpc/nothing")
        bad = await sysadmd(server, "call", "rpc/dispatcher/run", '{"x": []}')
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == "sysadmd: there is no rpc/nothing (404)\n"
    assert (bad.code, bad.out) == (1, "")
    assert bad.err.startswith("sysadmd: args.x")
    assert bad.err.endswith("(400)\n")


async def test_an_action_with_arguments_that_are_no_object_is_wrong_usage(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        done = await sysadmd(server, "call", "rpc/dispatcher/run", "[1]")
    assert done.code == 2
    assert done.err.startswith("sysadmd: call: ARGS_JSON of rpc/dispatcher/run is not an object")


async def test_nobody_there_is_exit_3() -> None:
    done = await sysadmd(None, "call", "rpc/query")
    assert (done.code, done.out) == (3, "")
    assert "the socket does not exist" in done.err
    refused = await sysadmd(None, "call", "rpc/query", "--server", "ws://127.0.0.1:1")
    assert refused.code == 3


# events


async def test_events_are_lines_of_json_up_to_the_limit(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        first = (await sysadmd(server, "call", "events/subscribe", '{"topics": ["dispatcher"]}')).json
        await sysadmd(server, "call", "rpc/dispatcher/run", '{"a": ["echo hello"]}')
        since = f"{first['epoch']}:{first['seq']}"
        done = await sysadmd(server, "events", "dispatcher", "--since", since, "--limit", "1", "--duration", "20")
    assert (done.code, done.err) == (0, "")
    (event,) = [json.loads(line) for line in done.out.splitlines()]
    assert (event["topic"], event["epoch"]) == ("dispatcher", first["epoch"])
    assert event["args"]["process_id"] == "a"


async def test_events_end_after_their_duration(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        done = await sysadmd(server, "events", "life_preserver", "--duration", "300ms")
    assert (done.code, done.out, done.err) == (0, "", "")


async def test_an_unknown_topic_is_refused_at_once(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        done = await sysadmd(server, "events", "weather")
    assert done.code == 1
    assert done.err.startswith("sysadmd: args")


async def test_an_interrupt_ends_events_quietly(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        process = await start(server, "events", "system_state", "--snapshot")
        await line_of(process)
        code, err = await finish(process, signal.SIGINT)
    assert (code, err.strip()) == (130, "")


async def test_a_closed_pipe_ends_events_quietly(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        command = " ".join(argv("events", "system_state", "dispatcher", "--snapshot"))
        process = await asyncio.create_subprocess_shell(
            f"{{ {command}; echo code $? >&2; }} | head -n 1",
            env=server.env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await line_of(process)
        for n in range(20):
            await sysadmd(server, "call", "rpc/dispatcher/run", json.dumps({f"job-{n}": ["true"]}))
            if process.stderr is not None and process.stderr.at_eof():
                break
            try:
                async with asyncio.timeout(0.3):
                    await process.wait()
                break
            except TimeoutError:
                continue
        _, err = await finish(process)
    assert err == "code 0\n"


async def test_a_lost_server_ends_events_with_exit_4(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        process = await start(server, "events", "system_state", "--snapshot")
        await line_of(process)
        await server.end()
        code, err = await finish(process)
    assert code == 4
    assert "the server closed the connection (1001" in err


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_reconnecting_events_miss_nothing_over_a_restart(tmp_path: Path, end: signal.Signals) -> None:
    async with running_server(tmp_path) as server:
        process = await start(server, "events", "dispatcher", "system_state", "--snapshot", "--reconnect")
        await line_of(process)
        await sysadmd(server, "call", "rpc/dispatcher/run", '{"long": ["echo one", "sleep 2", "echo two"]}')
        while (await line_of(process))["args"].get("state") != "running":
            pass
        await server.end(end)
        await server.restart()
        while True:
            event = await line_of(process)
            if event["args"].get("state") == "finished":
                break
        await finish(process, signal.SIGTERM)
    details = event["args"]["process_details"]
    assert [details[key] for key in ("echo one", "echo two", "return_codes/echo two")] == ["one\n", "two\n", "0"]


# user, status, backup


async def test_accounts_are_changed_through_the_running_server(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        added = await sysadmd(server, "user", "add", "ines", "--role", "operator", "--password-stdin", stdin="a b c\n")
        assert (added.code, added.out, added.err) == (0, "", "")
        async with AsyncClient(server.url, username="ines", password="a b c") as client:
            with pytest.raises(RemoteError, match="403"):
                await client.call("rpc/accounts/list")
        listed = [json.loads(line) for line in (await sysadmd(server, "user", "list")).out.splitlines()]
        assert [(row["name"], row["roles"]) for row in listed] == [("admin", ["admin"]), ("ines", ["operator"])]
        again = await sysadmd(server, "user", "add", "ines", "--generate")
        assert (again.code, again.out) == (1, "")
        changed = await sysadmd(server, "user", "passwd", "ines", "--generate")
        async with AsyncClient(server.url, username="ines", password=changed.out.strip()):
            pass
        assert (await sysadmd(server, "user", "remove", "ines")).code == 0
        with pytest.raises(AuthFailed):
            async with AsyncClient(server.url, username="ines", password=changed.out.strip()):
                pass
        nothing = await sysadmd(server, "user", "add", "first", "--generate", "--if-none")
        assert (nothing.code, nothing.out) == (0, "")


async def test_roles_are_changed_through_the_running_server(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        added = await sysadmd(server, "user", "add", "ines", "--role", "viewer", "--password-stdin", stdin="a b c\n")
        assert added.code == 0
        made = await sysadmd(server, "role", "set", "asker", "--pattern", "call:rpc/query")
        assert (made.code, made.out, made.err) == (0, "", "")
        async with server.connect(login=None) as peer:
            await peer.login("ines", "a b c")
            assert (await peer.request("rpc", "discover"))["name"] == "response"
            assert (await sysadmd(server, "user", "roles", "ines", "--role", "asker")).code == 0
            assert (await peer.request("rpc", "discover"))["args"]["code"] == 403
            assert await peer.call("rpc", "query") == {}
            assert (await sysadmd(server, "role", "set", "asker", "--include", "viewer")).code == 0
            assert (await peer.request("rpc", "discover"))["name"] == "response"
            in_use = await sysadmd(server, "role", "remove", "asker")
            assert (in_use.code, in_use.out) == (1, "")
            assert "the account 'ines' has the role 'asker'" in in_use.err


async def test_status_tells_who_answers(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        done = await sysadmd(server, "status")
        anonymous = await sysadmd(server, "status", "--server", server.url)
    assert done.code == 0
    assert (done.json["type"], done.json["jobs"]) == ("server", {})
    assert done.json["version"]
    assert anonymous.code == 0
    assert "jobs" not in anonymous.json


async def test_a_backup_of_a_running_server_restores_its_accounts_and_certificate(tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    async with running_server(tmp_path, tls=True) as server:
        certificate = (server.state_dir / "server.crt").read_bytes()
        done = await sysadmd(server, "backup", str(file))
        assert (done.code, done.out) == (0, "")
        refused = await sysadmd(server, "restore", str(file), "--force")
        assert refused.code == 1
        assert "is in use by process" in refused.err
    assert (await sysadmd(None, "restore", str(file), "--state-dir", str(tmp_path / "new"))).code == 0
    (tmp_path / "second").mkdir()
    (tmp_path / "new").rename(tmp_path / "second" / "state")
    async with running_server(tmp_path / "second", tls=True, accounts={"paul": ("viewer",)}) as server:
        assert (server.state_dir / "server.crt").read_bytes() == certificate
        listed = [json.loads(line)["name"] for line in (await sysadmd(server, "user", "list")).out.splitlines()]
    assert listed == ["admin", "paul"]


async def test_a_second_server_on_the_same_state_is_refused(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        done = await sysadmd(server, "serve", "--listen", "127.0.0.1:0", "--rest", "127.0.0.1:0")
    assert done.code == 2
    assert f"is in use by process {server.process.pid}" in done.err
    assert done.err.count("\n") == 1
