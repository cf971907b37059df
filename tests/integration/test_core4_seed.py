"""The documented example of core4's events, as it is written, with the libraries that it is written with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.apps import LiveApp, running_app
from tests.integration.core4_client import event_socket, logged_in
from tests.integration.servers import RunningServer, add_account, running_server

DUMMY = "core4.queue.helper.job.example.DummyJob"
EVENTS = ["enqueue_job", "request_start_job", "start_job", "complete_job"]

# Host and port are the test's, and a missing quote is there; the rest is the example.
EXAMPLE = """\
from requests import post, get, put

login = get("http://devops:5001/core4/api/login?username=admin&password=hans")
token = login.json()["data"]["token"]

rv = post("http://devops:5001/core4/api/v1/roles",
          headers={"Authorization": "Bearer " + token},
          json={
              "name": "test",
              "realname": "Test User",
              "email": "test@plan-net.com",
              "password": "very secret",
              "role": ["standard_user"],
              "perm": ["api://core4.api.v1.request.queue.history.*"]
          })
assert rv.status_code == 200
etag = rv.json()["data"]["etag"]

user_login = get("http://devops:5001/core4/api/login?username=test&password=very secret")
user_token = user_login.json()["data"]["token"]

rv = get("http://devops:5001/core4/api/v1/jobs/history?token=" + user_token)

url = "http://devops:5001/core4/api/v1/jobs/history?token=" + user_token

rv = get(url + "&page=1")
rv = get(url + "&page=2")

from websocket import create_connection
import json

ws = create_connection("ws://devops:5001/core4/api/v1/event?token=" + user_token)
ws.send(json.dumps({"type": "interest", "data": ["queue"]}))
print(ws.recv())
while True:
    print(ws.recv())
"""


@contextlib.asynccontextmanager
async def example(live: LiveApp | RunningServer) -> AsyncIterator[asyncio.StreamReader]:
    """Run it; its lines."""
    place = live.rest_url.removeprefix("http://")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", EXAMPLE.replace("devops:5001", place), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def line(lines: asyncio.StreamReader) -> dict[str, Any]:
    async with asyncio.timeout(40):
        text = await lines.readline()
    assert text, "the example ended"
    value: dict[str, Any] = json.loads(text)
    return value


async def test_the_example_runs_against_a_server_process(tmp_path: Path) -> None:
    async with running_server(tmp_path, accounts={"other": ("admin",)}) as server:
        await add_account(server.env, "admin", ("admin",), "hans")
        async with example(server) as lines, aiohttp.ClientSession() as http:
            assert (await line(lines))["type"] == "interest"
            assert (await line(lines))["data"] == []
            url = f"{server.rest_url}/core4/api/v1/job?username=admin&password=hans"
            job = {"qual_name": DUMMY, "args": {"sleep": 1}, "follow": False}
            async with http.post(url, json=job) as answer:
                assert answer.status == 200
            names: list[str] = []
            while "complete_job" not in names:
                names.append((await line(lines))["name"])
            assert [name for name in names if name != "summary"] == EVENTS


async def test_the_example_sees_a_job_of_others_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts={}) as live:
        await live.app.auth.accounts.add("admin", "hans", ["admin"])
        admin = await logged_in(live, "admin", "hans")
        async with example(live) as lines, event_socket(live, admin.token) as authorised:
            assert await line(lines) == {
                "type": "interest",
                "data": ["queue"],
                "message": "processed interest in ['queue']",
            }
            first = await line(lines)
            assert (first["name"], first["data"]) == ("summary", [])
            await authorised.interest("queue")
            job_id = await admin.data("POST", "job", json={"qual_name": DUMMY, "args": {"sleep": 4}, "follow": False})
            seen: list[dict[str, Any]] = []
            while not seen or seen[-1]["name"] != "complete_job":
                seen.append(await line(lines))
            events = [one for one in seen if one["name"] != "summary"]
            assert [one["name"] for one in events] == EVENTS
            assert all("_id" not in one["data"] for one in events)
            assert {one["data"]["name"] for one in events} == {"UnauthorizedJob"}
            assert [one["data"]["queue"] for one in events] == [{"pending": 1}, {"running": 1}, {"running": 1}, {}]
            summaries = [row for one in seen if one["name"] == "summary" for row in one["data"]]
            assert summaries
            assert {row["name"] for row in summaries} == {"UnauthorizedJob"}
            own = [await authorised.event(name) for name in EVENTS]
            assert {(one["data"]["_id"], one["data"]["name"]) for one in own} == {(job_id, DUMMY)}
        test = await logged_in(live, "test", "very secret")
        history = await test.get("jobs/history")
        assert [row["total"] for row in history["data"]] == [0, 1, 1, 1]
        assert history["total_count"] == 4


async def test_an_authorised_socket_sees_the_name_while_another_does_not(tmp_path: Path) -> None:
    """Both are told of the same summary; the first one to be told takes nothing from the other."""
    async with running_app(tmp_path, accounts={}) as live:
        await live.app.auth.accounts.add("admin", "hans", ["admin"])
        admin = await logged_in(live, "admin", "hans")
        async with example(live) as lines, event_socket(live, admin.token) as authorised:
            await line(lines)
            await authorised.interest("queue")
            await admin.data("POST", "job", json={"qual_name": DUMMY, "args": {"sleep": 6}, "follow": False})
            named = await authorised.until(lambda one: one.get("name") == "summary" and bool(one["data"]))
            assert {row["name"] for row in named["data"]} == {DUMMY}
            while (masked := await line(lines))["name"] != "summary" or not masked["data"]:
                pass
            assert {row["name"] for row in masked["data"]} == {"UnauthorizedJob"}
            strip = [{**row, "name": None, "progress": None} for row in named["data"]]
            assert [{**row, "name": None, "progress": None} for row in masked["data"]] == strip
