"""The process that runs tasks: `python -m sysadmd.jobs.tasks.child FD`, one attempt at a time, until its socket closes.

The pool (pool.py) is at the other end of the socket. It made this process the leader of a session and a group of its
own, which whatever a task starts belongs to. What is told apart from the task by nothing but good will is kept apart
as far as one process can: the output of each attempt is a descriptor of its own on 1 and 2, for the C library and for
grandchildren too; directory, environment, umask and signal handlers are put back; and an attempt that leaves threads or
processes behind is the last one here.

A thread watches the socket while an attempt runs. When the pool's process dies, the attempt's lease runs out and
another worker will run it again, so this one must not go on: TERM to the group, and KILL after a while.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from sysadmd.jobs.tasks import running
from sysadmd.jobs.tasks.frames import (
    BrokenFrame,
    Describe,
    Described,
    Done,
    Reader,
    Ready,
    Run,
    TaskError,
    ToChild,
    encode,
)
from sysadmd.jobs.tasks.loading import callable_of, describe, load
from sysadmd.jobs.tasks.watching import Watch, adopt_orphans, has_children

MESSAGE_LIMIT = 2000
"""Characters of an exception's text that leave this process; the output has all of it."""
TRACEBACK_LINES = 60
LINE_LIMIT = 500
READ_SIZE = 65_536


class Child:
    """One child process, seen from within."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._reader = Reader("child")
        self._watch = Watch(sock)

    def serve(self) -> None:
        """Take orders until the pool closes the socket."""
        self._watch.start()
        self._watch.send(encode(Ready()))
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._sock, READ_SIZE, 1)
            if not data:
                return
            if descriptors:
                # Before the frame is whole, so that no descriptor is ever lost; 1 and 2 are inherited, this one is not.
                self._redirect(descriptors[0])
                os.close(descriptors[0])
            for frame in self._reader.feed(data):
                self._obey(frame)  # type: ignore[arg-type]  # this side's reader decodes no others

    def _obey(self, frame: ToChild) -> None:
        if isinstance(frame, Describe):
            self._watch.send(encode(self._described(frame)))
        else:
            self._watch.send(encode(self._run(frame)))

    def _described(self, frame: Describe) -> Described:
        try:
            return Described(describe(frame.name, load(frame.target)))
        except Exception as error:  # noqa: BLE001 - code of others, which may raise anything
            return Described(None, _told(error))

    def _redirect(self, output: int) -> None:
        os.dup2(output, 1)
        os.dup2(output, 2)

    # One attempt

    def _run(self, run: Run) -> Done:
        threads = set(threading.enumerate())
        with _put_back():
            self._watch.attempt_runs(True)
            running.begin(running.Current(run.job_id, run.name, run.attempt, run.owner), self._watch.progress)
            try:
                done = self._attempt(run)
            finally:
                running.end()
                self._watch.attempt_runs(False)
        _flush()
        self._redirect(self._null)
        dirty = has_children() or any(one not in threads and one.is_alive() for one in threading.enumerate())
        return msgspec.structs.replace(done, dirty=dirty)

    def _attempt(self, run: Run) -> Done:
        try:
            function = callable_of(load(run.target))
        except Exception as error:  # noqa: BLE001 - as above
            _print(error)
            return Done("start_failed", error=_told(error))
        try:
            value = function(**msgspec.json.decode(run.args))
            if inspect.iscoroutine(value):
                import asyncio  # most tasks are not async, and a child starts a fifth faster without

                value = asyncio.run(value)
        except running.Deferred as deferred:
            return Done("deferred", reason=deferred.reason, delay=deferred.delay)
        except SystemExit as error:
            return Done("ok") if error.code in {None, 0} else self._failed(error)
        except running.Terminated:
            raise
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt of the task's own making, too
            return self._failed(error)
        return Done("ok", result=_result(value, run.result_limit))

    def _failed(self, error: BaseException) -> Done:
        _print(error)
        return Done("fail", error=_told(error))


def _result(value: Any, limit: int) -> bytes | None:
    """The JSON of what the task returned; where there is none the output says why."""
    if value is None:
        return None
    try:
        text = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        _say(f"the result is not kept, it is no JSON: {error}")
        return None
    if len(text) > limit:
        _say(f"the result is not kept: its {len(text)} bytes are more than {limit}")
        return None
    return text


def _told(error: BaseException) -> TaskError:
    """The error for the job, in bounds."""
    lines = "".join(traceback.format_exception(_trimmed(error))).splitlines()
    if len(lines) > TRACEBACK_LINES:
        lines = [*lines[:5], f"[{len(lines) - TRACEBACK_LINES} lines are left out here]", *lines[5 - TRACEBACK_LINES :]]
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a __str__ of the task's own may be broken
        text = "(its text cannot be had)"
    return TaskError(name, text[:MESSAGE_LIMIT], tuple(line[:LINE_LIMIT] for line in lines))


def _trimmed(error: BaseException) -> BaseException:
    """The error without our own frames at the top of its traceback: the author looks for theirs."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__ and trace.tb_next is not None:
        trace = trace.tb_next
    return error.with_traceback(trace)


def _print(error: BaseException) -> None:
    with contextlib.suppress(Exception):
        _flush()
        traceback.print_exception(_trimmed(error))


def _say(line: str) -> None:
    with contextlib.suppress(Exception):
        sys.stderr.write(f"sysadmd: {line}\n")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A full disk, or a task that closed or replaced it, is no reason to lose the outcome.
        with contextlib.suppress(Exception):
            stream.flush()


@contextlib.contextmanager
def _put_back() -> Iterator[None]:
    """Restore what a task may change of its process: what the next one finds is what this one found."""
    environ, directory = dict(os.environ), Path.cwd()
    streams = sys.stdin, sys.stdout, sys.stderr
    mask = os.umask(0o077)
    os.umask(mask)
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        os.umask(mask)
        if os.environ != environ:
            os.environ.clear()
            os.environ.update(environ)
        with contextlib.suppress(OSError):
            os.chdir(directory)
        _handle_signals()
        _configure_logging()


def _terminate(number: int, frame: FrameType | None) -> None:
    # Once: a second TERM must not interrupt what `finally` blocks do. KILL is there for what takes too long.
    signal.signal(signal.SIGTERM, _ignore)
    raise running.Terminated


def _ignore(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN: programs that the task starts would inherit that."""


def _handle_signals() -> None:
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _configure_logging() -> None:
    """Every logger writes into the attempt's output."""
    root = logging.getLogger()
    if len(root.handlers) == 1 and root.handlers[0] is _log_handler and root.level == logging.INFO:
        return
    root.handlers[:] = [_log_handler]
    root.setLevel(logging.INFO)


_log_handler = logging.StreamHandler(sys.stderr)
_log_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))


def main() -> None:
    """Serve on the socket whose descriptor is the first argument."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    adopt_orphans()
    _handle_signals()
    _configure_logging()
    status = 0
    try:
        Child(sock).serve()
    except running.Terminated as error:
        _say("ended by SIGTERM here:")
        _print(error)
        status = 128 + signal.SIGTERM
    except (OSError, BrokenFrame):
        status = 1
    _flush()
    if has_children():
        os.killpg(0, signal.SIGKILL)  # where the pool is gone, nobody else would end what a task has started
    os._exit(status)  # threads that the task left, and its exit handlers, must not keep the process


if __name__ == "__main__":
    main()
