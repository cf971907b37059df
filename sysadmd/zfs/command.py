"""One read-only command line tool, run through `sh`.

The danger here is a pool that is suspended: `zpool list` then waits for ever in the kernel, where no signal reaches it.
So a query has a deadline, at which its process group is killed; and when even that does not end it, the process is left
to the kernel and remembered: until it is gone, the next query fails at once instead of adding a second stuck process.

`sh` blocks, so a query runs in a worker thread. It is started in the background and polled there, because the wait of
`sh` would hold the thread, and with it the exit of the server, for as long as the kernel holds the process.

What `sh` does by default and we do not want: a terminal as stdout (column layout, line ends), three million buffered
chunks per stream, our environment, a thread that feeds standard input.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from sysadmd.errors import ZfsError

SEARCH = ("/sbin", "/usr/sbin", "/usr/local/sbin", "/bin", "/usr/bin", "/usr/local/bin")
"""Where a command given by its bare name is looked for, and the PATH that it gets."""

OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of one answer: `zfs list` of half a million snapshots; more is a defect or an attack on our memory."""

ERROR_LIMIT = 300
"""Characters of an error text that are kept: zpool adds its whole usage to a bad option."""

_KILL_WAIT = 1.0
_FIRST_PAUSE, _LAST_PAUSE = 0.002, 0.05


class CommandFailed(ZfsError):
    """The command ran and refused. `reason` is the start of what it wrote to standard error."""

    def __init__(self, program: str, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(f"{program}: {reason or 'no error text'} (exit status {status})")


class _Collector:
    """Takes the lines of one stream as they come, up to a limit; `sh` calls it in a thread of its own."""

    def __init__(self, limit: int) -> None:
        self._lines: list[str] = []
        self._limit, self._size = limit, 0

    def __call__(self, line: str) -> None:
        self._size += len(line)
        if self._size <= self._limit:
            self._lines.append(line)

    @property
    def overflowed(self) -> bool:
        return self._size > self._limit

    def text(self) -> str:
        return "".join(self._lines)


class Command:
    """One program, asked one question at a time. `program` is a path, or a name to be found in `SEARCH`."""

    def __init__(self, program: Path | str, *, timeout: float = 10.0, output_limit: int = OUTPUT_LIMIT) -> None:
        self._program = str(program)
        self._timeout, self._output_limit = timeout, output_limit
        self._one = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(1)
        self._left: threading.Event | None = None
        self._stuck: Any = None

    def find(self) -> Path | None:
        """The program's path; None where it is not installed. Looked up each time: ZFS may be installed later."""
        found = shutil.which(self._program, path=os.pathsep.join(SEARCH))
        return Path(found) if found else None

    async def run(self, *argv: str) -> str:
        """Standard output of the program with these arguments. Raises CommandFailed, ZfsError when it did not end."""
        path = self.find()
        if path is None:
            raise ZfsError(f"{self._program}: not found or not executable")
        self._refuse_behind_stuck()
        # The deadline of the wait for the one before us; our own run has its own.
        with anyio.move_on_after(self._timeout) as waiting:
            await self._one.acquire()
        if waiting.cancelled_caught:
            raise ZfsError(f"{self._program}: other queries kept it busy for {self._timeout:g} s")
        try:
            await self._await_abandoned()
            self._refuse_behind_stuck()
            return await self._in_thread(path, argv)
        finally:
            self._one.release()

    def _refuse_behind_stuck(self) -> None:
        if self._stuck is None:
            return
        if self._stuck.is_alive():
            raise ZfsError(f"{self._program}: process {self._stuck.pid} does not end, not even when killed")
        self._stuck = None

    async def _await_abandoned(self) -> None:
        """A cancelled query's thread may still be killing its process."""
        if self._left is None or self._left.is_set():
            return
        if not await anyio.to_thread.run_sync(self._left.wait, self._timeout):
            raise ZfsError(f"{self._program}: the thread of a cancelled query does not end")

    async def _in_thread(self, path: Path, argv: tuple[str, ...]) -> str:
        stop, left = threading.Event(), threading.Event()
        self._left = left
        try:
            # Twice: the thread ends by itself unless the very start of the program blocks (a dead network mount).
            with anyio.fail_after(self._timeout * 2 + _KILL_WAIT):
                return await anyio.to_thread.run_sync(
                    partial(self._run, path, argv, stop, left), abandon_on_cancel=True, limiter=self._limiter
                )
        except TimeoutError:
            raise ZfsError(f"{self._program}: cannot be started within {self._timeout:g} s") from None
        finally:
            stop.set()

    def _run(self, path: Path, argv: tuple[str, ...], stop: threading.Event, left: threading.Event) -> str:
        try:
            return self._ask(path, argv, stop)
        finally:
            left.set()

    def _ask(self, path: Path, argv: tuple[str, ...], stop: threading.Event) -> str:
        import sh  # 0.1 s, which a server without ZFS need not spend

        logging.getLogger("sh").setLevel(logging.WARNING)  # it reports each process at level info
        out, err = _Collector(self._output_limit), _Collector(4 * ERROR_LIMIT)
        with Path(os.devnull).open("rb") as nothing:
            try:
                running = sh.Command(str(path))(
                    *argv, _bg=True, _bg_exc=False, _return_cmd=True, _new_session=True, _tty_out=False,
                    _internal_bufsize=0, _in=nothing, _out=out, _err=err, _encoding="utf-8", _decode_errors="replace",
                    _env={"LC_ALL": "C", "PATH": os.pathsep.join(SEARCH)}, _cwd="/",
                )  # fmt: skip
            except (sh.CommandNotFound, sh.ForkException, OSError) as error:
                # A failed exec brings the child's whole traceback; its last line says it.
                reason = str(error).strip().rsplit("\n", 1)[-1][:ERROR_LIMIT]
                raise ZfsError(f"{self._program}: cannot be started: {reason}") from None
        self._await_exit(running, out, stop)
        try:
            running.wait()
        except sh.ErrorReturnCode as error:
            raise CommandFailed(self._program, error.exit_code, err.text().strip()[:ERROR_LIMIT]) from None
        return out.text()

    def _await_exit(self, running: Any, out: _Collector, stop: threading.Event) -> None:
        """Polls, with pauses that grow: most queries take 5 ms, a few take seconds."""
        deadline, pause = time.monotonic() + self._timeout, _FIRST_PAUSE
        while running.is_alive():
            if stop.is_set():
                raise self._kill(running, "cancelled")
            if out.overflowed:
                break
            if time.monotonic() >= deadline:
                raise self._kill(running, f"no answer within {self._timeout:g} s")
            stop.wait(pause)
            pause = min(pause * 2, _LAST_PAUSE)
        if out.overflowed:
            raise self._kill(running, f"answers with more than {self._output_limit} bytes")

    def _kill(self, running: Any, why: str) -> ZfsError:
        deadline = time.monotonic() + _KILL_WAIT
        if running.is_alive():
            # `sh` asks the kernel for the group of the process first, so one that is reaped meanwhile is not signalled.
            with contextlib.suppress(ProcessLookupError):
                running.kill_group()
        while running.is_alive():
            if time.monotonic() >= deadline:
                self._stuck = running
                break
            time.sleep(_FIRST_PAUSE)
        return ZfsError(f"{self._program}: {why}")
