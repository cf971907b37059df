"""The executor as a program: one for each state directory, in the foreground or detached."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sysadmd.errors import ExecutorError, StateError, SysadmdError
from sysadmd.executor import process
from sysadmd.executor.channel import listen
from sysadmd.executor.home import Home, prepare_home
from sysadmd.executor.log import Log
from sysadmd.executor.orphans import end_orphans
from sysadmd.executor.records import Records
from sysadmd.executor.service import Service


def main(directory: Path, *, server_user: str | None = None, log_file: Path | None = None, detach: bool = False) -> int:
    """Run the executor of `directory` until it is drained; return the exit status of the process.

    `directory` is the state directory of a server of our own user, or, with `server_user`, one of root's (home.py).
    Logs to `log_file`, or stderr. With `detach` it returns 0 as soon as connections are accepted, and the executor goes
    on in a process and session of its own. Raises StateError when another one has the directory, ExecutorError when the
    socket or the journal cannot be made.
    """
    try:
        _fill_standard_descriptors()
        home = prepare_home(directory, server_user)
        log = Log(log_file.absolute() if log_file else None)
        lock = _lock(home)
        instance, boot_id = secrets.token_hex(16), process.boot_id()
        records = _take_over(home.journal, instance, boot_id, log)
        listener = listen(home.socket, home.owner)
    except OSError as error:
        raise ExecutorError(f"cannot start the executor in {directory}: {error}") from None
    if detach and os.fork():
        return 0
    _settle(detach=detach)
    service = functools.partial(
        Service, listener, records, peers=home.peers, instance=instance, boot_id=boot_id, log=log
    )
    log(f"ready: instance={instance} boot_id={boot_id} socket={home.socket}")
    try:
        asyncio.run(_serve(service, log))
    finally:
        home.socket.unlink(missing_ok=True)
        listener.close()
        records.close()
        log("ended")
        os.close(lock)
    return 0


async def _serve(make: Callable[[], Service], log: Log) -> None:
    service = make()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, service.attempts.reap)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: service.drain(stop=True))
    loop.add_signal_handler(signal.SIGHUP, lambda: log("HUP: nothing to read again"))
    _notify_ready(log)
    await service.run()


def _fill_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed, or the journal could become what stderr writes to."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest free number is taken
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _lock(home: Home) -> int:
    """Be the one executor of the directory, for as long as the descriptor lives. Raises StateError."""
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StateError(f"another executor runs in {home.directory}") from None
    return descriptor


def _take_over(journal: Path, instance: str, boot_id: str, log: Log) -> Records:
    """The records of the executor before this one, with its orphans ended."""
    records = Records(journal, log, time.monotonic)
    before = records.load()
    same_boot = before is not None and before.boot_id == boot_id != "unknown"
    lost = end_orphans(list(records.live.values()), same_boot=same_boot, now=time.time(), log=log)
    records.begin(instance, boot_id, lost)
    return records


def _settle(*, detach: bool) -> None:
    """Give the process the habits that its children inherit: umask, working directory, signals, no terminal."""
    if detach:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)
    os.umask(0o022)
    os.chdir("/")  # pin no file system
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals():
        # exec(2) keeps what is ignored. SIGPIPE and SIGXFSZ, which Python ignores, Popen resets in the child.
        if signal.getsignal(number) is signal.SIG_IGN and number not in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)


def _notify_ready(log: Log) -> None:
    """Tell systemd, where it asked (sd_notify(3)): a unit that starts after this one finds the socket there."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect(f"\0{address[1:]}" if address.startswith("@") else address)
                sock.send(b"READY=1")
            except OSError as error:
                log(f"cannot tell systemd that the executor is ready: {error.strerror}")


def command(arguments: list[str]) -> int:
    """`python -m sysadmd.executor`: parse, run, and turn an error into one line and exit status 1."""
    import argparse  # not needed by the `sysadmd executor` command, which has its own parser

    parser = argparse.ArgumentParser(prog="python -m sysadmd.executor", description="Spawn commands for sysadmd.")
    parser.add_argument("--state-dir", type=Path, required=True, help="directory of the socket and the journal")
    parser.add_argument("--log", type=Path, help="file to log to, instead of stderr")
    parser.add_argument("--detach", action="store_true", help="go to the background when ready")
    chosen = parser.parse_args(arguments)
    try:
        return main(chosen.state_dir, log_file=chosen.log, detach=chosen.detach)
    except SysadmdError as error:
        sys.stderr.write(f"sysadmd executor: {error}\n")
        return 1
