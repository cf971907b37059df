from __future__ import annotations

from sysadmd.jobs.ending import Progress
from sysadmd.jobs.holdings import Holding, Holdings


def holding(lease: str, job: str = "j", until: float = 10.0) -> Holding:
    return Holding(lease, job, "demo", "w@h", until, 0.0)


def test_a_worker_runs_what_it_holds() -> None:
    held = Holdings()
    held.add(holding("a"))
    held.add(holding("b", "k"))
    assert held.running("w@h") == {"demo": 2}
    assert held.count("w@h") == len(held) == 2
    held.drop("a")
    held.drop("a")
    assert held.running("w@h") == {"demo": 1}
    held.drop("b")
    assert held.running("w@h") == {}
    assert held.running("other") == {}


def test_what_is_over_is_held_and_runs_no_more() -> None:
    held = Holdings()
    held.add(holding("a"))
    held.add(holding("b"))
    held.over("a")
    held.over("a")
    held.over("none")
    assert held.running("w@h") == {"demo": 1}
    assert "a" in held
    held.drop("a")
    assert held.running("w@h") == {"demo": 1}


def test_the_end_of_a_job_is_news_once() -> None:
    held = Holdings()
    held.add(holding("a"))
    held.add(holding("b"))
    assert sorted(held.end("j")) == ["a", "b"]
    assert held.end("j") == []
    assert held.end("none") == []


def test_a_lease_is_over_after_its_time() -> None:
    held = Holdings()
    held.add(holding("a", until=10.0))
    held.add(holding("b", until=20.0))
    assert held.expired(15.0) == ["a"]


def test_progress_waits_for_its_time() -> None:
    held = Holdings()
    held.add(holding("a"))
    one = held.get("a")
    assert one is not None
    assert held.unsaid(5.0, 1.0) == []
    one.said, one.written = Progress(5.0, 0.5), 4.5
    assert held.unsaid(5.0, 1.0) == []
    assert held.unsaid(5.5, 1.0) == [one]
