"""core4's jobs over the real queue and its worker: enqueue, look, follow, end, restart, and who may."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from sysadmd.errors import Unavailable
from sysadmd.listen.sse import StreamOutlet
from sysadmd.rpc.auditing import Noted
from tests.integration.core4_client import HISTORY, Api, logged_in, user
from tests.integration.task_scenes import Scene, scene
from tests.integration.test_task_workers import DUMMY
from tests.integration.test_websocket_listener import no_sessions

HANDLERS = "api://core4.api.v1.request.*"
SPEAKS, FAILS = "sample.speaks", "sample.fails"


async def enqueued(api: Api, name: str = DUMMY, **args: Any) -> str:
    job_id: str = await api.data("POST", "job", json={"qual_name": name, "args": args, "follow": False})
    return job_id


async def until(api: Api, job_id: str, *states: str) -> dict[str, Any]:
    with anyio.fail_after(40):
        while True:
            job: dict[str, Any] = (await api.get(f"job/{job_id}"))["data"]
            if job["state"] in states:
                return job
            await anyio.sleep(0.05)


@contextlib.asynccontextmanager
async def idle(directory: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Scene]:
    """A server whose worker takes nothing, so that jobs wait."""
    async with scene(directory, monkeypatch, **options) as one:
        await one.live.app.queue.pause(None, "test")
        yield one


async def blocks(api: Api, verb: str, path: str, **options: Any) -> list[tuple[str, Any]]:
    """The events of a stream, until it ends."""
    found: list[tuple[str, Any]] = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {api.token}"}) as http:
        url = f"{api.live.rest_url}/core4/api/v1/{path}"
        async with asyncio.timeout(40), http.request(verb, url, **options) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream"), await answer.text()
            name = ""
            async for line in answer.content:
                key, _, value = line.decode().rstrip("\n").partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    found.append((name, json.loads(value)))
    return found


# From the beginning to the end


async def test_a_job_is_enqueued_runs_and_is_found_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        job_id = await enqueued(admin, SPEAKS)
        job = await until(admin, job_id, "complete")
        assert (job["name"], job["journal"], job["enqueued"]["username"]) == (SPEAKS, True, "admin")
        assert (job["attempts_left"], job["last_error"]) == (0, None)
        assert (await admin.get("job"))["data"] == []
        log = await admin.get(f"job/log/{job_id}", per_page=100)
        assert any("from a grandchild" in line["message"] for line in log["data"])
        totals = [row["total"] for row in (await admin.get("jobs/history", sort=1))["data"]]
        assert totals == [1, 1, 1, 0]


async def test_a_job_is_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        told = await blocks(admin, "POST", "job", json={"qual_name": SPEAKS})
        names = [name for name, _ in told]
        assert (names[0], names[-1]) == ("state", "close")
        assert told[-1][1]["state"] == "complete"
        assert "from a grandchild" in "".join(data["message"] for name, data in told if name == "log")
        again = await blocks(admin, "GET", f"job/follow/{told[-1][1]['_id']}")
        assert again[-1][0] == "close"
        await no_sessions(one.live)


async def test_a_stream_whose_beginning_is_not_recorded_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)

        async def lost(noted: Noted) -> None:
            raise Unavailable("done, but the audit trail could not be written")

        monkeypatch.setattr(Noted, "durable", lost)
        assert (await admin.post("job", qual_name=DUMMY))["code"] == 503
        await no_sessions(one.live)


async def test_a_stream_ends_with_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        job_id = await enqueued(admin)
        async with asyncio.TaskGroup() as tasks:
            stream = tasks.create_task(blocks(admin, "GET", f"job/follow/{job_id}"))
            while not any(isinstance(session.outlet, StreamOutlet) for session in one.live.app.engine.sessions):
                await anyio.sleep(0.02)
            await admin.post("logout")
        assert stream.result()[-1][0] == "close"
        assert "error" in stream.result()[-1][1]


async def test_the_older_way_to_enqueue_takes_arguments_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        for path in ("jobs/enqueue", "enqueue"):
            body = {"sleep": 3 if path == "enqueue" else 4, "attempts": 5, "priority": -2}
            job = await admin.data("POST", path, params={"name": DUMMY, "error_time": "7"}, json=body)
            assert job["args"] == {"sleep": body["sleep"]}
            assert (job["attempts"], job["priority"], job["error_time"]) == (5, -2, 7.0)


@pytest.mark.parametrize(
    "body,code",
    [
        ({}, 400),
        ({"qual_name": "no.such.Job"}, 404),
        ({"qual_name": DUMMY, "args": {"sleeep": 1}}, 400),
        ({"qual_name": DUMMY, "args": [1]}, 400),
        ({"qual_name": DUMMY, "attempts": 0}, 400),
        ({"qual_name": DUMMY, "attempts": "many"}, 400),
        ({"qual_name": DUMMY, "chain": ["x"]}, 400),
        ({"qual_name": "x'); import os #"}, 404),
        ({"qual_name": ["a"]}, 400),
    ],
)
async def test_what_cannot_be_enqueued_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], code: int
) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        assert (await admin.post("job", follow=False, **body))["code"] == code
        assert (await admin.get("job"))["total_count"] == 0


async def test_an_equal_job_exists_only_as_long_as_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, one that failed long ago stood in the way for good."""
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        first = await enqueued(admin, sleep=1)
        again = await admin.post("job", qual_name=DUMMY, args={"sleep": 1}, follow=False)
        assert (again["code"], "exists" in again["error"]) == (400, True)
        await enqueued(admin, sleep=2)
        assert (await admin.put(f"job/kill/{first}"))["data"] is True
        await enqueued(admin, sleep=1)


