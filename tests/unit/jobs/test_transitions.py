"""Single transitions, and a state machine beside a model that knows nothing of jobs, steps and attempts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sysadmd.jobs import transitions
from sysadmd.jobs.model import Job, Outcome
from sysadmd.jobs.transitions import End, StaleTransition, claimable, derive_state


def make(count: int = 2) -> Job:
    commands = [(f"c{n}", (f"c{n}",)) for n in range(count)]
    return transitions.new_job(id="j", ext_id="p", lane="no_queue", owner="o", commands=commands, now=1.0)


def leased(job: Job, lease: str = "L") -> Job:
    return transitions.lease(job, lease=lease, instance="i", output_path="f", now=2.0)


def ended(job: Job, outcome: Outcome = "ok", *, lease: str = "L", **fields: Any) -> Job:
    return transitions.finish(job, End(outcome=outcome, **fields), lease=lease, now=3.0)


def test_a_new_job_is_pending_and_its_first_step_claimable() -> None:
    job = make()
    assert (job.state, job.name, claimable(job)) == ("pending", "dispatcher.no_queue", 0)
    assert [step.stage for step in job.steps] == [0, 1]


def test_a_lease_makes_the_job_running_and_its_attempt_known() -> None:
    job = leased(make())
    assert (job.state, job.started_at, job.steps[0].state) == ("running", 2.0, "leased")
    assert job.live_attempt is not None
    assert job.live_attempt.id == "j.0.1"


def test_started_records_the_pid() -> None:
    job = transitions.started(leased(make()), lease="L", pid=7, pid_start="99", at=2.5)
    assert job.steps[0].state == "running"
    assert job.live_attempt is not None
    assert (job.live_attempt.pid, job.live_attempt.pid_start) == (7, "99")


def test_an_ok_step_makes_the_next_claimable_and_the_job_stays_running() -> None:
    job = ended(leased(make()), exit_code=0)
    assert (job.state, claimable(job), job.steps[0].return_code, job.finished_at) == ("running", 1, "0", None)


def test_the_last_ok_step_completes_the_job() -> None:
    job = ended(leased(make(1)), exit_code=0)
    assert (job.state, job.finished_at, job.last_error) == ("complete", 3.0, None)


@pytest.mark.parametrize(
    "outcome, state, code, fields",
    [
        ("fail", "error", "3", {"exit_code": 3}),
        ("fail", "error", "-11", {"signal": 11}),
        ("timeout", "error", "-15", {"signal": 15}),
        ("lost", "error", "-1", {}),
        ("spawn_failed", "error", "-1", {}),
        ("output_limit", "error", "-9", {"signal": 9}),
        ("killed", "killed", "0", {"exit_code": 0}),
    ],
)
def test_a_step_that_is_not_ok_ends_the_job_and_skips_the_rest(
    outcome: Outcome, state: str, code: str, fields: dict[str, Any]
) -> None:
    job = ended(leased(make()), outcome, **fields)
    assert (job.state, job.steps[0].return_code, job.steps[1].state) == (state, code, "skipped")
    assert job.last_error is not None
    assert job.last_error["outcome"] == outcome
    assert job.steps[1].return_code is None


def test_a_pending_job_is_killed_at_once() -> None:
    job = transitions.kill(make(), by="x", now=4.0)
    assert (job.state, job.finished_at, {step.state for step in job.steps}) == ("killed", 4.0, {"skipped"})


def test_a_running_job_is_killed_when_its_attempt_has_ended_whatever_it_made_of_it() -> None:
    job = transitions.kill(leased(make(1)), by="x", now=4.0)
    assert (job.state, job.kill_requested_by) == ("running", "x")
    assert ended(job, "ok", exit_code=0).state == "killed"


def test_a_job_between_two_commands_is_killed_at_once() -> None:
    job = transitions.kill(ended(leased(make())), by="x", now=4.0)
    assert (job.state, [step.state for step in job.steps]) == ("killed", ["ok", "skipped"])


def test_another_lease_is_refused() -> None:
    job = leased(make())
    with pytest.raises(StaleTransition):
        ended(job, lease="other")
    with pytest.raises(StaleTransition):
        transitions.started(job, lease="other", pid=1, pid_start="1", at=0.0)
    with pytest.raises(StaleTransition):
        transitions.reported(job, lease="other", output_bytes=1)


def test_what_does_not_fit_the_state_is_refused() -> None:
    with pytest.raises(StaleTransition, match="no step can be leased"):
        leased(leased(make()))
    with pytest.raises(StaleTransition, match="already"):
        transitions.kill(ended(leased(make()), "fail"), by="x", now=1.0)


def test_what_was_told_of_the_output_is_kept_with_the_attempt() -> None:
    job = leased(make())
    told = transitions.reported(job, lease="L", output_bytes=10)
    assert told.live_attempt is not None
    assert told.live_attempt.output_bytes == 10
    assert transitions.reported(told, lease="L", output_bytes=10) is told


def test_the_state_of_a_job_follows_from_its_steps() -> None:
    steps = make(2).steps
    assert derive_state(steps, killed=False) == "pending"
    assert derive_state(leased(make()).steps, killed=True) == "running"
    assert derive_state(ended(leased(make())).steps, killed=False) == "running"


class Jobs(RuleBasedStateMachine):
    """The model: how many commands have run, whether one runs, whether an end was asked for, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.job = make(1)
        self.count = self.done = self.leases = 0
        self.running = self.asked = False
        self.final: str | None = None
        self.codes: list[str] = []

    @initialize(count=st.integers(1, 5))
    def begin(self, count: int) -> None:
        self.job, self.count = make(count), count

    @precondition(lambda self: self.final is None and not self.running and not self.asked)
    @rule()
    def lease(self) -> None:
        self.leases += 1
        self.job = leased(self.job, f"L{self.leases}")
        self.running = True

    @precondition(lambda self: self.running)
    @rule()
    def started(self) -> None:
        lease = f"L{self.leases}"
        self.job = transitions.started(self.job, lease=lease, pid=1, pid_start="1", at=1.0)

    @precondition(lambda self: self.running)
    @rule(outcome=st.sampled_from(["ok", "fail", "timeout", "killed", "lost", "spawn_failed", "output_limit"]))
    def finish(self, outcome: Outcome) -> None:
        code = {"ok": 0, "fail": 2}.get(outcome)
        self.job = ended(self.job, outcome, lease=f"L{self.leases}", exit_code=code)
        self.codes.append("-1" if code is None else str(code))
        self.running = False
        if outcome == "ok":
            self.done += 1
        if self.asked or outcome == "killed":
            self.final = "killed"
        elif outcome != "ok":
            self.final = "error"
        elif self.done == self.count:
            self.final = "complete"

    @precondition(lambda self: self.final is None)
    @rule()
    def kill(self) -> None:
        self.job = transitions.kill(self.job, by="x", now=1.0)
        self.asked = True
        if not self.running:
            self.final = "killed"

    @rule(lease=st.sampled_from(["L0", "wrong"]))
    def late_result(self, lease: str) -> None:
        with pytest.raises(StaleTransition):
            ended(self.job, lease=lease)

    @invariant()
    def state_is_the_models(self) -> None:
        begun = self.running or self.codes
        expected = self.final or ("running" if begun else "pending")
        assert self.job.state == expected
        assert self.job.final == (self.final is not None)
        assert (self.job.live_attempt is not None) == self.running
        assert [step.return_code for step in self.job.steps if step.return_code] == self.codes
        waits = self.final is None and not self.running and not self.asked
        assert claimable(self.job) == (self.done if waits else None)
        assert (self.job.finished_at is not None) == self.job.final
        if self.job.final:
            assert all(step.state in {"ok", "failed", "killed", "skipped"} for step in self.job.steps)


Jobs.TestCase.settings = settings(max_examples=150, stateful_step_count=20, deadline=None)
TestJobs = Jobs.TestCase
