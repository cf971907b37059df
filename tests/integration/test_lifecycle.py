"""A server process from its start to its end: what it tells whom, and with which exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.servers import RunningServer, end_executor, running_server

CONFIG = """
origins = ["https://one.example.net"]
[lanes]
slow = 1
[limits]
subscriptions = 2
"""
CHANGED = """
origins = ["https://two.example.net"]
[lanes]
slow = 1
fast = 2
[limits]
subscriptions = 1
[log]
level = "debug"
[system_state]
interval = 77
"""


async def log_line(server: RunningServer, **wanted: Any) -> dict[str, Any]:
    """The first line of the server's log that has these values, when it comes."""
    async with asyncio.timeout(10):
        while True:
            for line in server.log_lines():
                if wanted.items() <= line.items():
                    return line
            await asyncio.sleep(0.02)


async def reload(server: RunningServer, config: str) -> None:
    server.state_dir.with_name("sysadmd.toml").write_text(config)
    server.process.send_signal(signal.SIGHUP)


async def subscribe_twice(server: RunningServer) -> int:
    """How a second subscription is answered."""
    async with server.connect() as peer:
        await peer.call("events", "subscribe", {"topics": ["dispatcher"]})
        reply = await peer.request("events", "subscribe", {"topics": ["dispatcher"]})
        return int(reply["args"].get("code", 200))


async def knows_lane(server: RunningServer, lane: str) -> bool:
    async with server.connect() as peer:
        reply = await peer.request("rpc", "dispatcher", {"action": "list", "lane": lane})
        return bool(reply["name"] == "response")


async def origin_allowed(server: RunningServer, origin: str) -> bool:
    try:
        async with server.connect(login=None, origin=origin):
            return True
    except InvalidStatus:
        return False


# Stop


