"""What an ended attempt's events say: the server's own line in the output, and the texts within their budgets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import anyio.to_thread
import msgspec

from sysadmd.dispatcher import payloads
from sysadmd.dispatcher.inbox import Ended
from sysadmd.dispatcher.output import OutputFiles
from sysadmd.dispatcher.text import INCREMENT, allowances, excerpt
from sysadmd.dispatcher.watch import Watched
from sysadmd.events.record import Draft
from sysadmd.jobs.model import Attempt, Job
from sysadmd.jobs.transitions import End
from sysadmd.limits import KIB, Limits

log = logging.getLogger(__name__)

INLINE = 64 * KIB
"""Bytes of output that are read in the loop; more is read in a worker thread."""

_NOTES = {
    "lost": "the result is lost: {}",
    "spawn_failed": "{}",
    "timeout": "ended after its time limit",
    "output_limit": "ended: its output is above the limit, or the disk is nearly full",
}
"""Outcomes that the output itself would not explain; the line is its last."""


@dataclass(frozen=True, slots=True)
class Story:
    """A job after the end of one of its attempts, and what has to be told of it."""

    job: Job
    watched: Watched


class Reporter:
    """Reads the output files for the events of ends."""

    def __init__(self, files: OutputFiles, limits: Limits) -> None:
        self._files = files
        self.limits = limits

    def judge(self, job: Job, ended: Ended, watched: Watched) -> End:
        """The end as it is stored: with the output's size, and `output_limit` where that is why it was killed."""
        end, attempt = ended.end, watched.attempt
        size = self._files.size(attempt.output_path)
        over = watched.over or (job.kill_requested_at is None and size > self.limits.output_cap)
        outcome = "output_limit" if over and end.outcome == "killed" else end.outcome
        if outcome in _NOTES and not ended.noted:
            ended.noted = True
            size = self._note(attempt, _NOTES[outcome].format(end.message or "no reason was given"))
        ended.end = msgspec.structs.replace(end, outcome=outcome, output_bytes=size)
        return ended.end

    async def drafts(self, stories: Sequence[Story]) -> list[Draft]:
        """The events of the ends, in order: `finished` for a final job, else `command`."""
        if not stories:
            return []
        size = sum(attempt.output_bytes for story in stories for attempt in _begun(story.job))
        if size <= INLINE:
            return self._drafts(stories)
        return await anyio.to_thread.run_sync(self._drafts, stories)

    def finished(self, job: Job) -> Draft:
        """The last event of a process: everything that it wrote, in at most `process_log` bytes in all."""
        return payloads.finished(job, self.texts(job))

    def texts(self, job: Job) -> dict[int, str]:
        """The outputs of the commands that were begun, by their place."""
        attempts = _begun(job)
        sizes = [self._files.size(attempt.output_path) for attempt in attempts]
        shares = allowances(sizes, self.limits.process_log)
        return {
            attempt.idx: self._excerpt(attempt, 0, size, share)
            for attempt, size, share in zip(attempts, sizes, shares, strict=True)
        }

    def _drafts(self, stories: Sequence[Story]) -> list[Draft]:
        return [self.finished(story.job) if story.job.final else self._command(story) for story in stories]

    def _command(self, story: Story) -> Draft:
        """A command that another one follows: its whole text, and what no `output` event has told."""
        attempt, reported = story.watched.attempt, story.watched.reported
        size = self._files.size(attempt.output_path)
        whole = self._excerpt(attempt, 0, size, self.limits.process_log)
        told_before = reported or size > INCREMENT
        new = self._excerpt(attempt, reported, size, INCREMENT) if told_before else whole
        return payloads.command(story.job, attempt.idx, whole, new)

    def _excerpt(self, attempt: Attempt, start: int, end: int, budget: int) -> str:
        if start >= end:
            return ""
        return excerpt(self._files.reader(attempt.output_path), start, end, budget, final=True)[0]

    def _note(self, attempt: Attempt, line: str) -> int:
        """Append the server's line and give the size. A full disk must not keep an attempt from ending."""
        try:
            self._files.append(attempt, line)
        except OSError as error:
            log.warning("cannot write to the output of %s: %s", attempt.id, error)
        return self._files.size(attempt.output_path)


def _begun(job: Job) -> list[Attempt]:
    return [step.attempt for step in job.steps if step.attempt is not None]
