"""How the steps of one job stand, as a few numbers: what decides its state without looking at its steps.

A job may have a hundred thousand steps. Asking them all after each one that ends would cost the square of their number,
so the job's row carries these counters, each transition of a step moves one from field to field, and the state of the
job follows from the counters alone (spec job-queues §3.4). Only the open stage is counted by state; of later stages,
where every step waits, the number is enough, and of earlier ones the sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

Waiting: TypeAlias = Literal["fresh", "retry", "deferred"]
"""Why a step waits: never started, failed and to be tried again, deferred."""
STEP_STATES: dict[Waiting, str] = {"fresh": "waiting", "retry": "retry", "deferred": "deferred"}
"""The state of a step that waits, by its reason."""
REASONS: dict[str, Waiting] = {state: reason for reason, state in STEP_STATES.items()}

_replace = msgspec.structs.replace


class Counters(msgspec.Struct, frozen=True, array_like=True):
    """Steps of the open `stage` that wait (`fresh`, `retry`, `deferred`) or run (`live`); steps of all stages that
    ended (`ok`, `failed`) and of the job (`total`); `later` stages in order, each with its steps. `ran`: something was
    started. `starting`: the job runs and its first process has not said so yet.
    """

    stage: int = 0
    fresh: int = 0
    retry: int = 0
    deferred: int = 0
    live: int = 0
    ok: int = 0
    failed: int = 0
    total: int = 0
    later: tuple[tuple[int, int], ...] = ()
    ran: bool = False
    starting: bool = False

    @property
    def waiting(self) -> int:
        """Steps of the open stage that may be claimed, now or later."""
        return self.fresh + self.retry + self.deferred

    @property
    def open(self) -> int:
        """Steps of the open stage that are not at their end."""
        return self.waiting + self.live

    @property
    def left(self) -> int:
        """Steps that are not at their end, of all stages."""
        return self.open + sum(count for _, count in self.later)


def counted(stages: Iterable[int]) -> Counters:
    """The counters of new steps, given the stage of each; there is at least one."""
    found: dict[int, int] = {}
    for stage in stages:
        found[stage] = found.get(stage, 0) + 1
    (first, fresh), *later = sorted(found.items())
    return Counters(stage=first, fresh=fresh, total=sum(found.values()), later=tuple(later))


def leased(counters: Counters, reason: Waiting, *, starting: bool) -> Counters:
    """A step that waited for that reason has been given to a worker; `starting`: its job did not run before."""
    less = {reason: getattr(counters, reason) - 1}
    return _replace(counters, live=counters.live + 1, ran=True, starting=starting or counters.starting, **less)


def back(counters: Counters, reason: Waiting) -> Counters:
    """A step that ran waits again."""
    more = {reason: getattr(counters, reason) + 1}
    return _replace(counters, live=counters.live - 1, **more)


def ended(counters: Counters, *, ok: bool) -> Counters:
    """A step that ran is at its end."""
    if ok:
        return _replace(counters, live=counters.live - 1, ok=counters.ok + 1)
    return _replace(counters, live=counters.live - 1, failed=counters.failed + 1)


def added(counters: Counters, stages: Iterable[int]) -> Counters:
    """New steps in later stages."""
    found = dict(counters.later)
    total = counters.total
    for stage in stages:
        found[stage] = found.get(stage, 0) + 1
        total += 1
    return _replace(counters, later=tuple(sorted(found.items())), total=total)


def emptied(counters: Counters) -> Counters:
    """What waits is given up: killed or skipped."""
    return _replace(counters, fresh=0, retry=0, deferred=0, later=())


def advanced(counters: Counters) -> tuple[Counters, bool]:
    """The next stage opened if the open one is over, and whether all later steps are skipped because some step failed.

    A failed step ends the job with its stage: what is beside it still runs, so a directory that was copied in part is
    as complete as it can be, and nothing after it touches it.
    """
    if counters.open or not counters.later:
        return counters, False
    if counters.failed:
        return emptied(counters), True
    (stage, fresh), *later = counters.later
    return _replace(counters, stage=stage, fresh=fresh, later=tuple(later)), False


def state_of(counters: Counters, *, killed: bool = False, inactive: bool = False) -> str:
    """The state of a job, first match wins (spec job-queues §3.4)."""
    told = (
        (counters.live, "running"),
        (killed, "killed"),
        (inactive, "inactive"),
        (counters.fresh, "running" if counters.ran else "pending"),
        (counters.retry, "failed"),
        (counters.deferred, "deferred"),
        (counters.failed, "error"),
    )
    return next((state for holds, state in told if holds), "complete")
