"""The queue's store against the rules, whatever happens in whatever order: what is counted is what is there."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import select

from sysadmd.errors import Conflict
from sysadmd.jobs import claiming, controlling, ending, enqueueing, flagging, upkeep
from sysadmd.jobs.claiming import ClaimRequest
from sysadmd.jobs.counters import REASONS, Counters, state_of
from sysadmd.jobs.enqueueing import TakenKeys
from sysadmd.jobs.ids import job_ids
from sysadmd.jobs.spec import JobSpec, StepSpec, checked
from sysadmd.jobs.turn import Turn
from sysadmd.jobs.views import End, Worker
from sysadmd.store import Store
from sysadmd.store.tables import attempt, job, job_count, step

T = TypeVar("T")
BOTH = frozenset({"task", "transfer"})
WORKERS = [Worker("a@h", "h", 1.0), Worker("b@h", "h", 1.0)]


class Queue(RuleBasedStateMachine):
    """Turns on a store. `open` are the leases that workers believe to hold, `over` those that they gave back."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.store = Store.open(self.path / "x.db")
        self.now, self.ids = 1000.0, job_ids()
        self.open: list[str] = []
        self.over: list[str] = []
        self.jobs: list[str] = []

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.path)

    def turn(self, act: Callable[[Turn], T]) -> T:
        def write(connection: Any) -> T:
            made = Turn(connection, now=self.now, ids=self.ids, lease_seconds=30.0)
            result = act(made)
            made.finish()
            return result

        return self.store.write_now(write)

    def one(self, data: Any, of: list[str]) -> str:
        return str(data.draw(st.sampled_from(of))) if of else "none"

    @rule(
        stages=st.lists(st.integers(0, 2), max_size=4),
        tries=st.integers(1, 2),
        priority=st.integers(-1, 1),
        most=st.sampled_from([None, 1]),
        later=st.booleans(),
    )
    def enqueue(self, stages: list[int], tries: int, priority: int, most: int | None, later: bool) -> None:
        kind = "transfer" if stages else "task"
        spec = checked(
            JobSpec(
                kind="transfer" if stages else "task",
                name=f"{kind}.{most}",
                steps=[StepSpec(type="COPY", stage=stage) for stage in stages],
                tries=tries,
                priority=priority,
                max_parallel=most,
                retry_delay=20.0,
                defer_delay=10.0,
                defer_max=25.0,
                run_after=self.now + 15 if later else None,
            )
        )
        self.jobs += [view.id for view in self.turn(lambda t: enqueueing.enqueue(t, TakenKeys(t, [spec]), [spec], "o"))]

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 4))
    def claim(self, worker: Worker, limit: int) -> None:
        claims = self.turn(lambda t: claiming.claim(t, ClaimRequest(worker, limit, BOTH)))
        assert len(claims) <= limit
        ranks = [(not claim.job.force, -claim.job.priority, claim.job.seq) for claim in claims]
        assert ranks == sorted(ranks)
        self.open += [claim.lease for claim in claims]

    @rule(data=st.data())
    def start(self, data: Any) -> None:
        lease = self.one(data, self.open)
        self.turn(lambda t: ending.started(t, lease, 1, "1"))

    @rule(
        data=st.data(),
        outcome=st.sampled_from(["ok"] * 5 + ["fail"] * 3 + ["deferred"] * 2 + ["killed", "start_failed", "timeout"]),
        grow=st.integers(0, 2),
    )
    def finish(self, data: Any, outcome: str, grow: int) -> None:
        lease = self.one(data, self.open)
        new = tuple(StepSpec(type="COPY", stage=3) for _ in range(grow))
        if self.turn(lambda t: ending.finish(t, lease, End(outcome=outcome, expand=new))):
            self.over.append(lease)
        if lease in self.open:
            self.open.remove(lease)

    @rule(data=st.data())
    def finish_again(self, data: Any) -> None:
        if self.over:
            lease = self.one(data, self.over)
            assert not self.turn(lambda t: ending.finish(t, lease, End(outcome="ok")))
            assert not self.turn(lambda t: ending.renew(t, lease))

    @rule(data=st.data(), what=st.sampled_from(["kill", "remove", "restart", "retry"]))
    def control(self, data: Any, what: str) -> None:
        if not self.jobs:
            return
        job_id = self.one(data, self.jobs)
        try:
            if what == "kill":
                self.turn(lambda t: controlling.kill(t, [job_id], "me"))
            elif what == "remove":
                self.turn(lambda t: controlling.remove(t, [job_id], "me"))
            elif what == "retry":
                self.turn(lambda t: controlling.retry(t, job_id, "me"))
            else:
                found = self.turn(lambda t: enqueueing.restart(t, job_id, "me"))
                self.jobs += [found] if found != job_id else []
        except Conflict:
            pass

    @rule(seconds=st.sampled_from([1.0, 12.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.turn(upkeep.make_due)

    @rule()
    def reap(self) -> None:
        late = self.turn(lambda t: flagging.expired_leases(t, 30.0))
        assert self.turn(lambda t: ending.reap(t, sorted(late))) == len(late)
        self.over += sorted(late)
        self.open = [lease for lease in self.open if lease not in late]

    @rule()
    def flag(self) -> None:
        self.turn(flagging.flag)

    def rows(self, table: Any) -> list[Any]:
        return list(self.store.read_now(lambda connection: connection.execute(select(table)).all()))

    @invariant()
    def the_counts_are_what_is_there(self) -> None:
        found: Counter[str] = Counter()
        for row in self.rows(job):
            if row.archived_at is None:
                found[row.state] += 1
        counted: Counter[str] = Counter()
        sums = {}
        for row in self.rows(job_count):
            if row.name:
                counted[row.state] += row.n
            else:
                sums[row.state] = row.n
        assert +counted == found
        assert {state: n for state, n in sums.items() if n} == found

    @invariant()
    def each_job_is_what_its_steps_are(self) -> None:
        mine: dict[str, list[Any]] = {}
        for row in self.rows(step):
            mine.setdefault(row.job_id, []).append(row)
        for row in self.rows(job):
            counters = msgspec.convert(row.counters, Counters)
            states = [one.state for one in mine[row.id]]
            waiting = [one for one in mine[row.id] if one.state in REASONS]
            assert counters.total == len(states)
            assert counters.live == sum(state in ("leased", "running") for state in states)
            assert counters.left == len(waiting) + counters.live
            assert all(one.tries_used <= one.tries_max for one in mine[row.id])
            if row.state not in ("killed", "inactive"):
                assert row.state == state_of(counters)
            for one in waiting:
                assert (one.claim is not None) == (counters.total > 1)
            self.check_due(row, counters, waiting)

    def check_due(self, row: Any, counters: Counters, waiting: list[Any]) -> None:
        """What may be claimed is ready, or will be looked at in time."""
        due = [one.run_after for one in waiting if one.stage == counters.stage]
        if due and row.kill_requested_at is None and row.archived_at is None:
            assert row.ready_key is not None or row.due_at is not None
            assert row.ready_key is not None or row.due_at <= max(min(due), self.now)
        else:
            assert row.ready_key is None
            assert row.due_at is None
        assert (row.live is None) == (row.archived_at is not None)

    @invariant()
    def each_step_runs_once_at_a_time(self) -> None:
        rows = self.rows(attempt)
        running = [(row.job_id, row.idx) for row in rows if row.lease_until is not None]
        assert len(running) == len(set(running))
        assert all((row.outcome is None) == (row.lease_until is not None) for row in rows)


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
