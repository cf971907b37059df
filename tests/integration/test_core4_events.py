"""core4's event socket: what it answers, whom it tells what, how it goes on and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sysadmd.events import Draft
from sysadmd.listen.core4.socket import CLOSE_OVERFLOW
from sysadmd.server.app import App
from tests.integration.apps import LiveApp, running_app
from tests.integration.core4_client import Socket, event_socket, logged_in, user
from tests.integration.servers import PASSWORD
from tests.integration.test_core4 import authorization

ROW = {"state": "running", "zombie": False, "wall": False, "removed": False, "killed": False, "n": 1, "progress": 0.5}


def tell(live: LiveApp, event: str, name: str = "a.Job", number: int = 1) -> None:
    """What the queue tells of a job."""
    job = {"id": f"{number:024x}", "seq": number, "name": name, "kind": "task", "owner": "ada", "state": "running"}
    data = {"event": event, "job": job, "counts": {"running": 1}, "attempts_left": 1}
    live.app.events.publish(Draft("queue", data, durable=True, permission=name))


def summarise(live: LiveApp, *rows: dict[str, Any]) -> None:
    """What the queue tells of itself."""
    live.app.events.publish(Draft("queue", {"event": "summary", "rows": [{**ROW, **one} for one in rows]}, False))


async def quiet(socket: Socket) -> list[dict[str, Any]]:
    """What comes before the answer to a question that is asked now."""
    await socket.send({"type": "are you there"})
    seen = []
    while (message := await socket.receive()) != {"type": "error", "message": "unknown type"}:
        seen.append(message)
    return seen


async def closed(socket: Socket) -> tuple[int, str]:
    """Code and reason of the end."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await socket.receive()
    connection = socket.connection
    return connection.close_code or 0, connection.close_reason or ""


# The handshake


