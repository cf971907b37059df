"""Attempts between their lease and their end: sent, adopted, sent again, lost, signalled. The link's handler.

What has ended goes to the inbox; nothing here writes to the store. The rule for a reconnection is the table in link.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping

import msgspec

from sysadmd.dispatcher.inbox import Ended
from sysadmd.dispatcher.launcher import Launcher
from sysadmd.dispatcher.link import Link
from sysadmd.dispatcher.output import OutputFiles
from sysadmd.errors import ExecutorError
from sysadmd.executor.protocol import ErrorFrame, Exit, Listing, Started
from sysadmd.jobs.model import Attempt, Job
from sysadmd.jobs.transitions import End

log = logging.getLogger(__name__)


class Attempts:
    """The attempts of the jobs in `live` (by id).

    `ended` takes what has ended; `ready` is called when the link is up.
    """

    def __init__(
        self,
        live: Mapping[str, Job],
        link: Link,
        files: OutputFiles,
        launcher: Launcher,
        *,
        ended: Callable[[Ended], None],
        ready: Callable[[], None],
    ) -> None:
        self._live, self._link, self._files, self._ended, self._ready = live, link, files, ended, ready
        self.launcher = launcher
        self._unsent: set[str] = set()
        """Leased, and we know that no executor has started them."""
        self._refusal = ""
        self._doomed: set[str] = set()
        """Ended by us and on their way into the store: they must not be sent any more."""
        self._started: dict[str, Started] = {}

    # ---- what the scheduler asks for

    def send(self, attempt: Attempt, output: int | OSError | None = None) -> None:
        """Send the Start of a committed lease. When the link is down it stays unsent, and `connected` comes back to it.

        `output` is the descriptor of its output file, or why there is none; None: it is opened here.
        """
        job = self._live[attempt.job_id]
        if attempt.id in self._doomed:
            if isinstance(output, int):
                os.close(output)
            return
        self._unsent.add(attempt.id)
        if job.kill_requested_at is not None or self._link.instance is None:
            if isinstance(output, int):
                os.close(output)
            if job.kill_requested_at is not None:
                self._end(attempt, End(outcome="killed", message="killed before it was started"))
            return
        if output is None:
            output = self._files.try_open(attempt)
        if isinstance(output, OSError):
            self._end(attempt, End(outcome="spawn_failed", message=f"cannot make the output file: {output}"))
        else:
            self._send(job, attempt, output)

    def resend(self) -> None:
        """Send again what the executor has refused for a while."""
        for attempt_id in tuple(self._unsent):
            attempt = self.find(attempt_id)
            if attempt is None:
                self._unsent.discard(attempt_id)
            else:
                self.send(attempt)

    def kill(self, attempt_id: str) -> None:
        """TERM, then KILL. One that was never sent ends at once; when the link is down `connected` comes back to it."""
        attempt = self.find(attempt_id)
        if attempt is not None and attempt_id in self._unsent:
            self._end(attempt, End(outcome="killed", message="killed before it was started"))
        else:
            self._link.signal(attempt_id, "kill")

    def stop_output(self, attempt_id: str) -> bool:
        """KILL at once: what fills a disk gets no grace to go on with it. False when the link is down."""
        return self._link.signal(attempt_id, "KILL")

    def settled(self, ended: Ended) -> None:
        """The end is in the store."""
        self._started.pop(ended.attempt_id, None)
        self._unsent.discard(ended.attempt_id)
        self._doomed.discard(ended.attempt_id)

    def take_started(self) -> list[Started]:
        """Those said to run since the last call that have not ended meanwhile; most have, and need no row of their
        pid.
        """
        taken, self._started = list(self._started.values()), {}
        return taken

    def find(self, attempt_id: str) -> Attempt | None:
        """The live attempt of that name."""
        job = self._live.get(job_id_of(attempt_id))
        attempt = job.live_attempt if job else None
        return attempt if attempt is not None and attempt.id == attempt_id else None

    # ---- what the executor says (link.LinkHandler)

    def connected(self, instance: str, listing: Listing) -> None:
        """Settle what became of every attempt."""
        running = {frame.attempt: frame for frame in listing.running}
        exits = {frame.attempt for frame in listing.exits}
        for frame in listing.exits:
            self.exited(frame)
        for job in self._live.values():
            attempt = job.live_attempt
            if attempt is None or attempt.id in exits:
                continue
            if attempt.id in running:
                self.started(running[attempt.id])
                if job.kill_requested_at is not None:
                    self._link.signal(attempt.id, "kill")
            elif attempt.instance == instance or attempt.id in self._unsent:
                self.send(attempt)
            else:
                self._end(attempt, End(outcome="lost", message="the executor ended while the command ran"))
        self._ready()

    def started(self, frame: Started) -> None:
        """It runs."""
        self._refusal = ""
        self._unsent.discard(frame.attempt)
        self._started[frame.attempt] = frame

    def exited(self, frame: Exit) -> None:
        """To the inbox; it is acknowledged once it is stored."""
        end = End(
            outcome=frame.outcome,
            exit_code=frame.exit_code,
            signal=frame.signal,
            message=frame.message,
            started_at=frame.time_started,
            finished_at=frame.time_finished,
            usage=None if frame.usage is None else msgspec.structs.asdict(frame.usage),
        )
        # The executor writes the reason of what it cannot start into the output itself.
        self._ended(Ended(frame.attempt, frame.lease, end, noted=frame.outcome == "spawn_failed"))

    def refused(self, frame: ErrorFrame) -> None:
        """A Start that was refused was not started: it is sent again at the next look, unless it can never be right."""
        # It refuses each start once a second for as long as it drains: a line for each reason is enough.
        if frame.message != self._refusal:
            log.warning("the executor refused a frame: %s (%s)", frame.message, frame.code)
        self._refusal = frame.message
        attempt = self.find(frame.attempt) if frame.attempt is not None else None
        if attempt is None or frame.code == "not_running":
            return
        if frame.code == "protocol":
            self._end(attempt, End(outcome="spawn_failed", message=frame.message))
        else:
            self._unsent.add(attempt.id)

    def disconnected(self) -> None:
        """They go on without us; nothing is leased until the link is up again."""

    def _send(self, job: Job, attempt: Attempt, output: int) -> None:
        self._unsent.discard(attempt.id)
        try:
            if not self._link.start(self.launcher.frame(job, attempt), output):
                self._unsent.add(attempt.id)
        except ExecutorError as error:
            self._end(attempt, End(outcome="spawn_failed", message=str(error)))

    def _end(self, attempt: Attempt, end: End) -> None:
        """An end that we found ourselves."""
        if attempt.id not in self._doomed:
            self._doomed.add(attempt.id)
            self._ended(Ended(attempt.id, attempt.lease, end))


def job_id_of(attempt_id: str) -> str:
    """The job that an attempt belongs to."""
    return attempt_id.partition(".")[0]
