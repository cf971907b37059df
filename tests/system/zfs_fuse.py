"""A real ZFS without a kernel module: one `zfs-fuse` in the foreground, and pools on files.

The daemon has one socket for the whole machine, so at most one runs: a file lock keeps other workers and other test
runs out, and a daemon that is there already is used and left running. (An xdist group would not do: pytest-xdist 3.8
ignores groups under pytest 9.2, its issue 1386.) It starts in a third of a second, so each test has its own.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SOCKET = Path("/var/run/zfs/zfs_socket")
LOCK = Path("/tmp/sysadmd-tests-zfs-fuse.lock")  # one name for every test run on the machine
PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_numbers = itertools.count(1)


def why_not() -> str | None:
    """Why this machine cannot run it; None when it can."""
    if os.geteuid() != 0:
        return "zfs-fuse needs root to mount"
    if not shutil.which("zfs-fuse", path=PATH):
        return "the Debian package zfs-fuse is not installed (apt-get install zfs-fuse)"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "zfs-fuse needs /dev/fuse, which is not here"
    return None


BUSY = 10.0
"""Seconds that a pool may be busy."""


def run(*argv: str, check: bool = True) -> str:
    """One command of ZFS; its standard output."""
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=20, env={"PATH": PATH, "LC_ALL": "C"}, check=False
    )
    if check and done.returncode:
        raise RuntimeError(f"{argv}: {done.stdout}{done.stderr}")
    return done.stdout


@dataclass
class ZfsFuse:
    """The running daemon. `process` is None for one that was running before us."""

    process: subprocess.Popen[bytes] | None
    pools: list[str] = field(default_factory=list)

    def pool(self, directory: Path, *, size: int = 128, mirror: bool = False) -> str:
        """A new pool on files of `size` MiB in `directory`, mounted at `directory`/mnt."""
        name = f"sysadmd{os.getpid()}n{next(_numbers)}"
        disks = [directory / f"{name}.{number}" for number in range(2 if mirror else 1)]
        for disk in disks:
            with disk.open("wb") as file:
                file.truncate(size * 1024 * 1024)
        layout = ["mirror"] if mirror else []
        # Not in the cache file: a daemon started later would look for disks that are gone.
        mount = ["-o", "cachefile=none", "-m", str(directory / "mnt")]
        run("zpool", "create", *mount, name, *layout, *map(str, disks))
        self.pools.append(name)
        return name

    def destroy(self, name: str) -> None:
        """End a pool. It is busy while somebody asks for it, such as the server of another test on this machine."""
        deadline = time.monotonic() + BUSY
        while True:
            try:
                run("zpool", "destroy", "-f", name)
                break
            except RuntimeError as error:
                if "busy" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self.pools.remove(name)


@contextmanager
def zfs_fuse(log: Path) -> Iterator[ZfsFuse]:
    """A running daemon; ends it, and every pool made here, at the end. Raises TimeoutError when it does not start."""
    with LOCK.open("w") as lock:
        _wait(lambda: _locked(lock.fileno()), 50, "another test run holds zfs-fuse")
        daemon = ZfsFuse(None if _answers() else _start(log))
        try:
            _wait(_answers, 20, f"zfs-fuse does not answer; see {log}")
            yield daemon
        finally:
            for name in list(daemon.pools):
                run("zpool", "destroy", "-f", name, check=False)
            if daemon.process is not None:
                # On SIGTERM it thinks for three seconds; there is no pool left that could come to harm.
                daemon.process.kill()
                daemon.process.wait(10)
                SOCKET.unlink(missing_ok=True)


def _start(log: Path) -> subprocess.Popen[bytes]:
    SOCKET.unlink(missing_ok=True)  # a daemon that was killed leaves it behind
    with log.open("wb") as output:
        return subprocess.Popen(
            ["zfs-fuse", "-n", "--no-kstat-mount"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={"PATH": PATH}, start_new_session=True,
        )  # fmt: skip


def _answers() -> bool:
    if not SOCKET.exists():
        return False
    try:
        run("zpool", "list", "-H")
    except (RuntimeError, subprocess.TimeoutExpired):
        return False
    return True


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what} (waited {seconds:g} s)")
        time.sleep(0.05)
