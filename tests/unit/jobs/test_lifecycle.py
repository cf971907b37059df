"""The queue's rules against a plain model: all steps in a list, looked at one by one."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sysadmd.jobs import counters, lifecycle
from sysadmd.jobs.controlling import counted_again
from sysadmd.jobs.counters import REASONS
from sysadmd.jobs.lifecycle import Change, QueuedJob, QueuedStep
from sysadmd.jobs.spec import StepSpec
from sysadmd.jobs.transitions import StaleTransition
from sysadmd.jobs.views import End

WAITING = frozenset(REASONS)
LIVE = lifecycle.LIVE_STEPS


def plain_state(job: QueuedJob, steps: list[QueuedStep], *, inactive: bool) -> str:
    """What the state of a job is, from all of its steps."""
    states = [step.state for step in steps]
    if any(state in LIVE for state in states):
        return "running"
    if job.kill_requested_at is not None or "killed" in states:
        return "killed"
    if inactive:
        return "inactive"
    open_stage = min((step.stage for step in steps if step.state in WAITING), default=None)
    waiting = {step.state for step in steps if step.state in WAITING and step.stage == open_stage}
    if "waiting" in waiting:
        return "running" if job.counters.ran else "pending"
    if "retry" in waiting:
        return "failed"
    if "deferred" in waiting:
        return "deferred"
    return "error" if "failed" in states else "complete"


class QueueRules(RuleBasedStateMachine):
    """One job, moved by the rules of lifecycle.py; its steps are kept beside it, as the store does."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.steps: list[QueuedStep] = []
        self.inactive = False
        self.finals: list[str] = []

    @initialize(
        stages=st.lists(st.integers(0, 3), min_size=1, max_size=6),
        tries=st.integers(1, 3),
        on_lost=st.sampled_from(["retry", "error"]),
    )
    def enqueue(self, stages: list[int], tries: int, on_lost: str) -> None:
        self.job = QueuedJob(
            id="j", seq=1, kind="task", name="n", lane="default", owner="o", created_at=self.now,
            counters=counters.counted(stages), tries_max=tries, retry_delay=10.0, defer_delay=5.0, defer_max=30.0,
            on_lost=on_lost, state="pending",
        )  # fmt: skip
        self.job = lifecycle.placed(self.job, self.now)
        self.steps = [
            QueuedStep(job_id="j", idx=idx, stage=stage, type="task", tries_max=tries)
            for idx, stage in enumerate(stages)
        ]

    def apply(self, change: Change) -> None:
        if self.job.final:
            assert change.job.state == self.job.state
        self.job = change.job
        if change.step is not None:
            self.steps[change.step.idx] = change.step
        if change.rest is not None:
            self.steps = [
                msgspec.structs.replace(step, state=change.rest) if step.state in WAITING else step
                for step in self.steps
            ]

    def claimable(self) -> list[QueuedStep]:
        """By the plain rule: due, and every step of earlier stages is ok."""
        return [
            step
            for step in self.steps
            if step.state in WAITING
            and step.run_after <= self.now
            and all(other.state == "ok" for other in self.steps if other.stage < step.stage)
        ]

    def live(self) -> list[QueuedStep]:
        return [step for step in self.steps if step.state in LIVE]

    @precondition(lambda self: self.claimable() and self.job.kill_requested_at is None and not self.job.final)
    @rule(data=st.data())
    def lease(self, data: Any) -> None:
        step = data.draw(st.sampled_from(self.claimable()))
        self.apply(lifecycle.lease(self.job, step, worker="w", now=self.now))

    @rule(data=st.data())
    def lease_what_may_not_run(self, data: Any) -> None:
        barred = [step for step in self.steps if step not in self.claimable()]
        if barred:
            with pytest.raises(StaleTransition):
                lifecycle.lease(self.job, data.draw(st.sampled_from(barred)), worker="w", now=self.now)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def begin(self, data: Any) -> None:
        self.apply(lifecycle.started(self.job, data.draw(st.sampled_from(self.live()))))

    @precondition(lambda self: self.live())
    @rule(
        data=st.data(),
        outcome=st.sampled_from(
            ["ok"] * 6 + ["fail"] * 4 + ["deferred"] * 4 + ["timeout", "lost", "killed", "start_failed"]
        ),
        grow=st.lists(st.integers(1, 2), max_size=2),
    )
    def finish(self, data: Any, outcome: str, grow: list[int]) -> None:
        step = data.draw(st.sampled_from(self.live()))
        new = [StepSpec(type="task", stage=step.stage + more) for more in grow] if outcome == "ok" else []
        first = len(self.steps)
        self.steps += [
            QueuedStep(job_id="j", idx=first + n, stage=spec.stage, type="task", tries_max=self.job.tries_max)
            for n, spec in enumerate(new)
        ]
        self.apply(lifecycle.finish(self.job, step, End(outcome=outcome, expand=tuple(new)), self.now))

    @rule()
    def finish_twice(self) -> None:
        for step in self.steps:
            if step.state not in LIVE:
                with pytest.raises(StaleTransition):
                    lifecycle.finish(self.job, step, End(outcome="ok"), self.now)

    @precondition(lambda self: not self.job.final)
    @rule(dice=st.integers(0, 15))
    def kill(self, dice: int) -> None:
        if dice == 15:  # seldom, or nothing would ever end by itself
            self.apply(lifecycle.kill(self.job, by="me", now=self.now))

    @precondition(
        lambda self: (
            self.job.state in lifecycle.STOPPED
            and self.job.archived_at is None
            and any(step.state != "ok" for step in self.steps)
        )
    )
    @rule()
    def try_again(self) -> None:
        again = {"failed", "skipped", "killed", *WAITING}
        self.steps = [
            msgspec.structs.replace(step, state="waiting", tries_used=0, run_after=0.0) if step.state in again else step
            for step in self.steps
        ]
        found = Tally((step.stage, step.state) for step in self.steps)
        self.inactive = False
        self.job = lifecycle.retried(self.job, counted_again(dict(found)), self.now).job

    @precondition(lambda self: self.job.archived_at is None)
    @rule(dice=st.integers(0, 15))
    def remove(self, dice: int) -> None:
        if dice == 15:
            self.apply(lifecycle.remove(self.job, by="me", now=self.now))

    @rule(seconds=st.sampled_from([1.0, 5.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.job.due_at is not None)
    @rule()
    def look(self) -> None:
        mine = [s.run_after for s in self.steps if s.state in WAITING and s.stage == self.job.counters.stage]
        change = lifecycle.due(self.job, min(mine, default=self.now), self.now)
        self.inactive = self.inactive or change.job.state == "inactive"
        self.apply(change)

    @invariant()
    def the_state_follows_from_the_steps(self) -> None:
        assert self.job.state == plain_state(self.job, self.steps, inactive=self.inactive)

    @invariant()
    def the_counters_are_right(self) -> None:
        found = self.job.counters
        states = [step.state for step in self.steps]
        assert found.total == len(self.steps)
        assert found.ok == states.count("ok")
        assert found.live == sum(state in LIVE for state in states)
        waiting = [step for step in self.steps if step.state in WAITING]
        assert found.left == len(waiting) + found.live
        for state, reason in REASONS.items():
            assert getattr(found, reason) == sum(s.state == state for s in waiting if s.stage == found.stage)

    @invariant()
    def no_step_is_executed_more_often_than_it_may(self) -> None:
        assert all(0 <= step.tries_used <= step.tries_max for step in self.steps)

    @invariant()
    def a_final_job_has_nothing_left_and_others_have(self) -> None:
        assert self.job.final == (not self.job.counters.left)
        assert (self.job.finished_at is not None) == self.job.final
        if self.job.final:
            assert not self.job.ready
            assert self.job.due_at is None

    @invariant()
    def a_job_with_a_claimable_step_will_be_looked_at(self) -> None:
        if self.claimable() and self.job.kill_requested_at is None and not self.job.final:
            assert self.job.ready or (self.job.due_at is not None and self.job.due_at <= self.now)

    @invariant()
    def a_later_stage_has_not_begun_while_an_earlier_one_is_not_ok(self) -> None:
        live = [step.stage for step in self.live()]
        assert all(step.state == "ok" for step in self.steps if step.stage < max(live, default=0))

    @invariant()
    def what_was_removed_is_archived_when_it_ends(self) -> None:
        removed = self.job.remove_requested_at is not None or self.job.state == "complete"
        assert (self.job.archived_at is not None) == (removed and self.job.final)


def test_a_retry_that_waits_beside_a_fresh_step_is_not_forgotten() -> None:
    job = QueuedJob(
        id="j", seq=1, kind="task", name="n", lane="default", owner="o", created_at=0.0,
        counters=counters.counted([0, 0]), tries_max=2, retry_delay=10.0, defer_delay=100.0,
    )  # fmt: skip
    first, second = (QueuedStep(job_id="j", idx=idx, stage=0, type="task", tries_max=2) for idx in (0, 1))
    job, leased, _ = lifecycle.lease(job, first, worker="w", now=1.0)
    assert leased is not None
    job, _, _ = lifecycle.finish(job, leased, End(outcome="fail"), 1.0)
    job, leased, _ = lifecycle.lease(job, second, worker="w", now=2.0)
    assert leased is not None
    job, _, _ = lifecycle.finish(job, leased, End(outcome="deferred"), 3.0)
    assert job.due_at is not None
    assert job.due_at <= 11.0


TestQueueRules = QueueRules.TestCase
TestQueueRules.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
