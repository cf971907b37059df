"""A real browser shows a page of another site that tries every way to make a call, and is told the password besides.

The same page is the control: where its origin is listed, the same attempts reach the server, so they could succeed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sysadmd.listen import rest
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import PASSWORD
from tests.system.chromium import needs_chromium, shown, site, visit

pytestmark = [pytest.mark.system, pytest.mark.timeout(180), needs_chromium]

PAGE = """<!doctype html><title>A page of another site</title><body><script>
const given = %s;
const within = (promise) => Promise.race([promise, new Promise(r => setTimeout(() => r("no answer"), 8000))]);
const run = (id) => ({action: "run", [id]: "true"});

function socket(url, id) {
    return new Promise(done => {
        const ws = new WebSocket(url), said = [];
        const call = (name, args) => ws.send(JSON.stringify({namespace: "rpc", name, id: name, args}));
        ws.onopen = () => call("auth", {username: "admin", password: given.password});
        ws.onerror = () => done("refused");
        ws.onmessage = (event) => {
            const reply = JSON.parse(event.data);
            if (reply.id === "auth" && reply.name === "response") return call("dispatcher", run(id));
            ws.close();
            done(reply.name === "response" ? "called" : "error " + reply.args.code);
        };
    });
}

const fetched = (path, options) =>
    fetch(given.rest + path, options).then(async r => r.type === "opaque" ? "sent" : r.status + await r.text(),
                                           () => "refused");

function element(kind, path) {
    return new Promise(done => {
        const one = document.createElement(kind);
        one.onload = () => done("loaded");
        one.onerror = () => done("refused");
        one.src = given.rest + path;
        document.body.append(one);
    });
}

function form(path, id) {
    return new Promise(done => {
        const frame = document.createElement("iframe"), one = document.createElement("form");
        frame.name = "frame-" + id;
        document.body.append(frame, one);
        one.method = "POST";
        one.enctype = "text/plain";
        one.target = frame.name;
        one.action = given.rest + path;
        const field = document.createElement("input");
        field.name = '{"action": "run", "' + id + '": "true", "x';
        field.value = '": "true"}';
        one.append(field);
        frame.onload = () => {
            try { done("readable " + frame.contentDocument.body.innerText); } catch { done("unreadable"); }
        };
        one.submit();
    });
}

function stream(path) {
    return new Promise(done => {
        const one = new EventSource(given.rest + path, {withCredentials: true});
        one.onopen = () => done("open");
        one.onerror = () => { one.close(); done("refused"); };
    });
}

const basic = {Authorization: "Basic " + btoa("admin:" + given.password)};
const json = {"Content-Type": "application/json"};
const attempts = {
    "socket": () => socket(given.ws, "a"),
    "upgrade": () => socket(given.upgrade, "b"),
    "fetch": () => fetched("/rpc/dispatcher", {method: "POST", headers: json, body: JSON.stringify(run("c"))}),
    "fetch with the password": () => fetched("/rpc/dispatcher",
        {method: "POST", headers: {...json, ...basic}, body: JSON.stringify(run("d"))}),
    "fetch with what the browser knows": () => fetched("/rpc/dispatcher",
        {method: "POST", credentials: "include", body: JSON.stringify(run("e"))}),
    "fetch without reading": () => fetched("/rpc/dispatcher",
        {method: "POST", mode: "no-cors", credentials: "include", body: JSON.stringify(run("f"))}),
    "log-in without reading": () => fetched("/rpc/auth",
        {method: "POST", mode: "no-cors", body: JSON.stringify({username: "admin", password: given.password})}),
    "image": () => element("img", "/rpc/dispatcher?action=run&g=true"),
    "script": () => element("script", "/rpc/dispatcher?action=run&h=true"),
    "document as script": () => element("script", "/openapi.json"),
    "form": () => form("/rpc/dispatcher", "i"),
    "stream": () => stream("/api/v1/events"),
    "metrics": () => fetched("/metrics", {}),
};

(async () => {
    const report = {};
    for (const [name, attempt] of Object.entries(attempts)) {
        try { report[name] = await within(attempt()); } catch (error) { report[name] = "refused"; }
    }
    await fetch("/report", {method: "POST", body: JSON.stringify(report)});
})();
</script>"""


async def tried(live: LiveApp, directory: Path, origins: bool) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What the page reports of its attempts, and what the audit trail tells of that time."""
    async with site() as served:
        if origins:
            live.app.listeners.websocket.origins = (served.origin,)
            assert live.app.listeners._rest is not None
            live.app.listeners._rest.door.origins = (served.origin,)
        upgrade = live.rest_url.replace("http", "ws", 1) + "/ws"
        given = {"ws": live.url, "upgrade": upgrade, "rest": live.rest_url, "password": PASSWORD}
        served.page = PAGE % json.dumps(given)
        report = await visit(served, directory / "profile")
    records = (await live.app.auth.audit.list(limit=1000))["records"]
    return report, records


def kinds(records: list[dict[str, Any]]) -> set[str]:
    return {record["kind"] for record in records}


async def test_a_page_of_another_site_makes_no_call(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        report, records = await tried(live, tmp_path, origins=False)
        assert len(report) == 13
        # A browser does show what a form is answered, in a frame: an error, which the page around it cannot read.
        assert report == {**dict.fromkeys(report, "refused"), "form": "unreadable"}
        assert not {"login", "call", "refused"} & kinds(records), records
        assert dict(live.app.engine.counts) == {}
        assert await live.app.dispatcher.listing(live.app.auth.policy.scope("admin"), history=True) == {}


async def test_the_same_page_of_a_listed_origin_does(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True) as live:
        report, records = await tried(live, tmp_path, origins=True)
        assert (report["socket"], report["upgrade"]) == ("called", "called")
        assert {"login", "call"} <= kinds(records)
        # Over HTTP a listed page may call, though it reads nothing; without a password that is a refusal of the call.
        assert live.app.engine.counts["rpc/auth", 200] >= 3
        assert any(code == 401 for _, code in live.app.engine.counts)


ADDRESS = "/rpc/dispatcher?action=list"


def with_password(live: LiveApp) -> str:
    return live.rest_url.replace("//", f"//admin:{quote(PASSWORD)}@") + ADDRESS


async def test_a_browser_that_knows_the_password_does_not_send_it(tmp_path: Path) -> None:
    """It would send it again with whatever any page asks for."""
    async with running_app(tmp_path) as live:
        assert "Unauthorized" in await shown(with_password(live), tmp_path / "profile")
        assert set(live.app.engine.counts) == {("rpc/dispatcher/list", 401)}


async def test_a_browser_that_is_asked_for_the_password_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other half of the test above: what the browser is asked for is what makes the difference."""
    monkeypatch.setattr(rest, "BROWSER_CHALLENGE", rest.CHALLENGE)
    async with running_app(tmp_path) as live:
        assert "jobs" in await shown(with_password(live), tmp_path / "profile")
        assert live.app.engine.counts["rpc/dispatcher/list", 200] == 1
