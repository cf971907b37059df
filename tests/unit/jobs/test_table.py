from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from sysadmd.jobs import table, transitions
from sysadmd.jobs.ids import job_ids, new_lease
from sysadmd.jobs.model import Job, Outcome
from sysadmd.jobs.transitions import End, StaleTransition
from sysadmd.store import Store
from sysadmd.store.tables import lane as lanes
from sysadmd.store.tables import step as steps
from tests.unit.store.plans import plans

ids = job_ids()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "sysadmd.db")
    yield opened
    opened.close()


def make(name: str = "p", count: int = 2, lane: str = "no_queue") -> Job:
    commands = [(f"c {n}", ("c", str(n))) for n in range(count)]
    extra = {"pkg_log": ""}
    settings = {"cwd": "/tmp", "user": "nobody", "timeout": 3.0, "no_new_privs": False}
    return transitions.new_job(
        id=ids(1e9), ext_id=name, lane=lane, owner="o", commands=commands, now=1.5, extra=extra, **settings
    )


def leased(job: Job) -> Job:
    return transitions.lease(job, lease=new_lease(), instance="i", output_path="f", now=2.0)


def ended(job: Job, outcome: Outcome = "ok") -> Job:
    attempt = job.live_attempt
    assert attempt is not None
    end = End(outcome=outcome, exit_code=0, usage={"user": 1.0}, output_bytes=7, started_at=2.5, finished_at=3.5)
    return transitions.finish(job, end, lease=attempt.lease, now=4.0)


def save(store: Store, *changes: tuple[Job | None, Job]) -> None:
    store.write_now(lambda connection: table.save(connection, changes))


def test_a_job_comes_back_as_it_was_stored(store: Store) -> None:
    job = make()
    save(store, (None, job))
    assert store.read_now(table.load_live) == [job]


def test_several_transitions_between_two_saves_are_one_row_each(store: Store) -> None:
    job = make()
    run = leased(ended(leased(job)))
    save(store, (None, run))
    assert store.read_now(table.load_live) == [run]
    end = ended(run)
    save(store, (run, end))
    assert store.read_now(table.load_live) == []
    assert store.read_now(table.load_finished) == [end]


def test_only_steps_that_changed_are_written(store: Store) -> None:
    job = make(count=3)
    save(store, (None, job))
    store.write_now(lambda c: c.execute(steps.update().where(steps.c.idx == 2).values(type="kept")))
    save(store, (job, leased(job)))
    kinds = store.read_now(lambda c: c.execute(select(steps.c.type).order_by(steps.c.idx)).scalars().all())
    assert list(kinds) == ["command", "command", "kept"]


def test_an_attempt_under_another_lease_is_not_touched(store: Store) -> None:
    job = make()
    first, second = leased(job), leased(job)
    save(store, (None, first))
    with pytest.raises(StaleTransition, match="lease"):
        save(store, (second, ended(second)))
    assert store.read_now(table.load_live) == [first]


def test_a_name_is_unique_among_jobs_that_are_not_final(store: Store) -> None:
    one = make()
    save(store, (None, one))
    with pytest.raises(IntegrityError):
        save(store, (None, make()))
    save(store, (one, transitions.kill(one, by="x", now=1.0)))
    save(store, (None, make()))


def test_the_newest_job_of_a_name_is_found(store: Store) -> None:
    first = transitions.kill(make(), by="x", now=1.0)
    second = make()
    save(store, (None, first), (None, second))
    found = store.read_now(lambda connection: table.find_process(connection, "p"))
    assert found == second
    assert store.read_now(lambda connection: table.find_process(connection, "q")) is None


def test_finished_jobs_are_the_newest_of_a_lane_oldest_first(store: Store) -> None:
    done = [transitions.kill(make(f"p{n}", lane="pkg_queue"), by="x", now=1.0) for n in range(4)]
    other = transitions.kill(make("other"), by="x", now=1.0)
    save(store, *((None, job) for job in (*done, other)))
    assert store.read_now(lambda connection: table.load_finished(connection, "pkg_queue", rows=2)) == done[2:]


def test_lanes_are_made_what_the_configuration_says_and_old_ones_stay(store: Store) -> None:
    store.write_now(lambda connection: table.store_lanes(connection, {"pkg_queue": 2, "backup": 3}))
    rows = store.read_now(lambda c: {r.name: r.max_running for r in c.execute(select(lanes))})
    assert rows == {"no_queue": None, "pkg_queue": 2, "iocage_queue": 1, "backup": 3, "default": None, "transfer": None}


@given(st.lists(st.sampled_from(["lease", "started", "ok", "fail", "kill"]), max_size=12), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_saving_differences_stores_what_saving_the_whole_would(store: Store, moves: list[str], at_once: bool) -> None:
    stored: Job | None = None
    job = make(ids(1e9), count=3)
    for move in moves:
        if not at_once:
            save(store, (stored, job))
            stored = job
        attempt = job.live_attempt
        if move == "kill" and not job.final:
            job = transitions.kill(job, by="x", now=1.0)
        elif move == "lease" and transitions.claimable(job) is not None:
            job = leased(job)
        elif move == "started" and attempt is not None:
            job = transitions.started(job, lease=attempt.lease, pid=5, pid_start="9", at=2.0)
        elif move in {"ok", "fail"} and attempt is not None:
            job = ended(job, "ok" if move == "ok" else "fail")
    save(store, (stored, job))
    assert store.read_now(lambda connection: table.find_process(connection, job.ext_id)) == job


def test_the_statements_compile_for_postgresql_too() -> None:
    for statement in (table._INSERT_JOB, table._UPDATE_JOB, table._UPDATE_ATTEMPT):
        text, order = statement._compile(postgresql.dialect())  # type: ignore[no-untyped-call]
        assert "%(" in text
        assert order is None


def test_ids_are_24_digits_that_sort_by_time_and_by_order() -> None:
    source = job_ids()
    made = [source(100.0), source(100.9), source(101.0), source(2e9)]
    assert made == sorted(made)
    assert all(len(one) == 24 and int(one, 16) for one in made)
    assert len({new_lease() for _ in range(10)}) == 10


def test_live_jobs_are_found_without_reading_the_finished_ones(store: Store) -> None:
    found = plans(store, table.load_live)
    assert "USING INDEX uq_job_" in found
    assert "SCAN job\n" not in found
    assert "sqlite_autoindex_job" not in found


def test_a_process_is_found_by_its_id_without_reading_the_others(store: Store) -> None:
    found = plans(store, lambda connection: table.find_process(connection, "p"))
    assert "SEARCH job USING INDEX ix_job_ext_id_seq (ext_id=?)" in found
    assert "SCAN" not in found


def test_the_newest_of_one_process_id_is_found(store: Store) -> None:
    first = leased(make(count=1))
    done = ended(first)
    second = make(count=1)
    save(store, (None, done))
    save(store, (None, second))
    assert store.read_now(lambda connection: table.find_process(connection, "p")) == second
    assert store.read_now(table.load_finished) == [done]
