"""The second thread of a child process: it sends what is sent, and ends the attempt when nobody is left to send it to.

Also here: what of a task's own processes is left when it is over.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time

from sysadmd.jobs.tasks.frames import Progress, encode

INTERVAL = 0.25
"""Seconds between two frames of progress: one more is only remembered, and the last one is always sent."""
ORPHAN_GRACE = 5.0
"""From TERM to KILL when the pool is gone."""

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_P_PID, _PROC_REAP_ACQUIRE = 0, 2  # sys/wait.h and sys/procctl.h of FreeBSD


class Watch:
    """The sending end of the socket, and the look-out for the end of the pool."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._pid = sock, os.getpid()
        self._lock = threading.Lock()
        self._runs = self._orphaned = False
        self._waiting: Progress | None = None
        self._sent_at = 0.0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def start(self) -> None:
        """Start the thread. It ends with the process."""
        threading.Thread(target=self._look, name="sysadmd-watch", daemon=True).start()

    def attempt_runs(self, runs: bool) -> None:  # noqa: FBT001 - the two cases are one switch
        """Whether an attempt runs: without one the end of the pool is noticed by whoever waits for orders."""
        with self._lock:
            self._runs, self._waiting, self._sent_at = runs, None, 0.0
        if runs and self._orphaned:  # the order was the last thing that the pool said
            self._wake()

    def send(self, data: bytes) -> None:
        """Send a frame; what waits of the progress is overtaken by it. Raises OSError."""
        with self._lock:
            self._sock.sendall(data)

    def progress(self, value: float, message: str | None) -> None:
        """Send it, or remember it for the next time that something may be sent."""
        if os.getpid() != self._pid:
            return  # a fork of the task: the socket is not for it
        with self._lock:
            if not self._runs:
                return
            idle, self._waiting = self._waiting is None, Progress(value, message)
            if time.monotonic() - self._sent_at >= INTERVAL:
                self._send_progress()
            elif idle:
                self._wake()

    def _send_progress(self) -> None:
        """With the lock held."""
        found, self._waiting = self._waiting, None
        if found is not None:
            self._sent_at = time.monotonic()
            with contextlib.suppress(OSError):  # the pool is gone, which `_look` sees
                self._sock.sendall(encode(found))

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    def _look(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.register(self._sock, 0)  # only its end: who reads is the main thread
        while True:
            with self._lock:
                wait = None if self._waiting is None else max(0.0, self._sent_at + INTERVAL - time.monotonic())
            ready = dict(poll.poll(None if wait is None else wait * 1000 + 1))
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            if self._sock.fileno() in ready:
                self._orphaned = True
                poll.unregister(self._sock)
            if self._orphaned and self._runs:
                self._end_group()
            with self._lock:
                if self._waiting is not None and time.monotonic() - self._sent_at >= INTERVAL:
                    self._send_progress()

    def _end_group(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGTERM)
        time.sleep(ORPHAN_GRACE)
        os.killpg(0, signal.SIGKILL)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends, so that none can be overlooked.

    Where the system does not know of that, such a one is found only in the group.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        if sys.platform.startswith("linux"):
            library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        else:
            library.procctl(_P_PID, ctypes.c_int64(0), _PROC_REAP_ACQUIRE, None)


def has_children() -> bool:
    """Whether any process that the task started, or one of theirs, is left."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except AttributeError:
        return True
    return True
