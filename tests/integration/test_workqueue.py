"""The REST API of pdm.workqueue: each request of its reference with the answer that it shows, and what it left open."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from sysadmd.jobs.spec import JobSpec, StepSpec
from sysadmd.jobs.views import End
from sysadmd.server.app import App
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import PASSWORD
from tests.integration.transfer_worker import HandWorker, hand_worker

API = "/workqueue/api/v1.0"
ACCOUNTS = {"admin": ("admin",), "olga": ("operator",), "paul": ("operator",), "view": ("viewer",), "none": ()}
SOMEFILE = {"src_siteid": 12, "src_filepath": "somefile"}
JOB = {
    "user_id": int,
    "src_siteid": 12,
    "src_filepath": "somefile",
    "status": "SUBMITTED",
    "extra_opts": {},
    "priority": 5,
    "protocol": "GRIDFTP",
    "log_uid": re.compile("[0-9a-f]{24}"),
    "timestamp": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d"),
    "id": int,
}
"""What the reference shows of a job whose source is `somefile`; each test adds what is its own."""


def like(shown: Any, pattern: Any) -> bool:
    """Whether an answer is the pattern: types and expressions stand for values, keys are all and no others."""
    if isinstance(pattern, type):
        return type(shown) is pattern
    if isinstance(pattern, re.Pattern):
        return isinstance(shown, str) and pattern.fullmatch(shown) is not None
    if isinstance(pattern, dict):
        same = isinstance(shown, dict) and shown.keys() == pattern.keys()
        return same and all(like(shown[key], pattern[key]) for key in pattern)
    if isinstance(pattern, list):
        return isinstance(shown, list) and len(shown) == len(pattern) and all(map(like, shown, pattern))
    return bool(shown == pattern and type(shown) is type(pattern))


class Client:
    """What a client of the original does: a token in X-Token, bare JSON both ways."""

    def __init__(self, http: aiohttp.ClientSession, token: str) -> None:
        self.http, self.headers = http, {"X-Token": token}

    async def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.http.request(verb, API + path, headers={**self.headers, **headers}, **sent) as response:
            assert response.headers["Content-Type"] == "application/json"
            return response.status, await response.json()

    async def get(self, path: str) -> Any:
        status, answer = await self.ask("GET", path)
        assert status == 200, answer
        return answer

    async def post(self, path: str, body: Any = None, **headers: str) -> Any:
        status, answer = await self.ask("POST", path, body, **headers)
        assert status == 200, answer
        return answer

    async def refused(self, verb: str, path: str, body: Any = None) -> tuple[int, str]:
        """Code and message of a refusal."""
        status, answer = await self.ask(verb, path, body)
        assert like(answer, {"code": status, "message": str}), answer
        return status, answer["message"]


class Rig:
    """A server with the sites 12 to 15, people, and a worker that the test moves."""

    def __init__(self, live: LiveApp, http: aiohttp.ClientSession, worker: HandWorker, root: Path) -> None:
        self.live, self.http, self.worker, self.root = live, http, worker, root

    async def client(self, account: str) -> Client:
        async with self.http.post("/rpc/auth", json={"username": account, "password": PASSWORD}) as response:
            return Client(self.http, (await response.json())["args"][0])

    def site(self, number: int) -> Path:
        return self.root / str(number)


@contextlib.asynccontextmanager
async def rig(directory: Path, *, by_itself: bool = False, **options: Any) -> AsyncIterator[Rig]:
    """`by_itself`: the server's own worker does what there is to do."""
    root = directory / "sites"
    sites: dict[str, Any] = {}
    for number in (12, 13, 14, 15):
        (root / str(number)).mkdir(parents=True)
        sites[f"sites__{number}__root"] = str(root / str(number))

    def prepare(app: App) -> None:
        if not by_itself:
            app.workers._worker = None

    async with (
        running_app(directory, accounts=ACCOUNTS, prepare=prepare, **sites, **options) as live,
        live.http(None) as http,
        hand_worker(live.app) as worker,
    ):
        yield Rig(live, http, worker, root)


# The reference: requests for jobs


