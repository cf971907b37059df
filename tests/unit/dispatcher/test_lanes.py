from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sysadmd.dispatcher.lanes import Lanes
from sysadmd.jobs.model import Job
from sysadmd.jobs.transitions import lease, new_job


def make(id: str, lane: str) -> Job:
    return new_job(id=id, ext_id=id, lane=lane, owner="o", commands=[("c", ("c",))], now=1.0)


def positions(lanes: Lanes, name: str) -> list[str]:
    return [job_id for lane in lanes if lane.name == name for job_id, _ in lane.positions()]


def test_a_serial_lane_runs_one_after_the_other_in_order() -> None:
    lanes = Lanes({"s": 1}, 4)
    jobs = [make(name, "s") for name in "abc"]
    for job in jobs:
        lanes.add(job)
    assert lanes.grant() == ["a"]
    assert lanes.grant() == []
    assert positions(lanes, "s") == ["a", "b", "c"]
    lanes.remove(jobs[0])
    assert lanes.grant() == ["b"]


def test_a_lane_without_a_number_takes_the_parallel_one() -> None:
    lanes = Lanes({"p": None}, 2)
    for name in "abc":
        lanes.add(make(name, "p"))
    assert lanes.grant() == ["a", "b"]


def test_one_that_waits_may_leave() -> None:
    lanes = Lanes({"s": 1}, 4)
    jobs = [make(name, "s") for name in "abc"]
    for job in jobs:
        lanes.add(job)
    lanes.grant()
    lanes.remove(jobs[1])
    lanes.remove(jobs[0])
    assert lanes.grant() == ["c"]


def test_a_job_that_runs_keeps_its_slot_in_a_lane_that_has_become_smaller() -> None:
    lanes = Lanes({"s": 1}, 4)
    running = [lease(make(name, "s"), lease="L", instance="i", output_path="f", now=1.0) for name in "ab"]
    lanes.rebuild([*running, make("c", "s")])
    assert lanes.grant() == []
    lanes.remove(running[0])
    assert lanes.grant() == []
    lanes.remove(running[1])
    assert lanes.grant() == ["c"]


def test_a_lane_that_is_no_longer_configured_takes_nothing_new_and_finishes_its_jobs() -> None:
    lanes = Lanes({"old": 2}, 4)
    lanes.add(make("a", "old"))
    lanes.configure({"new": 1}, 4)
    assert not lanes.knows("old")
    assert lanes.names() == ["new"]
    assert lanes.grant() == ["a"]


def test_a_stored_job_of_an_unknown_lane_runs_serially() -> None:
    lanes = Lanes({}, 4)
    lanes.rebuild([make("a", "gone"), make("b", "gone")])
    assert lanes.grant() == ["a"]


def test_a_changed_number_counts_at_once() -> None:
    lanes = Lanes({"s": 1}, 4)
    for name in "abc":
        lanes.add(make(name, "s"))
    lanes.grant()
    lanes.configure({"s": 3}, 4)
    assert lanes.grant() == ["b", "c"]


class LanesMachine(RuleBasedStateMachine):
    """Beside a list: the first `slots` of those that are in, in the order in which they came, hold slots."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes({"l": 2}, 9)
        self.present: list[Job] = []
        self.granted: set[str] = set()
        self.made = 0

    @rule()
    def add(self) -> None:
        self.made += 1
        job = make(str(self.made), "l")
        self.lanes.add(job)
        self.present.append(job)

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.present))
        self.lanes.remove(job)
        self.present.remove(job)
        self.granted.discard(job.id)

    @rule()
    def grant(self) -> None:
        new = self.lanes.grant()
        waiting = [job.id for job in self.present if job.id not in self.granted]
        assert new == waiting[: max(0, 2 - len(self.granted))]
        self.granted.update(new)

    @invariant()
    def at_most_two_hold_slots(self) -> None:
        assert len(self.granted) <= 2
        assert sorted(positions(self.lanes, "l")) == sorted(job.id for job in self.present)


LanesMachine.TestCase.settings = settings(max_examples=60, deadline=None)
TestLanes = LanesMachine.TestCase