async def test_a_waiting_job_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        job_id = await enqueued(admin)
        assert (await admin.put(f"job/kill/{job_id}"))["data"] is True
        assert (await admin.get(f"job/{job_id}"))["data"]["state"] == "killed"
        assert (await admin.put(f"job/kill/{job_id}"))["code"] == 400


async def test_a_running_job_is_killed_and_runs_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        job_id = await enqueued(admin, sleep=60)
        await until(admin, job_id, "running")
        assert (await admin.put(f"jobs/kill/{job_id}"))["data"] is True
        await until(admin, job_id, "killed")
        answer = (await admin.put(f"jobs/restart/{job_id}"))["data"]
        assert answer["old_id"] == job_id
        child = (await admin.get(f"job/{answer['new_id']}"))["data"]
        parent = (await admin.get(f"jobs/{job_id}"))["data"]
        assert (child["enqueued"]["parent_id"], parent["enqueued"]["child_id"]) == (job_id, answer["new_id"])
        assert child["args"] == {"sleep": 60}
        await admin.put(f"job/kill/{answer['new_id']}")


async def test_a_waiting_job_that_is_restarted_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        body = {"name": FAILS, "message": "no way", "attempts": 2, "error_time": 3600}
        job = await admin.data("POST", "jobs/enqueue", json=body)
        await until(admin, job["_id"], "failed")
        assert (await admin.put(f"job/restart/{job['_id']}"))["data"] == job["_id"]
        done = await until(admin, job["_id"], "error")
        assert (done["attempts_left"], done["last_error"]["message"]) == (0, "no way")


@pytest.mark.parametrize("verb,path", [("PUT", "job/remove/"), ("PUT", "jobs/delete/"), ("DELETE", "jobs/")])
async def test_a_job_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, path: str) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        job_id = await enqueued(admin)
        assert await admin.data(verb, path + job_id) is True
        assert (await admin.get("job"))["total_count"] == 0
        assert (await admin.get(f"job/{job_id}"))["data"]["journal"] is True
        assert (await admin.ask(verb, path + job_id))["code"] == 400


@pytest.mark.parametrize("job_id,code", [("f" * 24, 404), ("x", 400), ("F" * 24, 400), ("f" * 25, 400), ("$ne", 400)])
async def test_an_id_of_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job_id: str, code: int) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        for path in ("job/", "job/detail/", "job/log/", "job/follow/", "jobs/"):
            assert (await admin.get(path + job_id))["code"] == code
        for path in ("job/kill/", "job/remove/", "job/restart/", "jobs/delete/", "jobs/kill/", "jobs/restart/"):
            assert (await admin.put(path + job_id))["code"] == code


# Listings


async def test_the_queue_comes_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        ids = [await enqueued(admin, sleep=n) for n in range(5)]
        for verb, path in (("GET", "job"), ("POST", "job/queue"), ("GET", "jobs"), ("POST", "jobs")):
            page = await admin.ask(verb, path, params={"per_page": "2", "page": "1"})
            assert [row["_id"] for row in page["data"]] == ids[2:4]
            assert (page["total_count"], page["page_count"], page["count"]) == (5.0, 3, 2)
        last = await admin.get("job", per_page=2, page=-1)
        assert ([row["_id"] for row in last["data"]], last["page"]) == (ids[4:], 2)
        newest = await admin.get("job", sort="_id", order=-1, per_page=1)
        assert [row["_id"] for row in newest["data"]] == ids[4:]
        paired = await admin.post("job/queue", sort=[["_id", -1]], per_page=1)
        assert paired["data"][0]["_id"] == ids[4]
        assert (await admin.get("job", sort="name"))["code"] == 400


