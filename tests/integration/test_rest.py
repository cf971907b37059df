"""The REST listener: the same calls over HTTP, and what bad requests get."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest

from sysadmd.errors import InternalError
from sysadmd.limits import Limits
from sysadmd.rpc.call import method
from sysadmd.server.app import App
from tests.integration.apps import LiveApp, running_app, status
from tests.integration.servers import PASSWORD
from tests.integration.test_websocket_listener import gone, no_sessions, raw_socket

LIST = {"action": "list"}
ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}


async def answer(response: aiohttp.ClientResponse) -> tuple[int, Any]:
    """Status and `args` of a JSON answer."""
    assert response.headers["Content-Type"] == "application/json"
    body = await response.json()
    assert set(body) == {"args"}
    return response.status, body["args"]


async def refused(response: aiohttp.ClientResponse) -> int:
    status, args = await answer(response)
    assert args["code"] == status
    assert args["message"]
    return status


async def bearer(live: LiveApp, account: str = "admin") -> tuple[str, dict[str, str]]:
    """A token of the account, and the header that carries it."""
    async with live.http(None) as http:
        body = {"username": account, "password": PASSWORD}
        _, args = await answer(await http.post("/rpc/auth", json=body))
    return args[0], {"Authorization": f"Bearer {args[0]}"}


# Calls


@pytest.mark.parametrize("verb", ["GET", "PUT", "POST"])
async def test_each_verb_makes_the_call(tmp_path: Path, verb: str) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        assert await answer(await http.request(verb, "/rpc/dispatcher", json=LIST)) == (200, {"jobs": {}})


@pytest.mark.parametrize(
    "body",
    [
        {"action": "list", "lane": "pkg_queue"},
        {"args": {"action": "list", "lane": "pkg_queue"}},
        {"namespace": "x", "name": "y", "id": "z", "args": {"action": "list", "lane": "pkg_queue"}},
    ],
    ids=["bare", "args", "envelope"],
)
async def test_each_form_of_the_body_carries_the_arguments(tmp_path: Path, body: dict[str, Any]) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        assert await answer(await http.put("/rpc/dispatcher", json=body)) == (200, {"jobs": {"pkg_queue": {}}})


async def test_without_a_body_the_query_carries_the_arguments(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        response = await http.get("/rpc/dispatcher?action=list&lane=pkg_queue")
        assert await answer(response) == (200, {"jobs": {"pkg_queue": {}}})


async def test_the_namespace_is_the_first_segment_and_the_name_the_last(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        assert (await answer(await http.get("/RPC/a/b/query")))[0] == 200


async def test_the_answer_is_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    async with running_app(tmp_path, node="vm") as live, live.http(None) as http:
        text = await (await http.get("/rpc/identify")).text()
        assert text == '{\n    "args": {\n        "hostname": "vm",\n        "type": "server"\n    }\n}\n'


async def test_subscribing_answers_and_does_nothing(tmp_path: Path) -> None:
    """Spec sysadm §2.6: events make no sense over REST."""
    async with running_app(tmp_path) as live, live.http() as http:
        response = await http.put("/events/subscribe", json={"args": "dispatcher"})
        assert await answer(response) == (200, {"subscribe": "dispatcher"})
        await no_sessions(live)
        assert live.app.events.followers == 0


async def test_a_command_runs_to_its_end(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True) as live, live.http() as http:
        body = {"action": "exec", "commands": ["echo hello"]}
        status, args = await answer(await http.post("/rpc/dispatcher", json=body))
        assert (status, args["echo hello"]) == (200, "hello\n")


async def test_a_client_that_goes_away_withdraws_its_call(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True) as live, live.http() as http:
        body = {"action": "exec", "commands": "sleep 30"}
        with pytest.raises(asyncio.TimeoutError):
            await http.post("/rpc/dispatcher", json=body, timeout=aiohttp.ClientTimeout(total=0.5))
        await no_sessions(live)
        async with asyncio.timeout(10):
            while live.app.dispatcher.figures() != {"pending": 0, "running": 0}:
                await asyncio.sleep(0.02)


async def test_text_that_is_no_unicode_is_told_as_far_as_it_is(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        with replaced(live.app, "rpc/identify", lambda call, services: {"hostname": "a\udcffb"}):
            assert await answer(await http.get("/rpc/identify")) == (200, {"hostname": "a?b"})


@contextlib.contextmanager
def replaced(app: App, key: str, handler: Any) -> Any:
    """The method has another handler for a while."""
    entries = app.engine.registry._entries
    namespace, name, *action = key.split("/")
    by_action = entries[namespace, name]
    old = by_action[action[0] if action else None]
    by_action[old.method.action] = replace(old, handler=method(key)(handler), is_async=False)
    try:
        yield
    finally:
        by_action[old.method.action] = old


# Who asks


async def test_basic_and_bearer_log_in(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http("view") as basic, live.http(None) as plain:
        token, headers = await bearer(live, "view")
        assert len(token) == 32
        body: dict[str, Any] = {"action": "list"}
        empty: tuple[int, Any] = (200, {"jobs": {}})
        assert await answer(await basic.get("/rpc/dispatcher", json=body)) == empty
        assert await answer(await plain.get("/rpc/dispatcher", json=body, headers=headers)) == empty


async def test_each_request_stands_for_itself(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http:
        await http.post("/rpc/auth", json={"username": "admin", "password": PASSWORD})
        assert await refused(await http.get("/rpc/query")) == 401


BAD_CREDENTIALS = {
    "none": ({}, 401),
    "wrong password": ({"Authorization": "Basic " + base64.b64encode(b"admin:guess").decode()}, 401),
    "unknown account": ({"Authorization": "Basic " + base64.b64encode(b"nobody:guess").decode()}, 401),
    "wrong token": ({"Authorization": "Bearer " + "x" * 32}, 401),
    "empty token": ({"Authorization": "Bearer "}, 401),
    "other scheme": ({"Authorization": "Digest abc"}, 401),
    "no base64": ({"Authorization": "Basic ***"}, 400),
    "no colon": ({"Authorization": "Basic " + base64.b64encode(b"admin").decode()}, 400),
    "no utf-8": ({"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}, 400),
}


async def test_bad_credentials_are_refused_and_the_scheme_is_told(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http:
        for name, (headers, code) in BAD_CREDENTIALS.items():
            response = await http.get("/rpc/query", headers=headers)
            assert await refused(response) == code, name
            assert ("WWW-Authenticate" in response.headers) == (code == 401)
            if code == 401:
                assert response.headers["WWW-Authenticate"] == 'Basic realm="sysadmd", charset="UTF-8"'


async def test_auth_clear_ends_the_token_of_the_request(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http:
        _, headers = await bearer(live)
        assert await answer(await http.post("/rpc/auth_clear", headers=headers)) == (200, {})
        assert await refused(await http.get("/rpc/query", headers=headers)) == 401


# What is refused


async def test_errors_have_their_codes_and_a_json_body(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http, live.http("view") as viewer, live.http(None) as none:
        run = {"action": "run", "a": "true"}
        assert await refused(await none.get("/weather/report")) == 401
        assert await refused(await http.get("/weather/report")) == 404
        assert await refused(await http.get("/rpc/weather")) == 404
        assert await refused(await http.get("/rpc/")) == 400
        assert await refused(await http.get("/")) == 404
        assert await refused(await http.get("/rpc/dispatcher")) == 400
        assert await refused(await http.put("/rpc/dispatcher", json={"action": "fly"})) == 400
        assert await refused(await http.put("/rpc/dispatcher", json={"action": "kill"})) == 400
        assert await refused(await viewer.put("/rpc/dispatcher", json=run)) == 403


@pytest.mark.parametrize("body", [b"{", b"[" * 100, b"\xff", b'{"a": NaN}', b"{} {}"])
async def test_a_body_that_is_no_json_is_400(tmp_path: Path, body: bytes) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        assert await refused(await http.post("/rpc/query", data=body)) == 400


@pytest.mark.parametrize("verb", ["DELETE", "PATCH", "TRACE", "BREW"])
async def test_another_verb_is_405_and_told_which_are_offered(tmp_path: Path, verb: str) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        response = await http.request(verb, "/rpc/query")
        assert await refused(response) == 405
        assert {"GET", "PUT", "POST"} <= set(response.headers["Allow"].split(", "))


async def test_head_is_405_without_a_body(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        response = await http.head("/rpc/query")
        assert (response.status, await response.read()) == (405, b"")


async def test_options_tells_the_verbs_to_everybody(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http:
        response = await http.options("/rpc/query")
        assert (response.status, response.headers["Allow"]) == (200, "GET, PUT, POST, OPTIONS")


@pytest.mark.parametrize(
    "account,limit", [(None, Limits().frame_unauthenticated), ("admin", Limits().frame_authenticated)]
)
async def test_a_body_above_the_limit_is_413(tmp_path: Path, account: str | None, limit: int) -> None:
    async with running_app(tmp_path) as live, live.http(account) as http:
        good = await http.post("/rpc/identify", data=text_body(limit))
        assert (await answer(good))[0] == 200
        assert await refused(await http.post("/rpc/identify", data=text_body(limit + 1))) == 413


def text_body(size: int) -> io.BytesIO:
    """A JSON text of so many bytes."""
    return io.BytesIO(json.dumps("x" * (size - 2)).encode())


async def test_a_body_without_a_length_is_counted_as_it_comes(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1024

    async with running_app(tmp_path) as live, live.http(None) as http:
        assert await refused(await http.post("/rpc/identify", data=chunks())) == 413


async def test_a_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    async with running_app(tmp_path, limits__auth_timeout=0.2) as live, raw_socket(rest_port(live)) as (reader, writer):
        writer.write(b"POST /rpc/identify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize(
    "start,served",
    [(b"", False), (b"GET /rpc/iden", False), (b"GET /rpc/iden", True)],
    ids=["silent", "partial", "partial after an answer"],
)
async def test_a_slow_request_is_cut_off(tmp_path: Path, start: bytes, served: bool) -> None:
    limits: dict[str, Any] = {"limits__handshake_timeout": 0.2}
    async with running_app(tmp_path, **limits) as live, raw_socket(rest_port(live)) as (reader, writer):
        if served:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(start)
        await gone(reader, timeout=5)


def rest_port(live: LiveApp) -> int:
    return int(live.rest_url.rpartition(":")[2])


@pytest.mark.parametrize("path", ["/rpc/query?token=x", "/rpc/query?a=1&Password=x", "/api/v1/events?access_token=x"])
async def test_secrets_in_the_url_are_refused(tmp_path: Path, path: str) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        assert await refused(await http.get(path)) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=["origin", "opaque", "image", "sibling"],
)
@pytest.mark.parametrize("path", ["/rpc/dispatcher?action=list", "/api/v1/events"])
async def test_pages_of_other_sites_may_not_use_the_log_in_of_their_visitor(
    tmp_path: Path, path: str, headers: dict[str, str]
) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        assert await refused(await http.get(path, headers=headers)) == 403


async def test_our_own_pages_and_listed_ones_may_call(tmp_path: Path) -> None:
    async with running_app(tmp_path, origins=("https://console.example",)) as live, live.http() as http:
        for origin in ("https://console.example", live.rest_url, "sysadm-client"):
            response = await http.post("/rpc/dispatcher", json=LIST, headers={"Origin": origin})
            assert response.status == 200
        for site in ("none", "same-origin"):
            assert await status(http, "/rpc/query", headers={"Sec-Fetch-Site": site}) == 200


async def test_two_lengths_of_one_body_are_refused_and_the_connection_ends(tmp_path: Path) -> None:
    head = b"POST /rpc/identify HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with running_app(tmp_path) as live, raw_socket(rest_port(live)) as (reader, writer):
        writer.write(head + b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answered = await asyncio.wait_for(reader.read(), 5)
        assert answered.startswith(b"HTTP/1.1 400 ")
        assert answered.count(b"HTTP/1.1") == 1


async def test_a_path_without_a_name_is_400(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        assert await refused(await http.get("/rpc/query/")) == 400


async def test_a_fault_of_ours_is_500_without_details(tmp_path: Path) -> None:
    def fail(call: Any, services: Any) -> Any:
        raise RuntimeError("a secret detail")

    async with running_app(tmp_path) as live, live.http() as http:
        with replaced(live.app, "rpc/query", fail):
            status, args = await answer(await http.get("/rpc/query"))
        assert (status, args["message"]) == (500, InternalError().message)
        assert live.app.engine.counts["rpc/query", 500] == 1


async def test_a_server_that_stops_takes_no_calls(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        live.app.engine.draining = True
        assert await refused(await http.get("/rpc/query")) == 503
        assert await refused(await http.get("/api/v1/events")) == 503
        response = await http.get("/healthz")
        assert (response.status, (await response.json())["healthy"]) == (503, False)


# Other documents


async def test_healthz_tells_how_it_is_to_everybody(tmp_path: Path) -> None:
    async with running_app(tmp_path, node="vm") as live, live.http(None) as http:
        response = await http.get("/healthz")
        state = await response.json()
        assert response.status == 200
        assert (state["healthy"], state["node"], state["executor"]) == (True, "vm", "unreachable")


async def test_metrics_count_calls_and_sessions(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http, live.connect() as peer:
        await peer.call("rpc", "query")
        await http.get("/rpc/query")
        text = await (await http.get("/metrics")).text()
        assert 'sysadmd_calls_total{code="200",method="rpc/query"} 1.0' in text
        assert 'sysadmd_calls_total{code="401",method="rpc/query"} 1.0' in text
        assert 'sysadmd_sessions{authenticated="true",kind="tcp"} 1.0' in text
        assert PASSWORD not in text


async def test_metrics_need_a_log_in_from_elsewhere(tmp_path: Path) -> None:
    async with running_app(tmp_path, rest__trusted_proxies=("127.0.0.1",)) as live, live.http(None) as http:
        assert await status(http, "/metrics") == 200
        assert await refused(await http.get("/metrics", headers=ELSEWHERE)) == 401
        _, headers = await bearer(live, "view")
        assert await status(http, "/metrics", headers={**ELSEWHERE, **headers}) == 200


async def test_only_a_trusted_proxy_is_believed_about_the_client(tmp_path: Path) -> None:
    async with running_app(tmp_path, rest__trusted_proxies=("192.0.2.0/24",)) as live, live.http(None) as http:
        peers: list[str] = []
        opened = live.app.engine.open

        def noted(outlet: Any, peer: Any, **options: Any) -> Any:
            peers.append(peer.address)
            return opened(outlet, peer, **options)

        live.app.engine.open = noted  # type: ignore[method-assign]
        await http.get("/rpc/identify", headers=ELSEWHERE)
        assert live.app.listeners.http is not None
        live.app.listeners.http.trust(("127.0.0.0/8",))
        await http.get("/rpc/identify", headers=ELSEWHERE)
        await http.get("/rpc/identify", headers={"X-Forwarded-For": "127.0.0.1, 203.0.113.9"})
        live.app.listeners.http.trust(())
        await http.get("/rpc/identify", headers=ELSEWHERE)
        assert peers == ["127.0.0.1", "203.0.113.9", "203.0.113.9", "127.0.0.1"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
async def test_what_a_proxy_here_passes_on_does_not_count_as_loopback(tmp_path: Path, header: str) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http:
        assert await refused(await http.get("/metrics", headers={header: "203.0.113.9"})) == 401


async def test_openapi_describes_what_can_be_called(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as admin:
        document = await (await admin.get("/openapi.json")).json()
        assert document["openapi"].startswith("3.1.")
        assert set(document["paths"]["/rpc/query"]) == {"get", "put", "post"}
        methods = {path: item for path, item in document["paths"].items() if path.count("/") == 2}
        for path, item in methods.items():
            status = (await admin.get(path)).status
            # 400 for want of arguments, 401 for want of credentials in a log-in; never 404.
            assert status in {200, 400, 401}, path
            for operation in item.values():
                sent = operation["requestBody"]["content"]["application/json"]
                jsonschema.Draft202012Validator.check_schema(sent["schema"])
                validator = jsonschema.Draft202012Validator(sent["schema"])
                for example in sent["examples"].values():
                    validator.validate(example["value"])
                received = operation["responses"]["200"]["content"]["application/json"]["schema"]
                jsonschema.Draft202012Validator.check_schema(received)
        operations = [one["operationId"] for item in document["paths"].values() for one in item.values()]
        assert len(operations) == len(set(operations))
