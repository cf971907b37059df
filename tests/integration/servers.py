"""A real server process for tests: its own state directory, its own ports, real TLS where asked."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

START_TIMEOUT = 20.0
PASSWORD = "correct horse"


class Peer:
    """A WebSocket client that speaks raw JSON: what is sent and received is exactly what a test says."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self._replies: dict[Any, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    async def send(self, message: Any) -> None:
        await self.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def receive(self, timeout: float = 10.0) -> dict[str, Any]:
        async with asyncio.timeout(timeout):
            message: dict[str, Any] = json.loads(await self.connection.recv())
            return message

    async def request(self, namespace: str, name: str, args: Any = None, **extra: Any) -> dict[str, Any]:
        """Send a documented envelope and return the whole reply; events that come before it are kept."""
        request_id = f"t{next(self._ids)}"
        envelope = {"namespace": namespace, "name": name, "id": request_id, "args": {} if args is None else args}
        await self.send({**envelope, **extra})
        return await self.reply(request_id)

    async def reply(self, request_id: Any, timeout: float = 10.0) -> dict[str, Any]:
        while request_id not in self._replies:
            self._sort(await self.receive(timeout))
        return self._replies.pop(request_id)

    async def call(self, namespace: str, name: str, args: Any = None) -> Any:
        """Like `request`, but the args of a success reply."""
        reply = await self.request(namespace, name, args)
        assert reply["name"] == "response", reply
        return reply["args"]

    async def login(self, name: str = "admin", password: str = PASSWORD) -> str:
        token, seconds = await self.call("rpc", "auth", {"username": name, "password": password})
        assert seconds == 900
        return str(token)

    async def event(self, wanted: Callable[[dict[str, Any]], bool], timeout: float = 10.0) -> dict[str, Any]:
        """The next event that is wanted, from those kept or those to come; earlier ones are dropped."""
        async with asyncio.timeout(timeout):
            while True:
                while self.events:
                    event = self.events.pop(0)
                    if wanted(event):
                        return event
                self._sort(await self.receive(timeout))

    def _sort(self, message: dict[str, Any]) -> None:
        if message.get("namespace") == "events" and message.get("name") not in {"response", "error"}:
            self.events.append(message)
        else:
            self._replies[message.get("id")] = message


@dataclass
class RunningServer:
    """A server process that is ready."""

    state_dir: Path
    argv: list[str]
    env: dict[str, str]
    process: asyncio.subprocess.Process
    ports: dict[str, int] = field(default_factory=dict)
    tls: bool = False
    log_start: int = 0

    @property
    def log_file(self) -> Path:
        """Standard error: a file, since the executor keeps it open after the server's end."""
        return self.state_dir.with_name("server.log")

    @property
    def url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.ports['listen']}/"

    @property
    def rest_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.ports['rest']}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Trusts the server's own certificate, and checks the name."""
        if not self.tls:
            return None
        return ssl.create_default_context(cafile=str(self.state_dir / "server.crt"))

    @contextlib.asynccontextmanager
    async def connect(self, login: str | None = "admin", **options: Any) -> AsyncIterator[Peer]:
        async with connect(self.url, ssl=self.ssl_context(), compression=None, max_size=None, **options) as connection:
            peer = Peer(connection)
            if login is not None:
                await peer.login(login)
            yield peer

    async def wait_ready(self) -> None:
        """Wait for the log line that names the addresses; `log` is where this run's lines begin."""
        addresses = None
        async with asyncio.timeout(START_TIMEOUT):
            while addresses is None:
                addresses = next((line for line in self.log_lines() if line.get("event") == "ready"), None)
                if addresses is None:
                    assert self.process.returncode is None, "the server did not start:\n" + self.log_file.read_text()
                    await asyncio.sleep(0.02)
        self.ports = {"listen": addresses["listen"][0][1]}
        if addresses["rest"]:
            self.ports["rest"] = addresses["rest"][0][1]

    def log_lines(self) -> list[dict[str, Any]]:
        """What this run of the server has logged; the executor's lines are not JSON and left out."""
        lines = self.log_file.read_text(errors="replace")[self.log_start :].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the server and wait for its end."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(START_TIMEOUT):
            return await self.process.wait()

    async def restart(self) -> None:
        """Start another server on the same state directory, after `end`."""
        self.log_start = len(self.log_file.read_text(errors="replace"))
        self.process = await _spawn(self.argv, self.env, self.log_file)
        self.ports = {}
        await self.wait_ready()


@contextlib.asynccontextmanager
async def running_server(
    directory: Path,
    *,
    tls: bool = False,
    config: str = "",
    accounts: Mapping[str, tuple[str, ...]] | None = None,
    environ: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> AsyncIterator[RunningServer]:
    """Start `sysadmd serve` with its state below `directory`; at the end stop it and the executor that it started.

    `prefix` is a command that executes it, on another host of a network, say.
    """
    state_dir = directory / "state"
    env = {**os.environ, **(environ or {}), "SYSADMD_STATE_DIR": str(state_dir)}
    for name, roles in (accounts or {"admin": ("admin",)}).items():
        await add_account(env, name, roles)
    config_file = directory / "sysadmd.toml"
    if os.geteuid() == 0 and "[jobs]" not in config:
        config += '\n[jobs]\nuser = "root"\n'  # `nobody` cannot read what a test of root's makes
    config_file.write_text(config)
    argv = [*prefix, sys.executable, "-m", "sysadmd", "serve", "--config", str(config_file)]
    argv += ["--state-dir", str(state_dir)]
    argv += ["--listen", "127.0.0.1:0", "--rest", "127.0.0.1:0", *([] if tls else ["--no-tls"])]
    server = RunningServer(state_dir, argv, env, await _spawn(argv, env, directory / "server.log"), tls=tls)
    try:
        await server.wait_ready()
        yield server
    finally:
        if server.process.returncode is None:
            await server.end()
        await end_executor(state_dir)


async def add_account(env: Mapping[str, str], name: str, roles: tuple[str, ...], password: str = PASSWORD) -> None:
    options = [option for role in roles for option in ("--role", role)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sysadmd", "user", "add", name, *options, "--password-stdin"),
        env=dict(env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate(password.encode())
    assert process.returncode == 0, out.decode()


async def end_executor(state_dir: Path) -> None:
    """The executor outlives its server on purpose; a test ends the one of its own state directory."""
    for pid in executors_of(state_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    for _ in range(200):
        if not executors_of(state_dir):
            return
        await asyncio.sleep(0.05)
    for pid in executors_of(state_dir):
        os.kill(pid, signal.SIGKILL)


def executors_of(state_dir: Path) -> list[int]:
    """Process ids of the executors that run on this state directory, by their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes().split(b"\0")
                if b"sysadmd.executor" in argv and os.fsencode(state_dir) in argv:
                    found.append(int(entry.name))
    return found


async def _spawn(argv: list[str], env: Mapping[str, str], log: Path) -> asyncio.subprocess.Process:
    with log.open("ab") as stderr:
        return await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
