"""Who is connected, over real sockets: seeing it, ending it, and keeping subscriptions over another log-in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sysadmd.events.record import Draft
from sysadmd.rpc.roster import KILLED
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import PASSWORD, Peer
from tests.integration.test_api_tokens import closed, code, create, header, records
from tests.integration.test_rest import answer
from tests.integration.test_unix_socket import peer_on, socket_of
from tests.integration.test_upgrade import upgraded
from tests.unit.rpc.test_engine import pending


async def sessions(peer: Peer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await peer.call("rpc", "sessions", {"action": "list"}))["sessions"]
    return found


async def only(peer: Peer, account: str | None) -> dict[str, Any]:
    """The one session of an account."""
    (found,) = [one for one in await sessions(peer) if one["account"] == account]
    return found


async def kill(peer: Peer, session_id: str) -> int:
    return await code(peer, "sessions", {"action": "kill", "id": session_id})


# Seeing


async def test_a_session_says_who_where_how_and_since_when(tmp_path: Path) -> None:
    before = time.time()
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect("view") as viewer:
        await viewer.call("events", "subscribe", ["dispatcher", "life-preserver"])
        one = await only(admin, "view")
        assert before - 0.1 <= one.pop("opened") <= time.time()
        assert 43_190 < one.pop("expires") - time.time() <= 43_200
        assert 0 <= one.pop("idle") < 10
        assert len(one.pop("id")) == 16
        assert one == {
            "account": "view",
            "roles": ["viewer"],
            "address": "127.0.0.1",
            "via": "tcp",
            "method": "password",
            "subscriptions": 2,
            "calls": 0,
            "classic": False,
            "insecure": False,
        }


async def test_every_door_and_every_proof_has_its_name(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        live = await stack.enter_async_context(running_app(tmp_path))
        admin = await stack.enter_async_context(live.connect())
        program = await stack.enter_async_context(live.connect(login=None))
        await stack.enter_async_context(upgraded(live, login="view"))
        socket = await stack.enter_async_context(peer_on(socket_of(live)))
        stranger = await stack.enter_async_context(live.connect(login=None))
        await program.call("rpc", "auth_token", {"token": (await create(admin, user="oper"))["token"]})
        async with live.http("view") as http:
            rest = (await answer(await http.get("/rpc/sessions", json={"action": "list"})))[1]["sessions"]
        found = await sessions(socket)
        assert stranger.events == []
    assert [(one["via"], one["method"], one["expires"] is None) for one in found] == [
        ("tcp", "password", False),
        ("tcp", "token", True),
        ("upgrade", "password", False),
        ("unix", "socket", True),
        ("tcp", None, True),
    ]
    assert [(one["account"], one["via"], one["calls"]) for one in rest] == [("view", "upgrade", 0), ("view", "rest", 0)]


async def test_who_does_not_administer_sees_and_ends_only_their_own(tmp_path: Path) -> None:
    async with (
        running_app(tmp_path) as live,
        live.connect() as admin,
        live.connect("view") as viewer,
        live.connect("view") as second,
        live.connect(login=None),
    ):
        assert [one["account"] for one in await sessions(viewer)] == ["view", "view"]
        assert len(await sessions(admin)) == 4
        theirs = (await only(admin, "admin"))["id"]
        replies = [
            (await viewer.request("rpc", "sessions", {"action": "kill", "id": one}))["args"]
            for one in (theirs, "0000000000000000")
        ]
        assert replies[0] == replies[1]
        assert replies[0]["code"] == 404
        assert await kill(viewer, (await sessions(viewer))[1]["id"]) == 200
        assert await closed(second) == (1008, KILLED)
        assert await code(admin, "query") == 200


# Ending


async def test_a_killed_session_is_closed_now_and_its_token_is_over_everywhere(tmp_path: Path) -> None:
    async with (
        running_app(tmp_path) as live,
        live.connect() as admin,
        live.connect(login=None) as victim,
        live.connect(login=None) as shares,
        live.connect("view") as other,
    ):
        token = await victim.login("oper")
        session = (await only(admin, "oper"))["id"]
        await shares.call("rpc", "auth_token", {"token": token})
        began = time.monotonic()
        assert await kill(admin, session) == 200
        assert await closed(victim) == (1008, KILLED)
        assert await closed(shares) == (1008, "the identity was revoked")
        assert time.monotonic() - began < 5
        assert [one["account"] for one in await sessions(admin)] == ["admin", "view"]
        assert await code(other, "query") == 200
        async with live.connect(login=None) as late:
            assert await code(late, "auth_token", {"token": token}) == 401


async def test_a_killed_session_gets_no_more_events_though_it_reads_none(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect("oper") as victim:
        await victim.call("events", "subscribe", ["dispatcher"])
        assert await kill(admin, (await only(admin, "oper"))["id"]) == 200
        live.app.events.publish(Draft("dispatcher", pending("late"), durable=False))
        await closed(victim)
        assert victim.events == []


async def test_a_killed_session_s_calls_are_cancelled(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True) as live, live.connect() as admin, live.connect() as victim:
        args = {"action": "exec", "commands": [["sleep", "60"]]}
        await victim.send({"namespace": "rpc", "name": "dispatcher", "id": "long", "args": args})
        async with asyncio.timeout(10):
            while not (busy := [one for one in await sessions(admin) if one["calls"] and one["subscriptions"] == 0]):
                await asyncio.sleep(0.02)
        assert await kill(admin, busy[0]["id"]) == 200
        assert await closed(victim) == (1008, KILLED)
        assert len(await sessions(admin)) == 1


async def test_who_ended_which_session_is_in_the_trail(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect("view") as viewer:
        session = (await only(admin, "view"))["id"]
        assert await kill(admin, session) == 200
        await closed(viewer)
        record = (await records(live, "call"))[-1]
    assert (record["account"], record["method"], record["args"]) == ("admin", "rpc/sessions/kill", {"id": session})


async def test_an_api_token_survives_the_session_that_used_it(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect(login=None) as program:
        made = await create(admin, user="oper")
        await program.call("rpc", "auth_token", {"token": made["token"]})
        assert await kill(admin, (await only(admin, "oper"))["id"]) == 200
        assert await closed(program) == (1008, KILLED)
        async with live.http(None) as http:
            assert (await http.get("/rpc/query", headers=header(made["token"]))).status == 200


async def test_who_ends_the_session_that_makes_the_call_is_answered_first(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        token = await peer.login()
        assert await kill(peer, (await sessions(peer))[0]["id"]) == 200
        assert await closed(peer) == (1008, KILLED)
        async with live.connect(login=None) as late:
            assert await code(late, "auth_token", {"token": token}) == 401


@pytest.mark.parametrize("door", ["upgrade", "unix", "stranger", "stream"])
async def test_a_session_of_any_door_can_be_ended(tmp_path: Path, door: str) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, opened(live, door) as ended:
        (session,) = [one for one in await sessions(admin) if one["account"] != "admin" or one["via"] != "tcp"]
        assert await kill(admin, session["id"]) == 200
        async with asyncio.timeout(10):
            assert await ended() in {(1008, KILLED), "end of stream"}


@contextlib.asynccontextmanager
async def opened(live: LiveApp, door: str) -> AsyncIterator[Any]:
    """A session by this door; what is yielded waits for its end."""
    if door == "stream":
        async with live.http("view") as http, http.get("/api/v1/events?topic=dispatcher") as response:

            async def end() -> str:
                await response.content.read()
                return "end of stream"

            yield end
        return
    doors: dict[str, Any] = {
        "upgrade": lambda: upgraded(live, login="view"),
        "unix": lambda: peer_on(socket_of(live)),
        "stranger": lambda: live.connect(login=None),
    }
    async with doors[door]() as peer:
        yield lambda: closed(peer)


# Time


async def test_an_open_connection_outlives_the_fifteen_minutes_and_ends_at_its_absolute_end(tmp_path: Path) -> None:
    passed = 0.0
    async with (
        running_app(tmp_path) as live,
        live.connect(login=None) as peer,
        live.connect(login=None) as left,
        live.connect(login=None) as late,
    ):
        engine, tokens = live.app.engine, live.app.auth.tokens
        monkeyed = pytest.MonkeyPatch()
        monkeyed.setattr(engine, "monotonic", lambda: time.monotonic() + passed)
        monkeyed.setattr(tokens, "_clock", lambda: time.time() + passed)
        token, unused = await peer.login(), await left.login("view")
        await left.connection.close()
        for _ in range(3):
            passed += 800
            engine.sweep()
            assert await code(peer, "query") == 200
        assert (await closed(late))[0] == 1008  # a stranger for longer than the grace
        async with live.connect(login=None) as again, live.connect(login=None) as third:
            assert await code(again, "auth_token", {"token": token}) == 200
            assert await code(third, "auth_token", {"token": unused}) == 401
        passed = 43_201
        engine.sweep()
        assert (await closed(peer))[0] == 1008
        async with live.connect(login=None) as last:
            assert await code(last, "auth_token", {"token": token}) == 401
        monkeyed.undo()


# Another log-in on the same connection


async def test_another_log_in_keeps_the_subscriptions_without_a_gap(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect("view") as peer:
        await peer.call("events", "subscribe", ["dispatcher"])
        published = 0

        async def publish() -> None:
            nonlocal published
            while True:
                live.app.events.publish(Draft("dispatcher", pending(str(published)), durable=False))
                published += 1
                await asyncio.sleep(0.001)

        publisher = asyncio.create_task(publish())
        try:
            for name in ("oper", "view"):
                before = published
                await peer.call("rpc", "auth", {"username": name, "password": PASSWORD})
                while published < before + 20:
                    await asyncio.sleep(0.001)
            token = (await peer.call("rpc", "auth", {"username": "view", "password": PASSWORD}))[0]
            assert len(token) == 32
        finally:
            publisher.cancel()
        last = str(published - 1)
        seen: list[str] = []

        def is_last(event: dict[str, Any]) -> bool:
            seen.append(event["args"]["process_id"])
            return seen[-1] == last

        await peer.event(is_last)
        assert seen == [str(number) for number in range(published)]


async def test_a_log_in_that_may_see_less_sees_less_from_then_on(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect("view") as peer:
        await peer.call("events", "subscribe", ["dispatcher"])
        await peer.login("nobody-much")
        live.app.events.publish(Draft("dispatcher", pending("unseen"), durable=False))
        await peer.login("view")
        live.app.events.publish(Draft("dispatcher", pending("seen"), durable=False))
        event = await peer.event(lambda event: event["args"]["process_id"] is not None)
        assert event["args"]["process_id"] == "seen"


async def test_the_list_of_sessions_shows_no_token(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        token = await peer.login()
        assert token not in str(await sessions(peer))
