"""One server, or one offline command, for each state directory.

The lock is a flock(2) on `<state>/lock`. The kernel drops it with the last descriptor, however the holder dies, so
there is no stale lock to clean up; the process id in the file is for people and for error texts, nothing is decided
by it. The descriptor is close-on-exec (PEP 446): a command or an executor that a holder starts does not keep the
directory locked.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from sysadmd.errors import StateError

POLL_INTERVAL = 0.05
"""Seconds between two attempts of `acquire(wait=...)`: flock(2) has no timeout of its own."""


def prepare_state_dir(state_dir: Path) -> None:
    """Make the state directory with mode 0700 where it is missing; raise `StateError` when it cannot be trusted.

    It holds password hashes and private keys: another owner, or a directory that others may write, is refused.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = state_dir.stat()
    except OSError as error:
        raise StateError(f"state directory {state_dir}: {error.strerror or error}") from error
    if found.st_uid != os.geteuid():
        raise StateError(
            f"state directory {state_dir} belongs to uid {found.st_uid}, this process runs as {os.geteuid()}"
        )
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise StateError(
            f"state directory {state_dir} may be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
        )


class StateLock:
    """The lock of a state directory. Use `with StateLock(directory):`, or `acquire` and `release`."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.path = state_dir / "lock"
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def acquire(self, *, wait: float = 0.0) -> None:
        """Prepare the directory and take its lock; raise `StateError` when somebody else still has it after `wait`
        seconds.
        """
        if self.held:
            raise AssertionError(f"{self.path} is held by this object already")
        prepare_state_dir(self.state_dir)
        fd = self._open()
        deadline = time.monotonic() + wait
        while not _try_lock(fd):
            if time.monotonic() >= deadline:
                holder = self.holder()
                os.close(fd)
                who = f" by process {holder}" if holder else ""
                raise StateError(f"state directory {self.state_dir} is in use{who}")
            time.sleep(POLL_INTERVAL)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the lock back. Idempotent. The file stays: without it two holders could lock two different files."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def holder(self) -> int | None:
        """The process id that the last holder wrote, or None."""
        try:
            text = self.path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return int(text) if text.isdigit() else None

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
