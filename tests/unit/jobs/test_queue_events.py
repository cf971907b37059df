from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

from sysadmd.config import schemas_root
from sysadmd.jobs.queue_events import EVENTS, STATUS
from sysadmd.jobs.spec import JobSpec, StepSpec
from sysadmd.jobs.views import End
from tests.unit.jobs.queueing import TRANSFER, WORKER, Bench, bench, task


def schema(topic: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((schemas_root() / "events" / f"{topic}.json").read_bytes())
    return found


def check(topic: str, records: list[dict[str, Any]]) -> None:
    validator = jsonschema.Draft202012Validator(schema(topic))
    for record in records:
        validator.validate({"namespace": "events", "name": topic, "id": "none", "args": record})


async def busy(b: Bench) -> None:
    """A little of everything."""
    jobs = await b.queue.enqueue_many([task(tries=2, ext_id="x"), task(), task()], owner="o")
    await b.run("fail", error={"exception": "E", "message": "m", "traceback": ["t"]})
    await b.run("deferred", error={"message": "later"})
    await b.queue.kill([job.id for job in jobs], "me")
    await b.queue.restart(jobs[2].id, "me")
    await b.queue.remove([job.id for job in jobs], "me")
    spec = JobSpec(kind="transfer", name="workqueue.COPY", steps=[StepSpec(type="COPY", size=7)])
    await b.queue.enqueue(spec, owner="o")
    (claim,) = await b.queue.claim(WORKER, 1, TRANSFER)
    await b.queue.started(claim.lease)
    await b.queue.progress(claim.lease, 0.5, None, {"transferred": 3})
    await b.look(2)
    await b.queue.finish(claim.lease, End(outcome="ok"))


async def test_every_record_is_what_its_schema_says(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await busy(b)
        queue, transfers = b.told("queue"), b.told("workqueue")
        assert {record["event"] for record in transfers} == {"job", "element"}
        check("queue", queue)
        check("workqueue", transfers)


async def test_an_event_says_why_without_the_traceback(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await busy(b)
        (failed,) = [record for record in b.told() if record["event"] == "failed_job"]
        assert failed["detail"] == {"outcome": "fail", "error": {"exception": "E", "message": "m"}}


def test_the_events_are_those_of_the_schema() -> None:
    change = schema("queue")["properties"]["args"]["oneOf"][0]
    assert set(change["properties"]["event"]["enum"]) == EVENTS


def test_each_status_is_a_word_of_the_clients() -> None:
    assert set(STATUS.values()) == {"NEW", "SUBMITTED", "RUNNING", "DONE", "FAILED"}
