"""Tasks that tests run in child processes: each does one thing that a task may do, or should not."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sysadmd.jobs.tasks import current, defer, logger, progress, task

STUBBORN = "trap '' TERM; while :; do sleep 1000; done"


def noop() -> None:
    pass


def returns(value: Any = None) -> Any:
    return value


def returns_an_object() -> object:
    return object()


def speaks() -> None:
    print("from print")  # noqa: T201
    sys.stderr.write("from stderr\n")
    logger.info("from the logger")
    os.write(1, b"from descriptor 1\n")
    subprocess.run(["echo", "from a grandchild"], check=True)


def fails(message: str = "no") -> None:
    raise ValueError(message)


class BrokenText(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def fails_without_text() -> None:
    raise BrokenText


def exits(code: int) -> None:
    sys.exit(code)


def dies(code: int = 3) -> None:
    os._exit(code)


def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def defers(reason: str = "not yet", delay: float | None = None) -> None:
    defer(reason, delay)


def who() -> dict[str, Any]:
    found = current()
    assert found is not None
    return {"job": found.job_id, "name": found.name, "attempt": found.attempt, "owner": found.owner}


def identity() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "cwd": str(Path.cwd()),
        "environ": dict(os.environ),
        "stdin": sys.stdin.read(),
    }


def descriptors() -> list[str]:
    """What the open descriptors from 3 on are."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) > 2:
            with contextlib.suppress(OSError):
                found.append(str(entry.readlink()))
    return found


def disturbs() -> None:
    os.chdir("/tmp")
    os.environ["LEFT_BEHIND"] = "1"
    os.umask(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdout = None


def state() -> dict[str, Any]:
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "cwd": str(Path.cwd()),
        "left": "LEFT_BEHIND" in os.environ,
        "umask": mask,
        "ignores": signal.getsignal(signal.SIGTERM) is signal.SIG_IGN,
    }


def reports(values: list[float]) -> None:
    for value in values:
        progress(value, f"at {value}")


def reports_then_waits(path: str) -> None:
    progress(0.1)
    progress(0.2, "last word")
    waits(path)


def waits(path: str) -> None:
    """Until the file is there."""
    while not Path(path).exists():
        time.sleep(0.01)


def sleeps(seconds: float = 1000.0, mark: str | None = None, after: str | None = None) -> None:
    """`mark` is made before, `after` in a `finally`."""
    if mark is not None:
        Path(mark).write_text(str(os.getpid()))
    try:
        time.sleep(seconds)
    finally:
        if after is not None:
            Path(after).write_text("cleaned up")


def ignores_term(mark: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(mark).write_text(str(os.getpid()))
    time.sleep(1000)


def has_stubborn_children(mark: str) -> None:
    """Two generations below it ignore TERM, too."""
    child = subprocess.Popen(["sh", "-c", f"sh -c \"{STUBBORN}\" & echo $! > '{mark}.part'; {STUBBORN}"])
    while not Path(f"{mark}.part").exists() or not Path(f"{mark}.part").read_text().strip():
        time.sleep(0.01)
    Path(mark).write_text(f"{os.getpid()} {child.pid} {Path(f'{mark}.part').read_text().strip()}")
    time.sleep(1000)


def leaves_a_process(mark: str) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    Path(mark).write_text(str(child.pid))


def leaves_an_orphan(mark: str) -> None:
    """Its parent ends at once."""
    subprocess.run(["sh", "-c", f"sleep 1000 & echo $! > '{mark}'"], check=True)


def leaves_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


def forks_and_dies(mark: str) -> None:
    """The fork holds every descriptor open, the socket to the pool too."""
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
    Path(mark).write_text(str(pid))
    os._exit(7)


def writes_garbage() -> None:
    """To every socket that it finds."""
    import socket

    for entry in Path("/proc/self/fd").iterdir():
        try:
            found = socket.socket(fileno=os.dup(int(entry.name)))
            found.sendall(b"\xff" * 64)
        except OSError:
            continue
    time.sleep(1000)


def floods(size: int) -> None:
    block = b"x" * 65536
    for _ in range(size // len(block)):
        os.write(1, block)
    time.sleep(1000)


def hangs_in_c() -> None:
    """Holding the interpreter, so that no handler and no thread of Python's runs."""
    ctypes.PyDLL(None).usleep(2**31 - 1)


def counts(path: str) -> None:
    """One line for each execution; O_APPEND makes each whole."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")


def begins_and_ends(path: str, number: int, seconds: float = 0.2) -> None:
    """A line at the beginning, and one at the end."""
    for line in (f"begin {number}\n", f"end {number}\n"):
        with Path(path).open("a") as file:
            file.write(line)
        time.sleep(seconds if line.startswith("begin") else 0)


def survives(place: str, plan: str, ballast: str = "") -> None:
    """One line in a file for each thing that it does. It says so when another execution of its job runs beside it."""
    mine = current()
    assert mine is not None

    def note(what: str) -> None:
        file = os.open(f"{place}/notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(file, f"{mine.job_id} {mine.attempt} {what}\n".encode())
        os.close(file)

    lock = os.open(f"{place}/{mine.job_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("beside")
    try:
        note("begin")
        _follow(plan, mine.attempt)
        note("end")
    finally:
        os.close(lock)


def _follow(plan: str, attempt: int) -> None:
    if plan == "fails" or (plan == "fails_first" and attempt < 3):
        raise ValueError(plan)
    if plan == "defers" and attempt < 3:
        defer(plan, 0.2)
    if plan == "leaves":
        subprocess.Popen(["sleep", "1000"])
    for step in range(8 if plan in {"sleeps", "leaves"} else 0):
        progress(step / 8)
        time.sleep(0.1)


def fails_first(path: str) -> str:
    counts(path)
    if len(Path(path).read_text().splitlines()) < 2:
        raise ValueError("the first time")
    return "the second time"


async def asynchronous() -> str:
    await asyncio.sleep(0)
    return "done"


@task(attempts=3, error_time=0.5, max_parallel=1)
def settled(where: str, *, often: int = 1) -> None:
    """A task with settings."""


class Job:
    """A class as a task."""

    attempts = 2
    schedule = "*/5 * * * *"
    author = "somebody"

    def execute(self, name: str = "nobody", **more: Any) -> dict[str, Any]:
        return {"name": name, **more}


class Inherits(Job):
    """It has the attempts of its parent and not its schedule."""


class NoJob:
    """A class without execute."""


not_callable = 7
