"""`GET /api/v1/events`: events as a stream of server-sent events, and how it resumes and ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sysadmd.events.record import Draft
from sysadmd.listen import sse
from tests.integration.apps import LiveApp, running_app
from tests.integration.test_rest import bearer, refused
from tests.integration.test_websocket_listener import no_sessions

EVENTS = "/api/v1/events"


@dataclass
class Block:
    """One event of a stream; `id` is None where it has none."""

    event: str
    data: Any
    id: str | None

    @property
    def message(self) -> str:
        return str(self.data["args"]["message"])


class Stream:
    """Reads a response as a browser's EventSource would, comments included."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def line_block(self) -> dict[str, str]:
        """The fields of the next block; the field of a comment is empty."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(10):
            while (line := (await self.response.content.readline()).decode()) != "\n":
                if not line:
                    raise EOFError
                name, _, value = line.rstrip("\n").partition(":")
                fields[name] = value.removeprefix(" ")
        return fields

    async def next(self) -> Block:
        while "event" not in (fields := await self.line_block()):
            pass
        return Block(fields["event"], json.loads(fields["data"]), fields.get("id"))

    async def messages(self, count: int) -> list[str]:
        return [(await self.next()).message for _ in range(count)]


@contextlib.asynccontextmanager
async def stream(
    http: aiohttp.ClientSession, query: str = "?topic=life_preserver", last: str | None = None, **headers: str
) -> AsyncIterator[Stream]:
    if last is not None:
        headers["Last-Event-ID"] = last
    async with http.get(EVENTS + query, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        found = Stream(response)
        assert await found.line_block() == {"retry": "2000"}
        yield found


def tell(live: LiveApp, *messages: str) -> None:
    for message in messages:
        data = {"message": message, "priority": 1, "class": "snapshot"}
        live.app.events.publish(Draft("life_preserver", data, durable=True))


async def test_events_arrive_with_their_id_topic_and_meta(tmp_path: Path) -> None:
    async with running_app(tmp_path, node="vm") as live, live.http() as http, stream(http) as events:
        tell(live, "one")
        block = await events.next()
        head = live.app.events.head
        assert block.event == "life_preserver"
        assert block.id == f"{live.app.events.epoch}:{head}"
        assert block.data["args"] == {"message": "one", "priority": "1/Information", "class": "snapshot"}
        assert (block.data["seq"], block.data["node"]) == (head, "vm")
        assert isinstance(block.data["time"], float)


async def test_a_stream_resumes_without_a_hole_or_a_duplicate(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        async with stream(http) as events:
            tell(live, "one", "two")
            assert await events.messages(1) == ["one"]
            last = await events.next()
        tell(live, "three", "four")
        async with stream(http, last=last.id) as events:
            tell(live, "five")
            assert await events.messages(3) == ["three", "four", "five"]
        async with stream(http, f"?topic=life_preserver&since={last.id}") as events:
            assert await events.messages(3) == ["three", "four", "five"]


async def test_a_stream_resumes_after_a_restart(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http, stream(http) as events:
        tell(live, "one", "two")
        last = await events.next()
    async with running_app(tmp_path, accounts={}) as live, live.http() as http, stream(http, last=last.id) as events:
        tell(live, "three")
        assert await events.messages(2) == ["two", "three"]


async def test_an_id_of_another_history_is_told_by_a_gap(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http, stream(http, last="0123:9") as events:
        block = await events.next()
        assert (block.event, block.data["args"]["cause"]) == ("gap", "restart")


async def test_a_snapshot_is_the_last_of_each_topic_unless_the_stream_resumes(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        tell(live, "old", "last")
        await live.app.events.submit(lambda _: (None, []))
        query = "?topic=life_preserver&snapshot=1"
        async with stream(http, query) as events:
            block = await events.next()
            assert block.message == "last"
        async with stream(http, query, last=block.id) as events:
            tell(live, "new")
            assert await events.messages(1) == ["new"]
        async with stream(http, query, last="0123:9") as events:
            assert (await events.next()).event == "gap"
            assert await events.messages(1) == ["new"]


async def test_a_snapshot_tells_what_runs(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True) as live, live.http() as http:
        await http.post("/rpc/dispatcher", json={"action": "run", "nap": "sleep 30"})
        async with stream(http, "?topic=dispatcher&snapshot=1") as events:
            assert (await events.next()).data["args"]["process_id"] == "nap"
        await http.post("/rpc/dispatcher", json={"action": "kill", "job_id": "nap"})


@pytest.mark.parametrize("query", ["", "?topic=life-preserver", "?topic=dispatcher,life_preserver", "?topic=a&topic=b"])
async def test_topics_are_chosen_by_the_query(tmp_path: Path, query: str) -> None:
    query = query.replace("topic=a&topic=b", "topic=dispatcher&topic=life_preserver")
    async with running_app(tmp_path) as live, live.http() as http, stream(http, query) as events:
        tell(live, "one")
        while (block := await events.next()).event != "life_preserver":
            pass
        assert block.message == "one"


@pytest.mark.parametrize("query", ["?topic=weather", "?since=abc", "?since=:5", "?since=a:-1", "?since=a:b"])
async def test_a_bad_query_is_400(tmp_path: Path, query: str) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        assert await refused(await http.get(EVENTS + query)) == 400
        await no_sessions(live)


async def test_who_may_not_listen_is_refused(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as stranger, live.http("nobody-much") as roleless:
        assert await refused(await stranger.get(EVENTS)) == 401
        assert await refused(await roleless.get(EVENTS)) == 403
        await no_sessions(live)


async def test_a_quiet_stream_sends_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse.StreamOutlet.__init__, "__defaults__", (0.05,))
    async with running_app(tmp_path) as live, live.http() as http, stream(http) as events:
        assert await events.line_block() == {"": ""}
        tell(live, "one")
        assert await events.messages(1) == ["one"]


async def test_a_stream_that_its_client_leaves_is_forgotten(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http:
        async with stream(http):
            assert {session.peer.kind for session in live.app.engine.sessions} == {"rest"}
        await no_sessions(live)
        assert live.app.events.followers == 0


async def ended(events: Stream) -> Block:
    """The last block of a stream, past its events, and that nothing follows."""
    while (block := await events.next()).event != "error":
        pass
    with pytest.raises(EOFError):
        await events.next()
    return block


async def test_a_stopping_server_ends_its_streams_with_the_reason(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as http, stream(http) as events:
        tell(live, "one")
        live.stop()
        assert (await ended(events)).data == {"code": 503, "message": "the server is stopping"}


async def test_a_new_password_ends_the_streams_of_the_account(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http() as admin, live.http("view") as http, stream(http) as events:
        await admin.post("/rpc/accounts", json={"action": "passwd", "name": "view", "password": "another one"})
        assert (await ended(events)).data["message"] == "the identity was revoked"


async def test_a_token_given_back_ends_the_streams_that_it_opened(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http:
        _, headers = await bearer(live)
        async with stream(http, **headers) as events:
            await http.post("/rpc/auth_clear", headers=headers)
            assert (await ended(events)).data["message"] == "the identity was revoked"


async def test_a_slow_reader_of_a_stream_is_told_of_the_gap(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"limits__queue_events": 10}
    async with running_app(tmp_path, **limits) as live, live.http() as http, stream(http) as events:
        # More than the buffers of both sockets take, while nobody reads.
        tell(live, *["x" * 100_000 for _ in range(200)])
        await live.app.events.submit(lambda _: (None, []))
        tell(live, "last")
        seen, gaps = 0, 0
        while (block := await events.next()).event == "gap" or block.message != "last":
            seen, gaps = seen + (block.event != "gap"), gaps + (block.event == "gap")
        assert gaps >= 1
        assert seen < 200
