"""Checking passwords of the machine's accounts: one process for each, one at a time, and a bounded queue.

PAM is other people's code, loaded into whoever asks it: modules that wait for a network, leak, or crash. So neither
the server nor the executor asks. A process of its own does (pam_check.py), which is killed when it takes too long, and
takes nobody along when it dies. The password goes to it through a pipe: never through its arguments or its environment,
which others could read.

What is queued is dropped when the server goes, for nobody would hear the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sysadmd.executor.frames import PAM, Authenticate, Authenticated
from sysadmd.executor.launch import INHERITED
from sysadmd.executor.reaping import signal_group

BINDING = "pam"
"""The module of the package python-pam (the extra `pam`)."""
PROGRAM = (sys.executable, "-P", "-m", "sysadmd.executor.pam_check")
SERVICE = "sysadmd"
SERVICE_FILES = tuple(f"{where}/{SERVICE}" for where in ("/etc/pam.d", "/usr/local/etc/pam.d", "/usr/lib/pam.d"))
"""Where PAM looks for our rules (pam.conf(5)). Without them it would take those of `other`, which are not for us."""
PASSED: tuple[str, ...] = INHERITED
"""What the process has of the executor's environment."""
DEADLINE = 10.0
"""Seconds of one check; modules that ask a directory server have time-outs of their own, and shorter ones."""
QUEUED = 16
"""Checks that wait; one more is answered `busy`."""
QUEUE_DEADLINE = 30.0
"""Seconds after which one that still waits is not made any more: whoever asked has given up."""
OUTPUT_LIMIT = 1024 * 1024
"""Bytes of a verdict: far above 65536 groups, the most that Linux has for one process."""
ASKED_BYTES = 8192
"""Bytes of a question: every character of the longest password escaped, and few enough that a pipe takes them at once.
"""


def features() -> list[str]:
    """`PAM` when this machine can be asked: the binding is installed, and there are rules for our service."""
    usable = importlib.util.find_spec(BINDING) is not None and any(map(os.path.exists, SERVICE_FILES))
    return [PAM] if usable else []


@dataclass(slots=True)
class _Running:
    request: int
    process: subprocess.Popen[bytes]
    deadline: asyncio.TimerHandle
    output: bytearray = field(default_factory=bytearray)
    answered: bool = False


class PamChecks:
    """The checks of one executor. `watch` is told of each process and calls back when it is reaped."""

    def __init__(
        self,
        *,
        watch: Callable[[int, Callable[[], None]], None],
        answer: Callable[[Authenticated], None],
        log: Callable[[str], None],
        environ: Mapping[str, str] = os.environ,
        argv: Sequence[str] = PROGRAM,
        deadline: float = DEADLINE,
    ) -> None:
        self._argv, self._deadline = argv, deadline
        self._watch, self._answer, self._log = watch, answer, log
        self._environment = {name: environ[name] for name in PASSED if name in environ}
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, Authenticate]] = deque()
        self._running: _Running | None = None

    def submit(self, asked: Authenticate) -> None:
        """Check it in its turn; the answer comes by `answer`."""
        if len(self._waiting) >= QUEUED:
            self._refuse(asked.request, "busy")
            return
        if not features():  # the rules are gone since the hello, and without ours PAM would go by those of `other`
            self._refuse(asked.request, "unavailable")
            return
        self._waiting.append((self._loop.time() + QUEUE_DEADLINE, asked))
        self._next()

    def forget(self) -> None:
        """Nobody wants the answers any more: drop what waits, kill what runs."""
        self._waiting.clear()
        if self._running is not None and not self._running.answered:
            self._running.answered = True
            signal_group(self._running.process.pid, signal.SIGKILL)

    def _next(self) -> None:
        while self._running is None and self._waiting:
            until, asked = self._waiting.popleft()
            if self._loop.time() > until:
                self._refuse(asked.request, "deadline")
                continue
            try:
                self._running = self._begin(asked)
            except (OSError, ValueError) as error:
                self._log(f"cannot ask PAM: {type(error).__name__}")  # its text could hold what was asked
                self._refuse(asked.request, "crashed")

    def _begin(self, asked: Authenticate) -> _Running:
        question = json.dumps({"service": SERVICE, "user": asked.user, "password": asked.password}).encode()
        if len(question) > ASKED_BYTES:
            raise ValueError
        process = subprocess.Popen(
            self._argv,
            env=self._environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.returncode = 0  # it is reaped with the attempts, not by Popen
        self._watch(process.pid, self._ended)
        with contextlib.suppress(BrokenPipeError):  # it died already, which its end will say
            process.stdin.write(question)
            process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        os.set_blocking(process.stdout.fileno(), False)
        self._loop.add_reader(process.stdout.fileno(), self._read)
        return _Running(asked.request, process, self._loop.call_later(self._deadline, self._expire))

    def _read(self) -> bool:
        """Take what the process has written; False at the end of it."""
        running = self._running
        assert running is not None
        assert running.process.stdout is not None
        descriptor = running.process.stdout.fileno()
        try:
            data = os.read(descriptor, 65536)
        except (BlockingIOError, InterruptedError):
            return False
        if not data or len(running.output) > OUTPUT_LIMIT:
            self._loop.remove_reader(descriptor)
            return False
        running.output += data
        return True

    def _expire(self) -> None:
        running = self._running
        assert running is not None
        if not running.answered:
            running.answered = True
            self._refuse(running.request, "deadline")
        # Not reaped, so the number is still its own. The next one starts when this one is really gone: what even KILL
        # does not end must not pile up.
        signal_group(running.process.pid, signal.SIGKILL)

    def _ended(self) -> None:
        running = self._running
        assert running is not None
        assert running.process.stdout is not None
        while self._read():
            pass
        running.deadline.cancel()
        self._loop.remove_reader(running.process.stdout.fileno())
        running.process.stdout.close()
        self._running = None
        if not running.answered:
            self._tell(running.request, bytes(running.output))
        self._next()

    def _tell(self, request: int, output: bytes) -> None:
        try:
            said = json.loads(output)
            groups = [str(name) for name in said["groups"]]
            verdict = Authenticated(request, bool(said["ok"]), int(said["uid"]), groups, str(said["reason"]))
        except (ValueError, TypeError, KeyError):
            self._refuse(request, "crashed")
            return
        self._log(f"PAM was asked: request={request} {'ok' if verdict.ok else f'refused: {verdict.reason}'}")
        self._answer(verdict)

    def _refuse(self, request: int, reason: str) -> None:
        self._log(f"PAM was asked: request={request} refused: {reason}")
        self._answer(Authenticated(request, ok=False, reason=reason))