async def test_the_queue_is_filtered_by_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        killed, waits = await enqueued(admin, sleep=1), await enqueued(admin, SPEAKS)
        await admin.put(f"job/kill/{killed}")
        for wanted, expected in (({"state": "killed"}, killed), ({"name": SPEAKS}, waits)):
            page = await admin.get("job", filter=json.dumps(wanted))
            assert [row["_id"] for row in page["data"]] == [expected]
        for wrong in ({"$where": "1"}, {"state": {"$ne": ""}}, {"state": "none"}, {"args.sleep": 1}, {"owner": "x"}):
            assert (await admin.post("job/queue", filter=wrong))["code"] == 400


async def test_what_may_be_enqueued_is_listed_to_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        test = await user(one.live, "test", HANDLERS, f"job://{SPEAKS}/x", f"job://{DUMMY}/r")
        assert {DUMMY, SPEAKS} <= {row["_id"] for row in (await admin.get("job/list", per_page=1000))["data"]}
        assert [row["qual_name"] for row in (await test.get("job/list"))["data"]] == [SPEAKS]
        assert [row["_id"] for row in (await admin.get("job/list", search="*Dummy?ob"))["data"]] == [DUMMY]


async def test_the_time_buckets_of_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        for n in range(3):
            await enqueued(admin, sleep=n)
        page = await admin.get("queue/history", startDate="2020-01-01T00:00:00")
        assert [(row["pending"], row["total"]) for row in page["data"]] == [(3, 3)]
        assert (await admin.get("queue/history", startDate="2020-01-02", endDate="2020-01-01"))["code"] == 400
        assert (await admin.get("queue/history", endDate="2020-01-01"))["data"] == []


async def test_the_system_names_its_workers_and_whether_it_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        with anyio.fail_after(20):
            while not (state := (await admin.get("system"))["data"])["alive"]:
                await anyio.sleep(0.05)
        assert state["alive"][0]["_id"].startswith("server@")
        assert state["maintenance"] == {"system": False, "project": []}
        await one.live.app.queue.pause(None, "test")
        assert (await admin.get("system"))["data"]["maintenance"]["system"] is True


# Permissions, in both directions


async def test_foreign_jobs_are_masked_left_out_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        admin = await logged_in(one.live)
        foreign, own = await enqueued(admin, sleep=1), await enqueued(admin, SPEAKS)
        test = await user(one.live, "test", HANDLERS, f"job://{SPEAKS}/r")
        rows = {row["_id"]: row for row in (await test.get("job"))["data"]}
        assert {key: row["qual_name"] for key, row in rows.items()} == {foreign: "UnauthorizedJob", own: SPEAKS}
        assert rows[foreign]["args"] is None
        assert [row["_id"] for row in (await test.get("jobs"))["data"]] == [own]
        for path in ("job/", "job/detail/", "job/log/", "job/follow/", "jobs/"):
            assert (await test.get(path + foreign))["code"] == 403
        assert (await test.get("job/" + own))["data"]["name"] == SPEAKS
        assert (await test.get("job", filter=json.dumps({"name": DUMMY})))["code"] == 403
        for path in ("job/kill/", "job/remove/", "job/restart/", "jobs/delete/", "jobs/kill/", "jobs/restart/"):
            for job_id in (foreign, own):  # to see a job is not to run it
                assert (await test.put(path + job_id))["code"] == 403
        assert {row["state"] for row in (await admin.get("job"))["data"]} == {"pending"}


async def test_who_may_run_a_job_may_do_all_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        test = await user(one.live, "test", HANDLERS, f"job://{DUMMY}/x")
        job_id = await enqueued(test, sleep=1)
        assert (await test.get(f"job/{job_id}"))["data"]["enqueued"]["username"] == "test"
        assert (await test.get("job"))["data"][0]["qual_name"] == DUMMY
        assert (await test.put(f"job/kill/{job_id}"))["data"] is True
        assert (await test.put(f"job/restart/{job_id}"))["code"] == 200
        assert (await test.post("job", qual_name=SPEAKS, follow=False))["code"] == 403


async def test_a_job_and_its_handler_are_two_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with idle(tmp_path, monkeypatch) as one:
        jobs = await user(one.live, "jobs", "job://.*/x")
        handlers = await user(one.live, "handlers", HANDLERS, HISTORY)
        for api in (jobs, handlers):
            for name in (DUMMY, "no.such.Job", "core4.queue.helper.job.example.DummyJo"):
                assert (await api.post("job", qual_name=name, follow=False))["code"] == 403
                assert (await api.post("jobs/enqueue", name=name))["code"] == 403
        assert one.live.app.queue.counts() == {}


async def test_a_permission_does_not_match_by_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, it did, and the rest of the name was run as a program."""
    async with idle(tmp_path, monkeypatch) as one:
        test = await user(one.live, "test", HANDLERS, "job://sample.speaks/x")
        for name in ("sample.speaks2", "sample.speaks'); import os; os.abort() #", "sampleXspeaks", "sample.speaks.x"):
            assert (await test.post("job", qual_name=name, follow=False))["code"] == 403
        await enqueued(test, SPEAKS)
