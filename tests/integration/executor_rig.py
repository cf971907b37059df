"""A real executor in a process of its own, and a server's end of its connection that remembers every frame."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from sysadmd.errors import ExecutorError
from sysadmd.executor.protocol import (
    PROTOCOL,
    Ack,
    Channel,
    ErrorFrame,
    ExecutorHello,
    Exit,
    Frame,
    FromExecutor,
    List,
    Listing,
    ServerHello,
    Start,
    Started,
    ToExecutor,
    connect,
    socket_path,
)

DEADLINE = 20.0
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}

F = TypeVar("F", bound=Frame)


async def until(condition: Callable[[], bool], what: str = "a condition") -> None:
    """Wait until `condition()`, at most `DEADLINE` seconds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"waited {DEADLINE:g} s for {what}"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether `pid` runs: it exists and is no zombie that a lazy first process has yet to reap."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rfind(b")") + 2 : stat.rfind(b")") + 3] != b"Z"


class Server:
    """The server's end of one connection."""

    def __init__(self, state: Path) -> None:
        self.output = state.parent
        self.frames: list[ToExecutor | FromExecutor] = []
        self.closed: list[ExecutorError | None] = []
        self._ids = itertools.count(1)
        self._heard = asyncio.Event()
        self.channel = Channel(
            connect(socket_path(state)), "server", on_frame=self._on_frame, on_close=self.closed.append
        )

    def _on_frame(self, frame: ToExecutor | FromExecutor, descriptor: int | None) -> None:
        assert descriptor is None
        self.frames.append(frame)
        self._heard.set()

    async def expect(self, kind: type[F], match: Callable[[F], bool] = lambda frame: True, *, after: int = 0) -> F:
        """The first frame of that kind that matches, from the `after`th frame on; waits for it."""
        end = time.monotonic() + DEADLINE
        while True:
            for frame in self.frames[after:]:
                if isinstance(frame, kind) and match(frame):
                    return frame
            self._heard.clear()
            assert time.monotonic() < end, f"no {kind.__name__} came in {DEADLINE:g} s; there are {self.frames[-5:]}"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), 1.0)

    async def hello(self, proto: int = PROTOCOL) -> ExecutorHello:
        """Become the authority."""
        self.channel.send(ServerHello(proto, "test"))
        return await self.expect(ExecutorHello)

    def start(self, *argv: str, attempt: str | None = None, output: Path | None = None, **keywords: Any) -> str:
        """Send a `Start`; the output goes to `output`, by default a file named like the attempt."""
        attempt = attempt or f"a{next(self._ids)}"
        path = output or self.output / attempt
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        keywords = {"env": ENVIRONMENT, "lease": f"lease of {attempt}"} | keywords
        self.channel.send(Start(attempt=attempt, argv=list(argv), **keywords), descriptor)
        return attempt

    async def started(self, attempt: str) -> Started:
        """Its `Started`."""
        return await self.expect(Started, lambda frame: frame.attempt == attempt)

    async def exit(self, attempt: str, *, ack: bool = True) -> Exit:
        """Its `Exit`, acknowledged unless told otherwise."""
        ended = await self.expect(Exit, lambda frame: frame.attempt == attempt)
        if ack:
            self.channel.send(Ack(attempt))
        return ended

    async def run(self, *argv: str, **keywords: Any) -> tuple[Exit, bytes]:
        """Run to the end; the exit and the output."""
        attempt = self.start(*argv, **keywords)
        ended = await self.exit(attempt)
        return ended, (self.output / attempt).read_bytes()

    async def listing(self) -> Listing:
        """A fresh `Listing`."""
        after = len(self.frames)
        self.channel.send(List())
        return await self.expect(Listing, after=after)

    async def error(self, code: str) -> ErrorFrame:
        """An `ErrorFrame` with that code."""
        return await self.expect(ErrorFrame, lambda frame: frame.code == code)


class Rig:
    """One executor process over one state directory; `launch` again after it ended."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.log_path = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The executor's process id."""
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        """What it logged."""
        return self.log_path.read_text()

    async def launch(self, stderr: int | None = None) -> None:
        """Start it and wait until it answers."""
        argv = [sys.executable, "-m", "sysadmd.executor", "--state-dir", str(self.state)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(argv, stderr=log if stderr is None else stderr)
        await until(self._answers, "the executor to answer")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the executor ended: {self.log()}"
        try:
            connect(socket_path(self.state)).close()
        except ExecutorError:
            return False
        return True

    async def wait(self) -> int:
        """Its exit status."""
        process = self.process
        assert process is not None
        await until(lambda: process.poll() is not None, "the executor to end")
        return process.returncode

    async def kill(self) -> None:
        """kill -9."""
        os.kill(self.pid, signal.SIGKILL)
        await self.wait()

    def descriptors(self) -> int:
        """How many it has open."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    @contextlib.asynccontextmanager
    async def server(self, *, hello: bool = True) -> AsyncIterator[Server]:
        """A connection to it."""
        server = Server(self.state)
        try:
            if hello:
                await server.hello()
            yield server
        finally:
            server.channel.close()
            await asyncio.sleep(0)

    def stop(self) -> None:
        """End it and what it runs, now."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)


@contextlib.asynccontextmanager
async def executor(directory: Path) -> AsyncIterator[Rig]:
    """A running executor with its state in `directory`/state."""
    rig = Rig(directory)
    try:
        await rig.launch()
        yield rig
    finally:
        rig.stop()
