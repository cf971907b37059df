"""The running attempts: started, signalled, timed out, reaped.

An attempt is one process group, led by the process that was spawned; it is over when that process is. What is then left
of the group is killed: a command that leaves children behind would otherwise hold its output file, and its lane's next
command would meet them. A process that leaves on purpose, by setsid(2) or setpgid(2) as a daemon does, is not in the
group and lives on, with nobody watching its output.

The outcome says why it ended, not how: a command stopped at its timeout is `timeout` even when it answers TERM with
exit 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass

from sysadmd.executor import process
from sysadmd.executor.frames import Exit, Outcome, SignalName, Start, Started
from sysadmd.executor.reaping import Reaped, signal_group, wait_for_exit
from sysadmd.executor.records import Live, Records
from sysadmd.executor.spawn import SpawnFailed, spawn

ENDING: frozenset[SignalName] = frozenset({"kill", "TERM", "KILL", "INT", "QUIT"})
"""Signals that ask for the end: what ends after one of them was `killed`."""


REASON_LIMIT = 1000
"""Characters of a reason: it may quote an argument of 128 KiB, and a listing has thousands of exits in one frame."""


@dataclass(slots=True)
class Attempt:
    """One running attempt."""

    started: Started
    name: str
    """argv[0], for the log."""
    grace: float
    cause: Outcome | None = None
    """Why it was told to end, once it was."""
    message: str | None = None
    term_timer: asyncio.TimerHandle | None = None
    kill_timer: asyncio.TimerHandle | None = None


class Attempts:
    """Every attempt of this executor that is not over. Lives on the running loop of one thread."""

    def __init__(
        self,
        records: Records,
        *,
        null: int,
        log: Callable[[str], None],
        clock: Callable[[], float],
        on_exit: Callable[[Exit], None],
    ) -> None:
        """`null` is /dev/null for stdin, `clock` gives Unix time, `on_exit` hears of each end once it is recorded."""
        self._records, self._null, self._log, self._clock, self._on_exit = records, null, log, clock, on_exit
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[str, Attempt] = {}
        self._by_pid: dict[int, Attempt] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._ours = ChainMap[int, object](self._by_pid, self._watched)  # type: ignore[arg-type]  # it is only read

    def __len__(self) -> int:
        return len(self._by_id)

    def running(self) -> list[Started]:
        """What runs."""
        return [attempt.started for attempt in self._by_id.values()]

    def get(self, attempt: str) -> Started | None:
        """The attempt, if it runs."""
        found = self._by_id.get(attempt)
        return found.started if found else None

    def start(self, start: Start, output: int) -> Started | None:
        """Spawn it, or end it with `spawn_failed` and return None. The descriptor is closed in any case."""
        now, tick = self._clock(), process.ticks()
        file = os.fstat(output)
        try:
            # Before the fork as well: under load the kernel may let the child run for long before it lets us write.
            self._records.started(Live(Started(start.attempt, start.lease, 0, 0, now), file.st_dev, file.st_ino))
            pid = spawn(start, output, self._null)
            started = Started(start.attempt, start.lease, pid, process.start_of_child(pid, tick), now)
            self._records.started(Live(started, file.st_dev, file.st_ino))
        except SpawnFailed as error:
            self._fail(start, output, now, str(error)[:REASON_LIMIT])
            return None
        finally:
            os.close(output)
        attempt = Attempt(started, start.argv[0], max(0.0, start.limits.grace))
        if start.limits.timeout is not None:
            note = f"stopped after its timeout of {start.limits.timeout:g} s"
            attempt.term_timer = self._loop.call_later(
                max(0.0, start.limits.timeout), self._terminate, attempt, "timeout", note, attempt.grace
            )
        self._by_id[start.attempt] = self._by_pid[pid] = attempt
        self._log(f"started attempt={start.attempt} pid={pid} argv0={start.argv[0]}")
        return started

    def signal(self, attempt: str, name: SignalName, grace: float | None) -> bool:
        """Signal the group; `kill` is TERM, then KILL after `grace` seconds (None: its own). False: it is over."""
        self.reap()  # an end that has already come is told as what it was
        found = self._by_id.get(attempt)
        if found is None:
            return False
        self._log(f"signal attempt={attempt} pid={found.started.pid} signal={name}")
        if name == "kill":
            self._terminate(found, "killed", "killed on request", found.grace if grace is None else max(0.0, grace))
            return True
        if name in ENDING and found.cause is None:
            found.cause, found.message = "killed", "killed on request"
        signal_group(found.started.pid, signal.Signals[f"SIG{name}"])
        return True

    def end_all(self, note: str) -> None:
        """TERM to every attempt, KILL after the grace of each."""
        for attempt in self._by_id.values():
            self._terminate(attempt, "killed", note, attempt.grace)

    def watch(self, pid: int, on_end: Callable[[], None]) -> None:
        """A child that is no attempt and leads its group: `on_end` is called once it is reaped, its group killed."""
        self._watched[pid] = on_end

    def reap(self) -> None:
        """Take note of every child that has exited."""
        exits: list[Exit] = []
        while (reaped := wait_for_exit(self._ours)) is not None:
            attempt = self._by_pid.pop(reaped.pid, None)
            if attempt is not None:
                exits.append(self._ended(attempt, reaped))
            elif (on_end := self._watched.pop(reaped.pid, None)) is not None:
                on_end()
            # else an orphan of somebody, given to us as the first process of a container
        if exits:
            self._records.finished(exits)
        for ended in exits:
            self._on_exit(ended)

    def _ended(self, attempt: Attempt, reaped: Reaped) -> Exit:
        started = attempt.started
        del self._by_id[started.attempt]
        for timer in (attempt.term_timer, attempt.kill_timer):
            if timer is not None:
                timer.cancel()
        outcome = attempt.cause or ("ok" if reaped.exit_code == 0 else "fail")
        how = f"exit_code={reaped.exit_code}" if reaped.signal is None else f"signal={reaped.signal}"
        self._log(f"ended attempt={started.attempt} pid={started.pid} argv0={attempt.name} outcome={outcome} {how}")
        return Exit(
            attempt=started.attempt,
            lease=started.lease,
            outcome=outcome,
            exit_code=reaped.exit_code,
            signal=reaped.signal,
            message=attempt.message,
            time_started=started.time,
            time_finished=self._clock(),
            usage=reaped.usage,
        )

    def _fail(self, start: Start, output: int, now: float, why: str) -> None:
        with contextlib.suppress(OSError):  # a full disk must not hide the reason: it is in the exit too
            os.write(output, f"sysadmd: {why}\n".encode())
        self._log(f"spawn_failed attempt={start.attempt}: {why}")
        ended = Exit(
            attempt=start.attempt,
            lease=start.lease,
            outcome="spawn_failed",
            message=why,
            time_started=now,
            time_finished=self._clock(),
        )
        self._records.finished([ended])
        self._on_exit(ended)

    def _terminate(self, attempt: Attempt, cause: Outcome, note: str, grace: float) -> None:
        """TERM now, KILL after `grace`. The first cause stays; a second call can only bring the KILL forward."""
        if attempt.cause is None:
            attempt.cause, attempt.message = cause, note
        pid = attempt.started.pid
        signal_group(pid, signal.SIGTERM)
        signal_group(pid, signal.SIGCONT)  # a stopped process hears TERM only when it goes on
        due = self._loop.time() + grace
        if attempt.kill_timer is None or due < attempt.kill_timer.when():
            if attempt.kill_timer is not None:
                attempt.kill_timer.cancel()
            attempt.kill_timer = self._loop.call_at(due, signal_group, pid, signal.SIGKILL)
