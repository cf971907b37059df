from __future__ import annotations

import pytest

from sysadmd.jobs import presence
from sysadmd.jobs.holdings import Holding, Holdings
from sysadmd.jobs.presence import Presence
from sysadmd.jobs.views import Worker

TASK = frozenset({"task"})


def worker(name: str = "w", started_at: float = 1.0) -> Worker:
    return Worker(f"{name}@h", "h", started_at)


def test_a_worker_that_claims_is_listed() -> None:
    seen = Presence(Holdings())
    seen.seen(worker(), TASK, 5.0)
    (listed,) = seen.listed(6.0)
    assert (listed.id, listed.kinds, listed.heartbeat_at, listed.running) == ("w@h", ("task",), 5.0, 0)


def test_a_silent_worker_is_listed_while_it_runs_something() -> None:
    held = Holdings()
    seen = Presence(held)
    seen.seen(worker(), TASK, 5.0)
    held.add(Holding("a", "j", "demo", "w@h", 10.0, 0.0))
    assert len(seen.listed(5.0 + presence.SILENT * 2)) == 1
    held.drop("a")
    assert seen.listed(5.0 + presence.SILENT * 2) == []


def test_a_halt_is_for_those_that_were_there() -> None:
    seen = Presence(Holdings())
    assert not seen.halted(worker())
    seen.halt(10.0)
    assert seen.halted(worker(started_at=10.0))
    assert not seen.halted(worker(started_at=10.1))


def test_no_more_workers_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "WORKERS_MAX", 2)
    seen = Presence(Holdings())
    for name in "abc":
        seen.seen(worker(name), TASK, 5.0)
    assert [one.id for one in seen.listed(5.0)] == ["b@h", "c@h"]
