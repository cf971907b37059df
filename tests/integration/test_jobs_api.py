"""The jobs of the queue over HTTP (`/api/v1/jobs`) and over a WebSocket, with the server's own worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.integration.apps import LiveApp, running_app

DUMMY = "core4.queue.helper.job.example.DummyJob"
JOBS = "/api/v1/jobs"
LATER = {"name": DUMMY, "args": {"sleep": 60}, "delay": 3600}


async def made(http: aiohttp.ClientSession, body: Any, **headers: str) -> dict[str, Any]:
    async with http.post(JOBS, json=body, headers=headers) as response:
        assert response.status == 202, await response.text()
        job: dict[str, Any] = (await response.json())["job"]
        assert response.headers["Location"] == f"{JOBS}/{job['id']}"
        return job


async def got(http: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with http.get(path) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def ended(http: aiohttp.ClientSession, location: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            job: dict[str, Any] = (await got(http, location))["job"]
            if job["state"] in {"complete", "killed", "error"}:
                return job
            await asyncio.sleep(0.05)


async def test_a_job_is_enqueued_shown_and_its_output_read_in_ranges(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        job = await made(http, {"name": DUMMY, "args": {"sleep": 0.1}})
        location = f"{JOBS}/{job['id']}"
        assert (await ended(http, location))["state"] == "complete"
        async with http.get(f"{location}/output") as response:
            text = await response.text()
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert "slept for 0.1 seconds" in text
        async with http.get(f"{location}/output?attempt=1", headers={"Range": "bytes=5-9"}) as response:
            assert (response.status, await response.text()) == (206, text[5:10])
            assert response.headers["Content-Range"] == f"bytes 5-9/{len(text)}"
        async with http.get(f"{location}/output", headers={"Range": "bytes=99999-"}) as response:
            assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{len(text)}")
        async with http.head(f"{location}/output") as response:
            assert (response.status, response.headers["Content-Length"]) == (200, str(len(text)))
        await got(http, f"{location}/output?attempt=7", 404)
        await got(http, f"{location}/output?step=x", 400)


async def test_a_list_has_pages_and_filters(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        for _ in range(3):
            await made(http, LATER)
        seen, path = [], f"{JOBS}?state=pending&limit=2"
        while path:
            async with http.get(path) as response:
                page = await response.json()
                seen += [job["seq"] for job in page["jobs"]]
                following = response.links.get("next")
                assert (page["next"] is None) == (following is None)
                path = URL(str(following["url"])).path_qs if following else ""
        assert seen == [3, 2, 1]
        assert (await got(http, f"{JOBS}?state=running,error&state=failed"))["jobs"] == []
        assert (await got(http, f"{JOBS}?archived=true"))["jobs"] == []
        assert len((await got(http, f"{JOBS}?archived=all&owner=admin&kind=task&name={DUMMY}"))["jobs"]) == 3


@pytest.mark.parametrize(
    "query", ["state=asleep", "limit=0", "limit=x", "cursor=x", "archived=maybe", "colour=red", "step=1"]
)
async def test_what_is_wrong_with_a_list_is_said(tmp_path: Path, query: str) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        assert (await got(http, f"{JOBS}?{query}", 400))["args"]["message"]


async def test_a_job_is_ended_taken_out_and_restarted(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        async with http.post("/queue/pause", json={"lane": "default"}) as response:
            assert response.status == 200  # what is restarted would run at once
        job = await made(http, LATER)
        async with http.post(f"{JOBS}/{job['seq']}/kill") as response:
            assert (response.status, (await response.json())["job"]["state"]) == (200, "killed")
        async with http.post(f"{JOBS}/{job['id'][:20]}/restart") as response:
            assert response.status == 202
            again = (await response.json())["job"]
            assert response.headers["Location"] == f"{JOBS}/{again['id']}"
        async with http.delete(f"{JOBS}/{again['id']}") as response:
            gone = (await response.json())["job"]
            assert (response.status, gone["state"], gone["archived_at"] is None) == (200, "killed", False)
        async with http.post(f"{JOBS}/{again['id']}/restart") as response:
            assert response.status == 409
        assert (await got(http, JOBS))["jobs"] == []


async def test_a_job_that_runs_is_ended(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        job = await made(http, {"name": DUMMY, "args": {"sleep": 600}})
        location = f"{JOBS}/{job['id']}"
        async with asyncio.timeout(30):
            while (await got(http, location))["job"]["state"] != "running":
                await asyncio.sleep(0.05)
        async with http.delete(location) as response:
            assert response.status in {200, 202}
        assert (await ended(http, location))["state"] == "killed"


async def test_a_request_that_is_sent_again_makes_one_job(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        jobs = [await made(http, LATER, **{"Idempotency-Key": "k"}) for _ in range(2)]
        assert jobs[0]["id"] == jobs[1]["id"]


async def test_secrets_among_the_arguments_of_a_task_are_not_audited(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        args = {"sleep": 1, "db_password": "hunter2", "apiToken": "hunter2"}
        await peer.request("queue", "enqueue", {"name": DUMMY, "args": args})
        found = (await peer.call("rpc", "audit", {"action": "list"}))["records"]
        records = [one for one in found if one.get("method") == "queue/enqueue"]  # the call, and that it was refused
        assert "hunter2" not in str(records)
        assert any(one.get("args", {}).get("args", {}).get("sleep") == 1 for one in records)


async def test_who_may_what(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        async with live.http() as http:
            job = await made(http, LATER)
        location = f"{JOBS}/{job['id']}"
        async with live.http(None) as stranger:
            for path in (JOBS, location, f"{location}/output"):
                await got(stranger, path, 401)
        async with live.http("view") as viewer:
            await got(viewer, location)
            async with viewer.get(f"{location}/output") as response:
                assert (response.status, await response.text()) == (200, "")
            for verb, path in (("POST", JOBS), ("DELETE", location), ("POST", f"{location}/restart")):
                async with viewer.request(verb, path, json=LATER) as response:
                    assert response.status == 403
        async with live.http("nobody-much") as nobody:
            for path in (JOBS, location, f"{location}/output"):
                await got(nobody, path, 403)


async def confined(live: LiveApp) -> None:
    """The account `view` reads jobs of no name, and may do everything else."""
    await live.app.auth.accounts.set_role("blind", ["call:@read", "call:@run", "event:*", "job:other.*:run"], ())
    await live.app.auth.accounts.set_roles("view", ["blind"])


async def test_a_foreign_job_has_no_name(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        await confined(live)
        async with live.http() as http:
            job = await made(http, LATER)
        async with live.http("view") as http:
            (row,) = (await got(http, JOBS))["jobs"]
            assert row == {"kind": "task", "name": "UnauthorizedJob", "state": "pending"}
            for path in (f"{JOBS}/{job['id']}", f"{JOBS}/1/output"):
                await got(http, path, 403)
            async with http.post(JOBS, json=LATER) as response:
                assert response.status == 403


async def test_events_of_jobs_are_told_by_the_readers_rights(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        await confined(live)
        async with live.connect() as admin, live.connect("view") as blind:
            for peer in (admin, blind):
                assert await peer.call("events", "subscribe", "queue") == {"subscribe": "queue"}
            job = (await admin.call("queue", "enqueue", LATER))["job"]

            def enqueued(event: dict[str, Any]) -> bool:
                return bool(event["args"]["event"] == "enqueue_job")

            told = (await admin.event(enqueued))["args"]
            assert (told["job"]["id"], told["job"]["name"], told["counts"]) == (job["id"], DUMMY, {"pending": 1})
            told = (await blind.event(enqueued))["args"]
            assert told["job"] == {"name": "UnauthorizedJob", "kind": "task", "state": "pending"}


async def test_a_transfer_is_asked_for_waited_for_and_read(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_text("x")
    sites = {"1": {"root": str(tmp_path / "files")}}
    async with running_app(tmp_path, sites=sites) as live, live.connect() as peer:
        job = (await peer.call("workqueue", "list", {"src_siteid": 1, "src_filepath": "/"}))["job"]
        assert job["status"] == "SUBMITTED"
        status = await peer.call("workqueue", "status", {"job": job["id"], "wait": 8})
        assert status == {"jobid": job["id"], "status": "DONE"}
        (element,) = (await peer.call("workqueue", "elements", {"job": job["id"], "limit": 10}))["elements"]
        assert "a" in str(element["listing"])
        for args in ({}, {"element": 0}, {"element": 0, "all": True}, {"element": 0, "attempt": 1}):
            (shown,) = (await peer.call("workqueue", "output", {"job": job["id"], **args}))["output"]
            assert shown["status"] == "DONE"
        page = await peer.call("workqueue", "jobs", {"limit": 1, "counts": True})
        assert (page["jobs"][0]["num_done"], page["next"]) == (1, job["id"])


async def test_the_resources_are_documented(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http("view") as http:
        paths = (await got(http, "/openapi.json"))["paths"]
        assert set(paths[JOBS]) == {"get"}
        assert set(paths[f"{JOBS}/{{job}}/output"]) == {"get"}


async def test_only_administrators_are_workers(tmp_path: Path) -> None:
    """Who claims a job gets its arguments, and says how it ended."""
    worker = {"id": "w@h", "host": "h", "started_at": 0, "slots": 1}
    calls: dict[str, dict[str, Any]] = {
        "claim": {"worker": worker, "limit": 1, "kinds": ["task"]},
        "renew": {"leases": ["0" * 32]},
        "finish": {"lease": "0" * 32, "end": {"outcome": "ok"}},
    }
    async with running_app(tmp_path, jobs__task_slots=0) as live:
        async with live.http() as http:
            job = await made(http, {"name": DUMMY})
        for account, code in (("oper", 403), (None, 401)):
            async with live.connect(account) as peer:
                for action, args in calls.items():
                    reply = await peer.request("queue", "work", {"action": action, **args})
                    assert reply["args"]["code"] == code, reply
        assert (await live.app.queue.attempts(job["id"])) == []
        async with live.connect() as admin:
            assert await admin.call("queue", "work", {"action": "finish", **calls["finish"]}) == {"held": False}
            (claim,) = (await admin.call("queue", "work", {"action": "claim", **calls["claim"]}))["claims"]
            assert claim["job"]["id"] == job["id"]


async def test_what_is_asked_of_jobs_is_in_the_audit_trail(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http, live.connect() as admin:
        location = f"{JOBS}/{(await made(http, LATER))['id']}"
        async with http.delete(location) as response:
            assert response.status == 200
        async with live.http("view") as viewer, viewer.post(JOBS, json=LATER) as response:
            assert response.status == 403
        await live.app.events.submit(lambda connection: (None, ()))  # what was to be written is
        found = await admin.call("rpc", "audit", {"action": "list", "limit": 20})
        told = [(one.get("account"), one["kind"], one.get("method")) for one in found["records"]]
        assert ("admin", "call", "queue/enqueue") in told
        assert ("admin", "call", "queue/kill") in told
        assert ("view", "refused", "queue/enqueue") in told