async def test_term_finishes_what_runs_refuses_what_comes_and_closes_with_the_reason(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect() as peer, server.connect() as idle:
        await peer.call("events", "subscribe", ["dispatcher"])
        run = {"action": "exec", "commands": 'sh -c "sleep 1; echo done"'}
        await peer.send({"namespace": "rpc", "name": "dispatcher", "id": "run", "args": run})
        await peer.event(lambda event: event["args"].get("state") == "running")
        server.process.send_signal(signal.SIGTERM)
        await log_line(server, event="stopping", signal="SIGTERM")
        refused = await idle.request("rpc", "query")
        assert refused["args"]["code"] == 503
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", server.ports["listen"])
        reply = await peer.reply("run")
        assert reply["args"]['sh -c "sleep 1; echo done"'] == "done\n"
        for one in (peer, idle):
            with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012
                while True:
                    await one.receive()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the server is stopping")
        assert await server.process.wait() == 0
        assert not (server.state_dir / "sysadmd.sock").exists()
        assert (await log_line(server, event="stopped"))["level"] == "info"


async def test_int_ends_it_like_term_and_a_hup_meanwhile_does_no_harm(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect() as peer:
        await peer.call("events", "subscribe", ["dispatcher"])
        run = {"action": "exec", "commands": "sleep 1"}
        await peer.send({"namespace": "rpc", "name": "dispatcher", "id": "run", "args": run})
        await peer.event(lambda event: event["args"].get("state") == "running")
        server.process.send_signal(signal.SIGINT)
        await log_line(server, event="stopping", signal="SIGINT")
        server.process.send_signal(signal.SIGHUP)
        assert (await peer.reply("run"))["name"] == "response"
        assert await server.process.wait() == 0


# Reload


async def test_hup_applies_what_can_change_names_the_rest_and_survives_a_bad_file(tmp_path: Path) -> None:
    async with running_server(tmp_path, config=CONFIG) as server:
        assert await origin_allowed(server, "https://one.example.net")
        assert await subscribe_twice(server) == 200
        assert not await knows_lane(server, "fast")

        await reload(server, 'origins = "no list"\n')
        refusal = await log_line(server, event="configuration not reloaded")
        assert "origins" in refusal["reason"]
        assert "\n" not in refusal["reason"]
        assert await origin_allowed(server, "https://one.example.net")

        await reload(server, CHANGED)
        await log_line(server, event="configuration", key="log.level", applied=True)
        waits = await log_line(server, event="configuration", key="system_state.interval")
        assert (waits["level"], waits["applied"], waits["new"]) == ("warning", False, "77.0")
        async with asyncio.timeout(10):
            while await origin_allowed(server, "https://one.example.net"):
                await asyncio.sleep(0.02)
        assert await origin_allowed(server, "https://two.example.net")
        assert await subscribe_twice(server) == 429
        assert await knows_lane(server, "fast")


async def test_hup_takes_limits_of_tokens_and_dialects_and_hides_variables(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        config = 'classic = "always"\n[limits]\ntoken_idle = 60\n[dispatcher.variables]\nPKG_TOKEN = "s3cret"\n'
        await reload(server, config)
        line = await log_line(server, event="configuration", key="dispatcher.variables")
        assert "new" not in line
        await log_line(server, event="configuration", key="limits.token_idle", applied=True)
        await asyncio.sleep(0.2)
        async with server.connect(login=None) as peer:
            login = {"namespace": "rpc", "name": "auth", "id": "1"}
            await peer.send({**login, "args": {"username": "admin", "password": "correct horse"}})
            reply = await peer.receive()
            assert reply["args"][1] == 60
            assert list(reply) == ["args", "id", "name", "namespace"]
        assert "s3cret" not in server.log_file.read_text()


# Start


async def serve(*argv: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and standard error of `sysadmd serve` that is expected to end by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sysadmd", "serve", *argv),
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            _, error = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, error.decode()


def plain(state_dir: Path) -> list[str]:
    return ["--state-dir", str(state_dir), "--listen", "127.0.0.1:0", "--rest", "127.0.0.1:0", "--no-tls"]


def one_line(error: str) -> str:
    """The one line that is not the server's own log."""
    (line,) = [line for line in error.splitlines() if not line.startswith("{")]
    return line


async def test_a_second_server_on_a_state_directory_says_so_and_exits_2(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        code, error = await serve(*plain(server.state_dir))
        assert code == 2
        line = one_line(error)
        assert str(server.state_dir) in line
        assert f"is in use by process {server.process.pid}" in line
        async with server.connect() as peer:
            assert await peer.call("rpc", "query")


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.mark.parametrize("flag", ["--listen", "--rest"])
async def test_a_port_in_use_is_one_line_and_exit_2(tmp_path: Path, flag: str) -> None:
    state_dir = tmp_path / "state"
    try:
        with taken_port() as port:
            code, error = await serve(*plain(state_dir), flag, f"127.0.0.1:{port}")
    finally:
        await end_executor(state_dir)
    assert code == 2
    assert "address already in use" in one_line(error).lower()


@pytest.mark.parametrize(
    "config,named",
    [
        ("color = 1\n", "color"),
        ("[listen]\nport = 70000\n", "listen.port = 70000"),
        ("[listen\n", "bad TOML at line 1"),
        ('[listen]\nhost = "192.0.2.1"\ntls = false\n', "listen.tls"),
    ],
)
async def test_a_bad_configuration_is_one_line_with_file_key_and_rule_and_exit_2(
    tmp_path: Path, config: str, named: str
) -> None:
    file = tmp_path / "sysadmd.toml"
    file.write_text(config)
    code, error = await serve("--config", str(file), "--state-dir", str(tmp_path / "state"))
    assert code == 2
    assert len(error.splitlines()) == 1
    assert str(file) in error
    assert named in error


async def test_what_stands_in_the_socket_s_place_is_one_line_and_exit_2(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    (state_dir / "sysadmd.sock").write_text("not a socket")
    try:
        code, error = await serve(*plain(state_dir))
    finally:
        await end_executor(state_dir)
    assert code == 2
    assert "not a socket" in one_line(error)
    assert (state_dir / "sysadmd.sock").read_text() == "not a socket"


async def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await server.end(signal.SIGKILL)
        assert (server.state_dir / "sysadmd.sock").is_socket()
        await server.restart()
        reader, writer = await asyncio.open_unix_connection(server.state_dir / "sysadmd.sock")
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            assert b"426" in await reader.readline()
        writer.close()


# The service manager


@contextlib.asynccontextmanager
async def notified(directory: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """A NOTIFY_SOCKET, and what was sent to it so far."""
    path = directory / "notify"
    messages: list[str] = []

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            messages.append(data.decode())

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(os.fspath(path))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Receiver, sock=sock)
        try:
            yield str(path), messages
        finally:
            transport.close()


async def test_the_service_manager_is_told_of_each_state(tmp_path: Path) -> None:
    async with notified(tmp_path) as (path, messages):
        async with running_server(tmp_path, environ={"NOTIFY_SOCKET": path}) as server:
            assert messages == ["READY=1"]
            server.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(10):
                while len(messages) < 3:
                    await asyncio.sleep(0.02)
            assert await server.end() == 0
        await asyncio.sleep(0)
        assert messages[:3] == ["READY=1", "RELOADING=1", "READY=1"]
        assert set(messages[3:]) == {"STOPPING=1"}


async def test_a_service_manager_that_is_gone_does_not_keep_it_from_serving(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody-there")}
    async with running_server(tmp_path, environ=environ) as server, server.connect() as peer:
        assert await peer.call("rpc", "query")
        assert (await log_line(server, event="the service manager was not told"))["level"] == "warning"


async def test_garbage_is_collected_once_the_server_is_ready(tmp_path: Path) -> None:
    """The start does without."""
    async with running_server(tmp_path) as server, server.connect() as peer:
        before = await collections(server)
        for _ in range(50):
            await peer.call("rpc", "discover")
        assert await collections(server) > before


async def collections(server: RunningServer) -> float:
    """How often the youngest generation was looked at."""
    async with aiohttp.ClientSession() as http, http.get(f"{server.rest_url}/metrics") as response:
        figures = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines() if line[0] != "#")
    return float(figures['python_gc_collections_total{generation="0"}'])
