"""A job of ours as core4's document."""

from __future__ import annotations

import json

from sysadmd.jobs.views import AttemptView, JobView
from sysadmd.listen.core4.records import HIGH_STATES, document, row

JOB = JobView(
    id="a" * 24,
    seq=7,
    kind="task",
    name="a.Job",
    lane="default",
    owner="ada",
    state="running",
    created_at=1_610_618_400.0,
    args={"path": "/secret"},
    tries_max=3,
    tries_used=1,
    trial=2,
    started_at=1_610_618_410.0,
    progress=0.5,
    progress_msg="half of /secret",
    worker="w@vm",
    last_error={"exception": "ValueError", "message": "/secret"},
    zombie_at=1_610_618_420.0,
)
ATTEMPT = AttemptView(job_id=JOB.id, idx=0, n=2, worker="w@vm", host="vm", created_at=1.0, pid=42)


def test_a_document_has_the_properties_of_a_job() -> None:
    shown = document(JOB, [ATTEMPT])
    assert (shown["_id"], shown["name"], shown["state"], shown["args"]) == (JOB.id, "a.Job", "running", JOB.args)
    assert (shown["attempts"], shown["attempts_left"], shown["trial"]) == (3, 2, 2)
    assert shown["enqueued"]["at"] == "2021-01-14T10:00:00.000000"
    assert shown["enqueued"]["username"] == "ada"
    assert (shown["locked"]["pid"], shown["locked"]["hostname"], shown["locked"]["worker"]) == (42, "vm", "w@vm")
    assert shown["prog"] == {"value": 0.5, "message": "half of /secret"}
    assert (shown["zombie_at"], shown["killed_at"]) == ("2021-01-14T10:00:20.000000", None)
    assert shown["journal"] is False


def test_a_job_that_does_not_run_is_not_locked() -> None:
    waiting = JobView(id="b" * 24, seq=1, kind="task", name="a", lane="x", owner="y", state="pending", created_at=1.0)
    assert document(waiting)["locked"] is None
    assert document(waiting)["prog"]["value"] == 0.0


def test_a_line_of_the_queue_has_what_a_table_shows() -> None:
    shown = row(JOB, 1_610_618_460.0, readable=True)
    assert (shown["qual_name"], shown["highstate"], shown["age"]) == ("a.Job", "running", 60.0)
    assert shown["flag"] == {"zombie": True, "nonstop": False, "removed": False, "killed": False}
    assert "name" not in shown


def test_a_line_of_a_foreign_job_tells_that_there_is_one() -> None:
    shown = row(JOB, 1_610_618_460.0, readable=False)
    assert (shown["qual_name"], shown["args"], shown["state"]) == ("UnauthorizedJob", None, "running")
    text = json.dumps(shown)
    assert not [word for word in ("a.Job", "secret", "ada", "ValueError") if word in text]


def test_every_state_is_waiting_running_stopped_or_complete() -> None:
    assert set(HIGH_STATES.values()) == {"waiting", "running", "stopped", "complete"}
    assert len(HIGH_STATES) == 8