async def test_each_proof_opens_the_socket(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        test = await user(live)
        bearer = {"Authorization": f"Bearer {test.token}"}
        async with event_socket(live, test.token) as socket:
            assert (await socket.interest("queue"))["data"] == ["queue"]
        for headers in (bearer, authorization("test", PASSWORD)):
            async with event_socket(live, additional_headers=headers) as socket:
                assert (await socket.interest("queue"))["data"] == ["queue"]
        url = live.rest_url.replace("http", "ws", 1) + f"/core4/api/v1/event?username=test&password={PASSWORD}"
        async with connect(url.replace(" ", "%20")) as connection:
            assert (await Socket(connection).interest("queue"))["data"] == ["queue"]


@pytest.mark.parametrize("token", [None, "", "x", "a" * 32])
async def test_a_stranger_is_refused_with_401(tmp_path: Path, token: str | None) -> None:
    async with running_app(tmp_path) as live:
        with pytest.raises(InvalidStatus) as refused:
            async with event_socket(live, token):
                pass
        answer = refused.value.response
        assert (answer.status_code, json.loads(answer.body or b"")["message"]) == (401, "Unauthorized")
        assert "WWW-Authenticate" in answer.headers


async def test_the_socket_needs_its_permission(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        without = await user(live, "without", "api://core4.api.v1.request.standard.profile.*", role=())
        alone = await user(live, "alone", "api://core4.api.v1.request.standard.event.EventHandler/r", role=())
        with pytest.raises(InvalidStatus) as refused:
            async with event_socket(live, without.token):
                pass
        assert refused.value.response.status_code == 403
        async with event_socket(live, alone.token) as socket:
            await socket.interest("queue")
            tell(live, "start_job")
            assert (await socket.event("start_job"))["data"]["name"] == "UnauthorizedJob"


async def test_a_foreign_page_is_refused(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        with pytest.raises(InvalidStatus) as refused:
            async with event_socket(live, admin.token, origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        async with event_socket(live, admin.token, origin=live.rest_url):
            pass


# Answers


async def test_the_answers_are_those_that_clients_know(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            await socket.send("no json")
            assert await socket.text() == "error parsing json data"
            assert await socket.ask({"type": "enter"}) == {"type": "error", "message": "unknown type"}
            assert await socket.interest("Queue ", "message", "queue") == {
                "type": "interest",
                "data": ["queue", "message"],
                "message": "processed interest in ['queue', 'message']",
            }
            malformed = await socket.ask({"type": "message", "channel": "message"})
            assert malformed == {"type": "error", "message_id": None, "message": "malformed message"}
            assert (await socket.interest())["data"] == []


async def test_a_new_socket_hears_nothing(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            tell(live, "start_job")
            assert await quiet(socket) == []


async def test_an_interest_replaces_the_one_before(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            await socket.interest("queue")
            await socket.interest("message")
            await quiet(socket)
            tell(live, "start_job")
            await live.app.events.submit(lambda _: (None, []))
            assert await quiet(socket) == []


async def test_a_job_is_told_in_the_envelope(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            await socket.interest("queue")
            tell(live, "start_job")
            event = await socket.event("start_job")
            assert len(event.pop("_id")) == 24
            assert set(event) == {"created", "name", "author", "channel", "data"}
            assert event["channel"] == "queue"
            data = event["data"]
            assert (data["_id"], data["queue"], data["name"]) == (f"{1:024x}", {"running": 1}, "a.Job")
            assert data["seq"] == live.app.events.head


# Messages


async def test_a_message_reaches_who_listens_and_is_kept(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        test, other = await user(live), await user(live, "other")
        async with event_socket(live, test.token) as sender, event_socket(live, other.token) as listener:
            await listener.interest("message")
            first = await sender.ask({"type": "message", "channel": "message", "text": "hi"})
            assert first == {
                "type": "interest",
                "message_id": first["message_id"],
                "message": "OK, added interest in channel",
            }
            second = await sender.ask({"type": "message", "channel": "message", "text": "again"})
            assert second == {"type": "send", "message_id": second["message_id"], "message": "OK"}
            heard = [await listener.event("message") for _ in range(2)]
            assert [(one["_id"], one["author"], one["data"]) for one in heard] == [
                (first["message_id"], "test", "hi"),
                (second["message_id"], "test", "again"),
            ]
            assert {one["channel"] for one in heard} == {"message"}
        history = await test.get("event/history", per_page=1)
        assert (history["total_count"], history["page_count"]) == (2.0, 2)
        assert [one["data"] for one in history["data"]] == ["again"]
        assert (await test.get("event/history", per_page=1, page=1))["data"][0] == {
            "_id": first["message_id"],
            "created": heard[0]["created"],
            "author": "test",
            "channel": "message",
            "data": "hi",
        }


async def test_channels_of_their_own_are_apart(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        test = await user(live)
        async with event_socket(live, test.token) as one, event_socket(live, test.token) as other:
            await one.interest("a")
            await other.interest("b")
            await other.ask({"type": "message", "channel": "b", "text": "for b"})
            assert await quiet(one) == []
        wanted = json.dumps({"channel": "b", "author": "test"})
        assert [one["data"] for one in (await test.get("event/history", filter=wanted))["data"]] == ["for b"]
        assert (await test.get("event/history"))["data"] == []


@pytest.mark.parametrize("channel", ["queue", "system", "dispatcher", "QUEUE"])
async def test_nobody_speaks_for_the_server(tmp_path: Path, channel: str) -> None:
    """There, a message on `queue` was told as an event of it and broke the history."""
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            refused = await socket.ask({"type": "message", "channel": channel, "text": "complete_job"})
            assert (refused["type"], refused["message_id"]) == ("error", None)
        assert (await admin.get("jobs/history"))["data"] == []


# Summaries


async def test_the_state_of_the_queue_comes_at_once_even_if_it_is_empty(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            await socket.interest("queue")
            summary = await socket.receive()
            assert set(summary) == {"created", "name", "author", "channel", "data"}
            assert (summary["name"], summary["data"]) == ("summary", [])
            await socket.interest("queue", "message")
            assert (await socket.receive())["data"] == []


async def test_a_summary_that_says_nothing_new_is_not_sent(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin, test = await logged_in(live), await user(live)
        async with event_socket(live, admin.token) as named, event_socket(live, test.token) as masked:
            for socket in (named, masked):
                await socket.interest("queue")
                await socket.event("summary")
            summarise(live, {"name": "a.Job"})
            await named.event("summary")
            assert [row["name"] for row in (await masked.event("summary"))["data"]] == ["UnauthorizedJob"]
            summarise(live, {"name": "a.Job"})
            assert await quiet(named) == []
            summarise(live, {"name": "b.Job"})  # which looks the same to who may read neither
            assert (await named.event("summary"))["data"][0]["name"] == "b.Job"
            assert await quiet(masked) == []


async def test_each_sees_the_names_of_its_own_jobs_whoever_comes_first(tmp_path: Path) -> None:
    """There, masking for one socket masked for those after it too; and once, every row for everybody."""
    async with running_app(tmp_path) as live:
        admin, nobody = await logged_in(live), await user(live, "nobody")
        reader, runner = await user(live, "reader", "job://a.Job/r"), await user(live, "runner", r"job://b\..*/x")
        expected = {
            nobody.token: {"UnauthorizedJob"},
            admin.token: {"a.Job", "b.Job"},
            reader.token: {"a.Job", "UnauthorizedJob"},
            runner.token: {"b.Job", "UnauthorizedJob"},
        }
        async with (
            event_socket(live, nobody.token) as first,
            event_socket(live, admin.token) as second,
            event_socket(live, reader.token) as third,
            event_socket(live, runner.token) as fourth,
        ):
            sockets = (first, second, third, fourth)
            for socket in sockets:
                await socket.interest("queue")
                await socket.event("summary")
            for _ in range(2):
                summarise(live, {"name": "a.Job"}, {"name": "b.Job", "n": 2})
                for socket, names in zip(sockets, expected.values(), strict=True):
                    rows = (await socket.event("summary"))["data"]
                    assert {row["name"] for row in rows} == names
                    assert sum(row["n"] for row in rows) == 3
                summarise(live)
                for socket in sockets:
                    assert (await socket.event("summary"))["data"] == []
            tell(live, "start_job", "a.Job")
            told = [(await socket.event("start_job"))["data"] for socket in sockets]
            assert ["_id" in data for data in told] == [False, True, True, False]
            assert [data["name"] for data in told] == ["UnauthorizedJob", "a.Job", "a.Job", "UnauthorizedJob"]


async def test_a_changed_permission_is_seen_on_the_open_socket(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin, test = await logged_in(live), await user(live)
        async with event_socket(live, test.token) as socket:
            await socket.interest("queue")
            tell(live, "start_job")
            assert (await socket.event("start_job"))["data"]["name"] == "UnauthorizedJob"
            etag = (await admin.get("roles/test"))["data"]["etag"]
            given = (await admin.put("roles/test", perm=["job://a.Job/r"], etag=etag))["data"]
            tell(live, "start_job")
            assert (await socket.event("start_job"))["data"]["name"] == "a.Job"
            await admin.put("roles/test", perm=[], etag=given["etag"])
            tell(live, "start_job")
            assert (await socket.event("start_job"))["data"]["name"] == "UnauthorizedJob"


# Going on


async def test_who_comes_back_misses_nothing_and_gets_nothing_twice(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            await socket.interest("queue")
            tell(live, "start_job", number=1)
            last = (await socket.event("start_job"))["data"]["seq"]
        for number in range(2, 6):
            tell(live, "start_job", number=number)
        async with event_socket(live, admin.token) as socket:
            await socket.interest("queue", since=last)
            tell(live, "start_job", number=6)
            ids = [(await socket.event("start_job"))["data"]["_id"] for _ in range(5)]
        assert ids == [f"{number:024x}" for number in range(2, 7)]


async def test_what_left_the_memory_comes_from_the_disk(tmp_path: Path) -> None:
    async with running_app(tmp_path, limits__ring_events=4) as live:
        admin, test = await logged_in(live), await user(live)
        start = live.app.events.head
        for number in range(1, 21):
            tell(live, "start_job", number=number)
            summarise(live, {"name": "a.Job", "n": number})
        for token, key in ((admin.token, "_id"), (test.token, "seq")):
            async with event_socket(live, token) as socket:
                await socket.interest("queue", since=start)
                messages: list[dict[str, Any]] = []
                while sum(one["name"] == "start_job" for one in messages) < 20:
                    messages.append(await socket.receive())
                data = [one["data"] for one in messages if one["name"] == "start_job"]
                assert len({one[key] for one in data}) == 20
                assert not [one for one in messages if one["name"] == "gap"]


async def test_a_seq_of_another_history_is_answered_with_a_gap(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            await socket.interest("queue", since=1 << 40)
            gap = await socket.event("gap")
            assert (gap["channel"], gap["data"]["cause"]) == ("system", "restart")


async def test_one_channel_more_loses_nothing_of_the_others(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            await socket.interest("queue")
            for number in range(1, 11):
                tell(live, "start_job", number=number)
                await socket.send({"type": "interest", "data": ["queue", f"channel{number}"]})
            ids = [(await socket.event("start_job"))["data"]["_id"] for _ in range(10)]
            assert ids == [f"{number:024x}" for number in range(1, 11)]


# The end


async def test_a_client_that_does_not_read_is_cut_and_others_are_told_on(tmp_path: Path) -> None:
    async with running_app(tmp_path, limits__queue_events=50, limits__write_buffer=4096) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token, max_queue=1) as slow, event_socket(live, admin.token) as quick:
            for socket in (slow, quick):
                await socket.interest("queue")
            last = 0
            with anyio.fail_after(50):
                while all(session.outlet.closing is None for session in _sockets(live.app)):
                    for number in range(last + 1, last + 26):
                        tell(live, "start_job", number=number)
                    last += 25
                    told = [(await quick.event("start_job"))["data"]["_id"] for _ in range(25)]
                    assert told[-1] == f"{last:024x}"
            assert (await closed(slow))[0] == CLOSE_OVERFLOW


def _sockets(app: App) -> list[Any]:
    return [session for session in app.engine.sessions if session.peer.kind == "upgrade"]


async def test_a_log_out_ends_the_socket(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        test = await user(live)
        async with event_socket(live, test.token) as socket:
            await socket.interest("queue")
            await test.post("logout")
            assert await closed(socket) == (1008, "the identity was revoked")


@pytest.mark.parametrize("way", ["removed", "inactive", "password"])
async def test_a_lost_account_ends_the_socket(tmp_path: Path, way: str) -> None:
    async with running_app(tmp_path) as live:
        admin, test = await logged_in(live), await user(live)
        etag = (await admin.get("roles/test"))["data"]["etag"]
        async with event_socket(live, test.token) as socket:
            await socket.interest("queue")
            if way == "removed":
                await admin.delete("roles/test", etag=etag)
            else:
                change = {"is_active": False} if way == "inactive" else {"password": "another one"}
                await admin.put("roles/test", etag=etag, **change)
            assert (await closed(socket))[0] == 1008


async def test_the_socket_ends_with_its_token(tmp_path: Path) -> None:
    async with running_app(tmp_path, limits__token_absolute=2.0, limits__token_idle=2.0) as live:
        test = await user(live)
        async with event_socket(live, test.token) as socket:
            await socket.interest("queue")
            assert await closed(socket) == (1008, "the session expired")


async def test_the_socket_ends_with_its_permission(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin, test = await logged_in(live), await user(live)
        etag = (await admin.get("roles/test"))["data"]["etag"]
        async with event_socket(live, test.token) as socket:
            await socket.interest("queue")
            await admin.put("roles/test", role=[], etag=etag)
            assert (await closed(socket))[0] == 1008


async def test_a_stopping_server_says_so(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        async with event_socket(live, admin.token) as socket:
            await socket.interest("queue")
            live.stop()
            assert await closed(socket) == (1001, "the server is stopping")


async def test_a_connection_that_comes_and_goes_while_summaries_are_told_ends_nothing(tmp_path: Path) -> None:
    """There, a socket that connected at the wrong moment ended the summaries of everybody."""
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)

        async def visit() -> None:
            async with event_socket(live, admin.token) as socket:
                await socket.interest("queue")

        async with event_socket(live, admin.token) as socket:
            await socket.interest("queue")
            async with asyncio.TaskGroup() as tasks:
                for number in range(1, 21):
                    tasks.create_task(visit())
                    summarise(live, {"name": "a.Job", "n": number})
                    await asyncio.sleep(0)
            summarise(live, {"name": "a.Job", "n": 99})
            await socket.until(
                lambda one: one.get("name") == "summary" and one["data"][:1] == [{**ROW, "name": "a.Job", "n": 99}]
            )