async def test_a_job_of_a_type_in_digits(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        as_printed = b'{\n  "src_siteid": 12,\n  "src_filepath": "somefile",\n  "type": "0",\n}'
        for body in ({**SOMEFILE, "type": "0"}, as_printed):
            assert like(await olga.post("/jobs", body), {**JOB, "type": "LIST"})


@pytest.mark.parametrize(
    "path,more,shown",
    [
        ("/list", {}, {"type": "LIST"}),
        ("/copy", {"dst_siteid": 14, "dst_filepath": "someotherfile"}, {"type": "COPY"}),
        ("/remove", {}, {"type": "REMOVE"}),
        ("/rename", {"dst_filepath": "someotherfile"}, {"type": "RENAME", "dst_siteid": 12}),
        ("/mkdir", {"src_filepath": "~/somedir"}, {"type": "MKDIR", "src_filepath": "~/somedir"}),
    ],
)
async def test_a_job_of_each_path(tmp_path: Path, path: str, more: dict[str, Any], shown: dict[str, Any]) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        answer = await olga.post(path, {**SOMEFILE, **more})
        assert like(answer, {**JOB, **more, **shown})
        later = await olga.get(f"/jobs/{answer['id']}")
        assert later == {**answer, "status": "NEW"}


# The reference: jobs and elements


async def copied(one: Rig, client: Client) -> int:
    """A COPY of the reference that is done; its number."""
    (one.site(13) / "file1.txt").write_text("hello")
    body = {"src_siteid": 13, "dst_siteid": 15, "src_filepath": "~/file1.txt", "dst_filepath": "~/file2.txt"}
    job = await client.post("/copy", body)
    await one.worker.all()
    assert (one.site(15) / "file2.txt").read_text() == "hello"
    return int(job["id"])


async def test_jobs_and_a_job(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        assert await olga.get("/jobs") == []
        job = await copied(one, olga)
        target = {"dst_siteid": 15, "dst_filepath": "~/file2.txt"}
        source = {"src_siteid": 13, "src_filepath": "~/file1.txt"}
        expected = {**JOB, **source, **target, "type": "COPY", "status": "DONE", "id": job}
        assert like(await olga.get("/jobs"), [expected])
        assert like(await olga.get(f"/jobs/{job}"), expected)


async def test_elements_and_an_element(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await copied(one, olga)
        first, second = await olga.get(f"/jobs/{job}/elements")
        expected = {
            "id": 1,
            "job_id": job,
            "src_filepath": "~/file1.txt",
            "dst_filepath": "~/file2.txt",
            "size": 5,
            "max_tries": 2,
            "attempts": 1,
            "type": "COPY",
            "status": "DONE",
            "timestamp": JOB["timestamp"],
            "listing": [],
        }
        assert like(second, expected)
        assert like(await olga.get(f"/jobs/{job}/elements/1"), expected)
        listed = {**expected, "id": 0, "type": "LIST", "size": 0, "listing": [{"~": ["file1.txt"]}]}
        del listed["dst_filepath"]
        assert like(first, listed)


async def test_the_output_of_a_job_and_of_an_element(tmp_path: Path) -> None:
    """A listing is there for the LIST only; the answer has the latest attempts, one for each element."""
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await copied(one, olga)
        shown = {"jobid": job, "elementid": 0, "attempt": 1, "type": "LIST", "status": "DONE", "log": str}
        listed, copy = {**shown, "listing": {"~": ["file1.txt"]}}, {**shown, "elementid": 1, "type": "COPY"}
        assert like(await olga.get(f"/jobs/{job}/output"), [listed, copy])
        assert like(await olga.get(f"/jobs/{job}/output?after=0"), [copy])
        assert like(await olga.get(f"/jobs/{job}/elements/0/output"), listed)
        assert like(await olga.get(f"/jobs/{job}/elements/1/output"), copy)
        assert "5 bytes" in (await olga.get(f"/jobs/{job}/elements/1/output"))["log"]


async def test_the_output_of_an_attempt(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await failed_once(one, olga)
        shown = {"jobid": job, "elementid": 0, "attempt": 1, "type": "LIST", "status": "FAILED", "log": str}
        now = {**shown, "attempt": 2, "status": "DONE", "listing": {"~": ["a"]}}
        assert like(await olga.get(f"/jobs/{job}/elements/0/output/1"), shown)
        assert like(await olga.get(f"/jobs/{job}/elements/0/output/2"), now)
        assert like(await olga.get(f"/jobs/{job}/elements/0/output/-1"), now)
        assert like(await olga.get(f"/jobs/{job}/elements/0/output/-2"), shown)
        assert like(await olga.get(f"/jobs/{job}/elements/0/output"), now)
        assert like(await olga.get(f"/jobs/{job}/output"), [now])
        assert like(await olga.get(f"/jobs/{job}/output?attempts=all"), [[shown, now]])
        assert like(await olga.get(f"/jobs/{job}/elements/0/output?attempts=all"), [shown, now])


async def failed_once(one: Rig, client: Client) -> int:
    """A LIST that is done at its second attempt; its number."""
    (one.site(12) / "a").write_text("")
    job = await client.post("/list", {"src_siteid": 12, "src_filepath": "~"})
    await one.worker.step(End(outcome="fail", error={"message": "the test says so"}))
    assert (await client.get(f"/jobs/{job['id']}/status"))["status"] == "SUBMITTED"
    await due_now(one, job)
    await one.worker.all()
    return int(job["id"])


async def due_now(one: Rig, job: dict[str, Any]) -> None:
    """What waits for its retry need not wait."""
    await one.live.app.queue.restart(job["log_uid"], "test")


async def test_the_status_of_a_job_and_of_an_element(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await copied(one, olga)
        assert await olga.get(f"/jobs/{job}/status") == {"jobid": job, "status": "DONE"}
        unknown = dict.fromkeys(("transferred", "instant", "average", "elapsed"), "N/A")
        shown = {"jobid": job, "elementid": 1, "status": "DONE", "attempts": 1}
        assert await olga.get(f"/jobs/{job}/elements/1/status") == {**shown, **unknown}


async def test_the_status_of_an_element_has_what_was_reported(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await olga.post("/list", SOMEFILE)
        (claim,) = await one.worker.claim()
        assert (await olga.get(f"/jobs/{job['id']}/status"))["status"] == "SUBMITTED"
        await one.worker.begin(claim)
        assert (await olga.get(f"/jobs/{job['id']}/status"))["status"] == "RUNNING"
        assert (await olga.get("/jobs"))[0]["status"] == "RUNNING"
        figures = {"transferred": 10, "instant": 5.0, "average": 5.0, "elapsed": 2.0}
        await one.live.app.queue.progress(claim.lease, 0.5, None, figures)
        await one.worker.finish(claim, End(outcome="ok", result={"listing": {}}))
        shown = await olga.get(f"/jobs/{job['id']}/elements/0/status")
        assert shown == {"jobid": job["id"], "elementid": 0, "status": "DONE", "attempts": 1, **figures}


# Forms of the request


@pytest.mark.parametrize("form", [1, "1", "COPY", "copy", "Copy"])
async def test_words_are_read_in_each_form_and_written_in_one(tmp_path: Path, form: Any) -> None:
    protocol = {1: 1, "1": "1", "COPY": "SSH", "copy": "ssh", "Copy": "Ssh"}[form]
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        body = {**SOMEFILE, "dst_siteid": 14, "dst_filepath": "b", "type": form, "protocol": protocol}
        job = await olga.post("/jobs", body)
        assert (job["type"], job["protocol"]) == ("COPY", "SSH")


async def test_the_url_goes_before_the_type_of_the_body(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        assert (await olga.post("/list", {**SOMEFILE, "type": "REMOVE"}))["type"] == "LIST"


async def test_what_the_server_owns_is_not_taken_from_a_body(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        forged = {"id": 1, "user_id": 2, "log_uid": "x", "status": "DONE", "timestamp": "2000-01-01T00:00"}
        assert like(await olga.post("/list", {**SOMEFILE, **forged}), {**JOB, "type": "LIST"})


async def test_a_rename_stays_on_its_site(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await olga.post("/rename", {**SOMEFILE, "dst_siteid": 14, "dst_filepath": "b"})
        assert (job["src_siteid"], job["dst_siteid"]) == (12, 12)


async def test_a_lower_priority_runs_first(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        late = await olga.post("/list", {**SOMEFILE, "priority": 9})
        soon = await olga.post("/list", {**SOMEFILE, "priority": 0})
        assert (late["priority"], soon["priority"]) == (9, 0)
        await one.worker.all()
        assert [done[0] for done in one.worker.done] == [soon["id"], late["id"]]


@pytest.mark.parametrize("name", ["a b", "a'b\"c", "aäö€😀", "two\nlines", "a+b,c;d", "-rf", "*"])
async def test_any_name_is_a_name(tmp_path: Path, name: str) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        (one.site(12) / name).write_text("x")
        body = {"src_siteid": 12, "src_filepath": name, "dst_siteid": 14, "dst_filepath": f"to/{name}"}
        job = await olga.post("/copy", body)
        await one.worker.all()
        assert (await olga.get(f"/jobs/{job['id']}/status"))["status"] == "DONE"
        assert (one.site(14) / "to" / name).read_text() == "x"
        assert (await olga.get(f"/jobs/{job['id']}/elements/1"))["src_filepath"] == name


@pytest.mark.parametrize("path", ["somedir", "~/somedir", "/somedir"])
async def test_paths_are_below_the_root_of_the_site(tmp_path: Path, path: str) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        await olga.post("/mkdir", {"src_siteid": 12, "src_filepath": path})
        await one.worker.all()
        assert (one.site(12) / "somedir").is_dir()


async def test_the_same_key_asks_for_the_same_job(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga, paul = await one.client("olga"), await one.client("paul")
        first = await olga.post("/list", SOMEFILE, **{"Idempotency-Key": "k"})
        assert (await olga.post("/list", SOMEFILE, **{"Idempotency-Key": "k"}))["id"] == first["id"]
        assert (await paul.post("/list", SOMEFILE, **{"Idempotency-Key": "k"}))["id"] != first["id"]


async def test_a_key_of_a_job_of_another_kind_is_refused(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        spec = JobSpec(kind="task", name="demo.Job")
        await one.live.app.queue.enqueue(spec, owner="olga", request_key="k")
        status, answer = await (await one.client("olga")).ask("POST", "/list", SOMEFILE, **{"Idempotency-Key": "k"})
        assert (status, answer["code"]) == (409, 409)


COPY = {**SOMEFILE, "dst_siteid": 14, "dst_filepath": "b"}
WRONG: dict[str, tuple[str, Any, str]] = {
    "no site": ("/list", {"src_filepath": "a"}, "src_siteid"),
    "no path": ("/list", {"src_siteid": 12}, "src_filepath"),
    "no type": ("/jobs", SOMEFILE, "type"),
    "unknown type": ("/jobs", {**SOMEFILE, "type": 5}, "type"),
    "no target path": ("/copy", {**SOMEFILE, "dst_siteid": 14}, "dst_filepath"),
    "no target site": ("/copy", {**SOMEFILE, "dst_filepath": "b"}, "dst_siteid"),
    "no new name": ("/rename", SOMEFILE, "dst_filepath"),
    "unknown site": ("/list", {**SOMEFILE, "src_siteid": 99}, "src_siteid"),
    "unknown target": ("/copy", {**COPY, "dst_siteid": 99}, "dst_siteid"),
    "site is no number": ("/list", {**SOMEFILE, "src_siteid": "x"}, "src_siteid"),
    "site is true": ("/list", {**SOMEFILE, "src_siteid": True}, "src_siteid"),
    "site is negative": ("/list", {**SOMEFILE, "src_siteid": -1}, "src_siteid"),
    "path is no text": ("/list", {**SOMEFILE, "src_filepath": 5}, "src_filepath"),
    "path is empty": ("/list", {**SOMEFILE, "src_filepath": ""}, "src_filepath"),
    "path has NUL": ("/list", {**SOMEFILE, "src_filepath": "a\0b"}, "src_filepath"),
    "path goes up": ("/list", {**SOMEFILE, "src_filepath": "a/../../b"}, "src_filepath"),
    "target goes up": ("/copy", {**COPY, "dst_filepath": "../b"}, "dst_filepath"),
    "priority": ("/list", {**SOMEFILE, "priority": 10}, "priority"),
    "priority is a text": ("/list", {**SOMEFILE, "priority": "high"}, "priority"),
    "protocol": ("/list", {**SOMEFILE, "protocol": "FTP"}, "protocol"),
    "tries": ("/list", {**SOMEFILE, "max_tries": 0}, "max_tries"),
    "options are no object": ("/list", {**SOMEFILE, "extra_opts": [1]}, "extra_opts"),
    "unknown option": ("/list", {**SOMEFILE, "extra_opts": {"x509_proxy": "/etc/passwd"}}, "extra_opts"),
    "unknown field": ("/list", {**SOMEFILE, "src_filepat": "x"}, "src_filepat"),
    "no object": ("/list", [SOMEFILE], "body"),
    "no JSON": ("/list", b"{", "JSON"),
    "no body": ("/list", b"", "body"),
}


async def test_what_is_wrong_with_a_request_is_named(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        for name, (path, body, field) in WRONG.items():
            code, message = await olga.refused("POST", path, body)
            assert (code, field in message) == (400, True), (name, message)
        assert await olga.get("/jobs") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "after=-1", "counts=maybe"])
async def test_what_is_wrong_with_a_query_is_named(tmp_path: Path, query: str) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        code, message = await olga.refused("GET", f"/jobs?{query}")
        assert (code, message.partition(":")[0]) == (400, query.partition("=")[0])


# Who asks


async def test_a_stranger_gets_403(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        for headers in ({}, {"X-Token": "x" * 32}, {"Authorization": "Bearer " + "x" * 32}, {"Token": ""}):
            for verb, path in (("GET", "/jobs"), ("GET", "/jobs/1"), ("POST", "/list"), ("DELETE", "/jobs/1")):
                async with one.http.request(verb, API + path, headers=headers, json=SOMEFILE) as response:
                    assert response.status == 403
                    assert like(await response.json(), {"code": 403, "message": str})


async def test_each_way_to_say_who_one_is(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        token = olga.headers["X-Token"]
        basic = "Basic " + base64.b64encode(f"olga:{PASSWORD}".encode()).decode()
        for headers in ({"Token": token}, {"Authorization": f"Bearer {token}"}, {"Authorization": basic}):
            async with one.http.get(f"{API}/jobs", headers=headers) as response:
                assert (response.status, await response.json()) == (200, [])


async def test_a_token_in_the_url_is_refused(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        assert (await olga.refused("GET", "/jobs?token=abc"))[0] == 403


async def test_a_page_of_another_site_may_not_call(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        foreign = {**olga.headers, "Origin": "https://evil.example"}
        for verb, path in (("GET", "/jobs"), ("POST", "/list")):
            async with one.http.request(verb, API + path, headers=foreign, json=SOMEFILE) as response:
                assert response.status == 403
        assert await olga.get("/jobs") == []


async def test_a_job_of_somebody_else_is_none(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga, paul, admin = [await one.client(name) for name in ("olga", "paul", "admin")]
        job = (await olga.post("/list", SOMEFILE))["id"]
        paths = ["", "/status", "/output", "/elements", "/elements/0", "/elements/0/status", "/elements/0/output"]
        for path in [*paths, "/elements/0/output/1"]:
            assert await paul.refused("GET", f"/jobs/{job}{path}") == (404, f"there is no job {job}"), path
        assert (await paul.refused("DELETE", f"/jobs/{job}"))[0] == 404
        assert (await paul.refused("POST", f"/jobs/{job}/retry"))[0] == 404
        assert await paul.get("/jobs") == []
        assert (await admin.get(f"/jobs/{job}"))["id"] == job


async def test_administrators_see_all_jobs_when_they_ask_for_them(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga, admin = await one.client("olga"), await one.client("admin")
        job = await olga.post("/list", SOMEFILE)
        assert await admin.get("/jobs") == []
        assert [each["id"] for each in await admin.get("/jobs?owner=*")] == [job["id"]]
        assert [each["id"] for each in await admin.get("/jobs?owner=olga")] == [job["id"]]
        assert await admin.get("/jobs?owner=paul") == []
        assert (await olga.refused("GET", "/jobs?owner=*"))[0] == 403


async def test_the_number_of_a_user_stays(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga, paul = await one.client("olga"), await one.client("paul")
        numbers = {(await olga.post("/list", SOMEFILE))["user_id"] for _ in range(2)}
        assert len(numbers) == 1
        assert (await paul.post("/list", SOMEFILE))["user_id"] not in numbers


async def test_a_reader_may_not_ask_for_jobs(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        view, none = await one.client("view"), await one.client("none")
        assert await view.get("/jobs") == []
        for path in ("/list", "/copy", "/jobs"):
            assert (await view.refused("POST", path, {**COPY, "type": 0}))[0] == 403
        assert (await none.refused("GET", "/jobs"))[0] == 403


async def test_who_may_list_only_does_so_by_either_path(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        patterns = ["call:workqueue/list", "call:@read", "job:workqueue.list:*"]
        await one.live.app.auth.accounts.set_role("lister", patterns, [])
        await one.live.app.auth.accounts.add("lena", PASSWORD, ["lister"])
        lena = await one.client("lena")
        await lena.post("/list", SOMEFILE)
        await lena.post("/jobs", {**SOMEFILE, "type": 0})
        assert (await lena.refused("POST", "/remove", SOMEFILE))[0] == 403
        assert (await lena.refused("POST", "/jobs", {**SOMEFILE, "type": 2}))[0] == 403


async def test_who_may_not_run_such_jobs_may_not_ask_for_one(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        patterns = ["call:@run", "call:@read", "job:workqueue.list:*"]
        await one.live.app.auth.accounts.set_role("lister", patterns, [])
        await one.live.app.auth.accounts.add("lena", PASSWORD, ["lister"])
        lena = await one.client("lena")
        await lena.post("/list", SOMEFILE)
        assert await lena.refused("POST", "/remove", SOMEFILE) == (403, "lena may not run workqueue.remove")


async def test_what_is_asked_for_is_in_the_audit_trail(tmp_path: Path) -> None:
    async with rig(tmp_path) as one, one.live.connect() as peer:
        olga = await one.client("olga")
        await olga.post("/list", SOMEFILE)
        found = await peer.call("rpc", "audit", {"action": "list", "limit": 5})
        calls = [each for each in found["records"] if each.get("method") == "workqueue/list"]
        assert [(each["account"], each["args"]) for each in calls] == [("olga", SOMEFILE)]


# What is not there


async def test_what_is_not_there_is_404(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", SOMEFILE))["id"]
        missing = ["/jobs/99999", f"/jobs/{2**70}", "/jobs/x", "/jobs/", "/nothing", f"/jobs/{job}/elements/1"]
        missing += [f"/jobs/{job}/elements/1/status", f"/jobs/{job}/elements/1/output", f"/jobs/{job}/elements/{2**70}"]
        for path in missing:
            assert (await olga.refused("GET", path))[0] == 404, path


async def test_a_job_that_was_not_asked_for_here_is_none(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        step = StepSpec(type="LIST", spec={"src": "a", "src_site": 12})
        others = [
            JobSpec(kind="task", name="workqueue.list"),
            JobSpec(kind="transfer", name="workqueue.x", steps=[step]),
        ]
        for spec in [*others, JobSpec(kind="transfer", name="workqueue.list", steps=[step])]:
            job = await one.live.app.queue.enqueue(spec, owner="olga")
            assert (await olga.refused("GET", f"/jobs/{job.seq}"))[0] == 404
        assert await olga.get("/jobs") == []


async def test_a_verb_that_a_path_does_not_have_is_405(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        for verb, path in (("PUT", "/jobs"), ("DELETE", "/jobs"), ("GET", "/list"), ("GET", "/jobs/1/retry")):
            assert (await olga.refused(verb, path))[0] == 405, path


async def test_an_output_that_is_not_ready_is_400(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", SOMEFILE))["id"]
        for path in ("output", "output/1", "output/-1", "output?attempts=all"):
            code, message = await olga.refused("GET", f"/jobs/{job}/elements/0/{path}")
            assert (code, "not ready" in message) == (400, True)
        assert await olga.get(f"/jobs/{job}/output") == []


@pytest.mark.parametrize("attempt", ["0", "3", "-3", "x", "1.5", "9" * 40])
async def test_an_attempt_that_there_is_not_is_400(tmp_path: Path, attempt: str) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await failed_once(one, olga)
        code, message = await olga.refused("GET", f"/jobs/{job}/elements/0/output/{attempt}")
        assert (code, message.partition(":")[0]) == (400, "attempt")


async def test_an_output_file_that_is_missing_is_500(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await copied(one, olga)
        for file in (one.live.app.config.state_dir / "output").rglob("*.1.1.log"):
            file.unlink()
        for path in ("output", "elements/1/output", "elements/1/output/1"):
            code, message = await olga.refused("GET", f"/jobs/{job}/{path}")
            assert (code, "missing" in message) == (500, True)
        assert "missing" in (await olga.get(f"/jobs/{job}/output?attempts=all"))[1][0]["log"]
        assert (await olga.get(f"/jobs/{job}/elements/0/output"))["status"] == "DONE"


# Long lists


async def test_jobs_in_pages(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        made = [(await olga.post("/list", SOMEFILE))["id"] for _ in range(5)]
        assert [job["id"] for job in await olga.get("/jobs")] == made[::-1]
        assert [job["id"] for job in await olga.get("/jobs?limit=2")] == [made[4], made[3]]
        assert [job["id"] for job in await olga.get(f"/jobs?limit=2&after={made[3]}")] == [made[2], made[1]]


async def test_jobs_that_may_not_be_read_take_no_place_in_a_page(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        await one.live.app.auth.accounts.set_role("lister", ["call:@read", "call:@run", "job:workqueue.*:*"], [])
        await one.live.app.auth.accounts.add("lena", PASSWORD, ["lister"])
        lena = await one.client("lena")
        made = [(await lena.post(path, SOMEFILE))["id"] for path in ("/list", "/remove", "/remove", "/list")]
        await one.live.app.auth.accounts.set_role("lister", ["call:@read", "job:workqueue.list:read"], [])
        assert [job["id"] for job in await lena.get("/jobs?limit=2")] == [made[3], made[0]]
        assert (await lena.refused("GET", f"/jobs/{made[1]}"))[0] == 403


async def test_the_elements_of_each_job_are_counted_on_request(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        await copied(one, olga)
        (job,) = await olga.get("/jobs?counts=1")
        counts = {key: value for key, value in job.items() if key.startswith("num_")}
        none = {"num_new": 0, "num_failed": 0, "num_submitted": 0, "num_running": 0}
        assert counts == {"num_elements": 2, "num_done": 2, **none}


async def test_a_full_listing_has_records(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await copied(one, olga)
        for path in ("elements/0/output", "elements/0"):
            listing = (await olga.get(f"/jobs/{job}/{path}?listing=full"))["listing"]
            (record,) = (listing if isinstance(listing, dict) else listing[0])["~"]
            assert (record["name"], record["st_size"]) == ("file1.txt", 5)


async def test_a_hundred_files_in_batches_are_never_done_or_failed_early(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        (one.site(12) / "tree" / "deep").mkdir(parents=True)
        for number in range(100):
            (one.site(12) / "tree" / ("deep" if number % 2 else ".") / f"file {number}").write_text(str(number))
        body = {"src_siteid": 12, "src_filepath": "tree", "dst_siteid": 14, "dst_filepath": "~/copy"}
        job = (await olga.post("/copy", body))["id"]
        seen = []
        await one.worker.step()
        for _ in range(5):
            claims = await one.worker.claim(20)
            assert len(claims) == 20
            for claim in claims:
                seen.append((await olga.get(f"/jobs/{job}/status"))["status"])
                await one.worker.begin(claim)
                seen.append((await olga.get(f"/jobs/{job}/status"))["status"])
                await one.worker.finish(claim)
        assert set(seen) == {"SUBMITTED", "RUNNING"}
        assert (await olga.get(f"/jobs/{job}/status"))["status"] == "DONE"
        assert len(await olga.get(f"/jobs/{job}/elements")) == 101
        assert [each["id"] for each in await olga.get(f"/jobs/{job}/elements?after=98")] == [99, 100]
        assert sum(1 for each in (one.site(14) / "copy").rglob("file *")) == 100


async def test_a_directory_is_removed_after_what_is_in_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        (one.site(12) / "tree" / "deep").mkdir(parents=True)
        for path in ("tree/a", "tree/deep/b"):
            (one.site(12) / path).write_text("")
        job = (await olga.post("/remove", {"src_siteid": 12, "src_filepath": "tree"}))["id"]
        await one.worker.step()
        files = await one.worker.claim(20)
        assert sorted(claim.step.spec["src"] for claim in files) == ["~/tree/a", "~/tree/deep/b"]
        for claim in files:
            await one.worker.begin(claim)
            await one.worker.finish(claim)
        await one.worker.all(batch=20)
        assert [done[3] for done in one.worker.done[3:]] == ["~/tree/deep/", "~/tree/"]
        assert not (one.site(12) / "tree").exists()
        assert (await olga.get(f"/jobs/{job}/status"))["status"] == "DONE"


# Cancel and retry


async def test_a_job_that_waits_is_cancelled_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", SOMEFILE))["id"]
        assert await olga.ask("DELETE", f"/jobs/{job}") == (200, {"jobid": job, "status": "FAILED"})
        assert not await one.worker.step()


async def test_a_job_that_runs_is_cancelled_with_its_step(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", SOMEFILE))["id"]
        (claim,) = await one.worker.claim()
        await one.worker.begin(claim)
        assert await olga.ask("DELETE", f"/jobs/{job}") == (200, {"jobid": job, "status": "RUNNING"})
        assert await one.live.app.queue.renew([claim.lease]) == set()
        await one.worker.finish(claim, End(outcome="killed"))
        assert (await olga.get(f"/jobs/{job}/status"))["status"] == "FAILED"


async def test_what_is_over_cannot_be_cancelled(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = await copied(one, olga)
        assert await olga.refused("DELETE", f"/jobs/{job}") == (409, f"job {job} is over: DONE")


async def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        body = {**COPY, "max_tries": 1}
        job = (await olga.post("/copy", body))["id"]
        await one.worker.all()
        assert (await olga.get(f"/jobs/{job}/status"))["status"] == "FAILED"
        (one.site(12) / "somefile").write_text("now")
        again = await olga.post(f"/jobs/{job}/retry")
        assert (again["id"], again["status"]) == (job, "SUBMITTED")
        await one.worker.all()
        assert (await olga.get(f"/jobs/{job}/status"))["status"] == "DONE"
        assert (one.site(14) / "b").read_text() == "now"
        assert (await olga.get(f"/jobs/{job}/elements/0"))["attempts"] == 2


async def test_what_succeeded_is_not_done_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        (one.site(12) / "tree").mkdir()
        for name in "abc":
            (one.site(12) / "tree" / name).write_text(name)
        body = {"src_siteid": 12, "src_filepath": "tree", "dst_siteid": 14, "dst_filepath": "tree", "max_tries": 1}
        job = (await olga.post("/copy", body))["id"]
        await one.worker.step()
        await one.worker.step(End(outcome="fail"))
        await one.worker.all()
        states = [each["status"] for each in await olga.get(f"/jobs/{job}/elements")]
        assert states == ["DONE", "FAILED", "DONE", "DONE"]
        await olga.post(f"/jobs/{job}/retry")
        await one.worker.all()
        assert [each["attempts"] for each in await olga.get(f"/jobs/{job}/elements")] == [1, 2, 1, 1]
        assert (await olga.get(f"/jobs/{job}/status"))["status"] == "DONE"


async def test_what_did_not_fail_is_not_tried_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        waits = (await olga.post("/list", SOMEFILE))["id"]
        assert (await olga.refused("POST", f"/jobs/{waits}/retry"))[0] == 409


# Waiting


async def test_a_wait_ends_with_the_job(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", {**SOMEFILE, "src_filepath": "~"}))["id"]
        async with asyncio.timeout(20), anyio.create_task_group() as tasks:

            async def wait() -> None:
                assert await olga.get(f"/jobs/{job}/status?wait=60") == {"jobid": job, "status": "DONE"}
                shown = await olga.get(f"/jobs/{job}/elements/0/status?wait=60")
                assert shown["status"] == "DONE"

            tasks.start_soon(wait)
            await waiters(one, 1)
            await one.worker.all()
        await waiters(one, 0)


async def waiters(one: Rig, count: int) -> None:
    async with asyncio.timeout(10):
        while len(one.live.app.workqueue._watch) != count:
            await asyncio.sleep(0.01)


async def test_a_wait_ends_with_news_for_whoever_says_what_is_known(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", SOMEFILE))["id"]
        assert (await olga.get(f"/jobs/{job}/status?wait=60&known=SUBMITTED"))["status"] == "NEW"
        async with asyncio.timeout(20), anyio.create_task_group() as tasks:

            async def wait() -> None:
                assert (await olga.get(f"/jobs/{job}/status?wait=60&known=new"))["status"] == "SUBMITTED"

            tasks.start_soon(wait)
            await waiters(one, 1)
            await one.worker.claim()


async def test_a_wait_ends_with_its_time(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", SOMEFILE))["id"]
        assert (await olga.get(f"/jobs/{job}/status?wait=0.05"))["status"] == "NEW"


async def test_a_wait_has_a_longest_time(tmp_path: Path) -> None:
    async with rig(tmp_path, limits__call_deadline=5.0) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", SOMEFILE))["id"]
        for wait in ("5.1", "-1", "nan", "inf", "x"):
            assert (await olga.refused("GET", f"/jobs/{job}/status?wait={wait}"))[0] == 400


async def test_a_client_that_goes_away_waits_no_more(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", SOMEFILE))["id"]
        with pytest.raises(asyncio.TimeoutError):
            await one.http.get(
                f"{API}/jobs/{job}/status?wait=60", headers=olga.headers, timeout=aiohttp.ClientTimeout(total=0.3)
            )
        await waiters(one, 0)


async def test_a_server_that_stops_ends_the_waits(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        job = (await olga.post("/list", SOMEFILE))["id"]
        async with asyncio.timeout(15), anyio.create_task_group() as tasks:

            async def wait() -> None:
                assert (await olga.refused("GET", f"/jobs/{job}/status?wait=60"))[0] == 503

            tasks.start_soon(wait)
            await waiters(one, 1)
            one.live.stop()


# The server's own worker


async def test_a_server_copies_many_files_and_tells_each_change(tmp_path: Path) -> None:
    async with rig(tmp_path, by_itself=True) as one:
        olga = await one.client("olga")
        (one.site(12) / "a tree").mkdir()
        for number in range(100):
            (one.site(12) / "a tree" / f"file {number}").write_text(str(number))
        body = {"src_siteid": 12, "src_filepath": "a tree", "dst_siteid": 14, "dst_filepath": "/copy"}
        job = (await olga.post("/copy", body))["id"]
        seen = ["NEW"]
        async with asyncio.timeout(60):
            while seen[-1] not in {"DONE", "FAILED"}:
                seen.append((await olga.get(f"/jobs/{job}/status?wait=30&known={seen[-1]}"))["status"])
        assert (seen[-1], "FAILED" in seen) == ("DONE", False)
        assert {each.read_text() for each in (one.site(14) / "copy").iterdir()} == {str(n) for n in range(100)}
        assert {each["status"] for each in await olga.get(f"/jobs/{job}/elements")} == {"DONE"}


async def test_a_transfer_that_runs_is_cancelled(tmp_path: Path) -> None:
    async with rig(tmp_path, by_itself=True) as one:
        olga = await one.client("olga")
        slow = {"protocol": "dummy", "extra_opts": {"dummy_files": 1, "dummy_seconds": 3600}}
        job = (await olga.post("/copy", {**COPY, **slow}))["id"]
        async with asyncio.timeout(30):
            assert (await olga.get(f"/jobs/{job}/elements/0/status?wait=30"))["status"] == "DONE"
            shown = {"status": "NEW"}
            while shown["status"] != "RUNNING":
                shown = await olga.get(f"/jobs/{job}/elements/1/status?wait=30&known={shown['status']}")
            await olga.ask("DELETE", f"/jobs/{job}")
            assert await olga.get(f"/jobs/{job}/status?wait=30") == {"jobid": job, "status": "FAILED"}
        assert (await olga.get(f"/jobs/{job}/elements/1"))["status"] == "FAILED"


# Described


async def test_the_api_is_described_to_whoever_may_use_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        olga = await one.client("olga")
        headers = {"Authorization": f"Bearer {olga.headers['X-Token']}"}
        async with one.http.get("/openapi.json", headers=headers) as response:
            paths = (await response.json())["paths"]
        assert set(paths[f"{API}/jobs/{{job}}"]) == {"get", "delete"}
        assert set(paths[f"{API}/jobs"]) == {"get", "post"}
        async with one.http.get("/openapi.json") as response:
            assert not [path for path in (await response.json())["paths"] if path.startswith(API)]
