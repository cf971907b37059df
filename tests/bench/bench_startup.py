"""How long a command and a server take to be of use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.bench.harness import OURS, BenchError, bench

START_TIMEOUT = 30.0
# The command as it is installed: the entry point's own imports are part of what a user waits for.
SYSADMD = [str(Path(sys.executable).with_name("sysadmd"))]


@bench(
    "startup.help",
    title="`sysadmd --help`; beside it a Python that does nothing",
    unit="s",
    ceiling=0.15,
    baseline=True,
    higher_is_better=False,
)
def command_help(side: str) -> float:
    argv = [*SYSADMD, "--help"] if side == OURS else [sys.executable, "-c", "pass"]
    # The first run reads the files from disk and compiles them; a user meets that once.
    for _ in range(2):
        started = time.perf_counter()
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        taken = time.perf_counter() - started
    return taken


@bench("startup.ready", title="`sysadmd serve`, warm, until it answers", unit="s", ceiling=1.0, higher_is_better=False)
def server_ready(side: str) -> float:
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "state"
        try:
            # The first start makes a key, a certificate and a database, and starts the executor, which stays.
            start_and_stop(state)
            return start_and_stop(state)
        finally:
            end_executor(state)


def start_and_stop(state: Path) -> float:
    """Seconds from the start of a server to its READY=1 (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        address = state.with_name("notify")
        address.unlink(missing_ok=True)
        notified.bind(str(address))
        notified.settimeout(0.5)
        started = time.perf_counter()
        process = spawn(state, {**os.environ, "NOTIFY_SOCKET": str(address)})
        try:
            wait_ready(process, notified, started + START_TIMEOUT, log_of(state))
            return time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START_TIMEOUT)


def wait_ready(process: subprocess.Popen[bytes], notified: socket.socket, deadline: float, log: Path) -> None:
    """Return when the server says READY=1. Raises `BenchError` when it ends instead, or the deadline passes."""
    while True:
        try:
            if b"READY=1" in notified.recv(4096):
                return
        except TimeoutError:
            if process.poll() is not None:
                said = log.read_text().splitlines() or ["nothing"]
                raise BenchError(f"the server ended with {process.returncode}: {said[-1]}") from None
            if time.perf_counter() > deadline:
                raise BenchError(f"not ready after {START_TIMEOUT:g} s") from None


def spawn(state: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A server with TLS on free ports of loopback."""
    argv = [*SYSADMD, "serve", "--state-dir", str(state), "--listen", "127.0.0.1:0", "--rest", "127.0.0.1:0"]
    with log_of(state).open("wb") as log:
        # A file and no pipe: the executor inherits it, and would keep a pipe open after the server's end.
        return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def log_of(state: Path) -> Path:
    """What the server of the last start said."""
    return state.with_name("log")


def end_executor(state: Path) -> None:
    """End the executor that the server has started, and wait until it is gone."""
    from tests.integration.servers import executors_of

    for pid in executors_of(state):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + START_TIMEOUT
    while executors_of(state) and time.monotonic() < deadline:
        time.sleep(0.02)
