"""Guessing passwords over real sockets. Loopback is never locked out, so the server is told that there is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sysadmd.server.app import App
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import PASSWORD

ELSEWHERE = ("127.0.0.2", 0)


def far(app: App) -> None:
    """Every address is like one of another machine."""
    app.auth.authenticator.exempt = lambda address: False


async def answer(live: LiveApp, name: str, password: str, **options: Any) -> dict[str, Any]:
    """The reply to one log-in on a connection of its own."""
    async with live.connect(login=None, **options) as peer:
        reply = await peer.request("rpc", "auth", {"username": name, "password": password})
    return {"name": reply["name"], "args": reply["args"]}


async def basic(live: LiveApp, password: str) -> tuple[int, str]:
    """Status and body of one call over REST."""
    async with live.http("admin", password) as http, http.post("/rpc/query") as reply:
        return reply.status, await reply.text()


async def test_five_wrong_passwords_close_the_door_to_the_right_one(tmp_path: Path) -> None:
    async with running_app(tmp_path, prepare=far) as live:
        wrong = [await answer(live, "admin", "wrong") for _ in range(5)]
        assert wrong[0]["args"]["code"] == 401
        assert all(one == wrong[0] for one in wrong)
        assert await answer(live, "admin", PASSWORD) == wrong[0]
        refused = [await basic(live, password) for password in ("wrong", PASSWORD)]
        assert refused[0] == refused[1]
        assert refused[0][0] == 401
        assert (await answer(live, "oper", PASSWORD))["name"] == "response"
        assert (await answer(live, "admin", PASSWORD, local_addr=ELSEWHERE))["name"] == "response"


async def test_a_lock_out_survives_a_restart(tmp_path: Path) -> None:
    async with running_app(tmp_path, prepare=far) as live:
        for _ in range(5):
            await answer(live, "admin", "wrong")
    async with running_app(tmp_path, prepare=far, accounts={}) as live:
        assert (await answer(live, "admin", PASSWORD))["args"]["code"] == 401
        assert (await answer(live, "admin", PASSWORD, local_addr=ELSEWHERE))["name"] == "response"


async def test_an_open_session_and_its_token_outlive_a_lock_out_of_their_address(tmp_path: Path) -> None:
    async with running_app(tmp_path, prepare=far) as live, live.connect(login=None) as admin:
        token = await admin.login()
        for _ in range(5):
            await answer(live, "admin", "wrong")
        await admin.call("rpc", "query")
        async with live.connect(login=None) as peer:
            assert (await peer.call("rpc", "auth_token", {"token": token}))[0] == token


async def test_an_administrator_sees_lock_outs_and_lifts_them(tmp_path: Path) -> None:
    async with running_app(tmp_path, prepare=far) as live, live.connect() as admin:
        for _ in range(5):
            await answer(live, "oper", "wrong", local_addr=ELSEWHERE)
        listed = await admin.call("rpc", "throttle", {"action": "list"})
        assert listed["total"] == 2
        assert {(one["account"], one["prefix"], one["failures"]) for one in listed["counts"]} == {
            ("oper", "127.0.0.2/32", 5),
            (None, "127.0.0.2/32", 5),
        }
        cleared = await admin.call("rpc", "throttle", {"action": "clear", "prefix": "127.0.0.2/32"})
        assert cleared == {"cleared": 2}
        assert (await answer(live, "oper", PASSWORD, local_addr=ELSEWHERE))["name"] == "response"
        records = (await admin.call("rpc", "audit", {"action": "list", "kind": "lockout"}))["records"]
        assert [(one["account"], one["prefix"]) for one in records] == [("oper", "127.0.0.2/32")]


@pytest.mark.parametrize("action", ["list", "clear"])
async def test_only_administrators_see_and_lift_lock_outs(tmp_path: Path, action: str) -> None:
    async with running_app(tmp_path) as live, live.connect("oper") as oper:
        reply = await oper.request("rpc", "throttle", {"action": action})
        assert reply["args"]["code"] == 403


async def test_nobody_locks_out_the_machine_itself(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        for _ in range(60):
            assert (await answer(live, "admin", "wrong"))["args"]["code"] == 401
        assert (await answer(live, "admin", PASSWORD))["name"] == "response"


async def test_sixty_four_log_ins_at_once_all_get_in(tmp_path: Path) -> None:
    def far_but_in_no_line(app: App) -> None:
        far(app)
        app.listeners.pending.exempt = lambda address: True

    async with running_app(tmp_path, prepare=far_but_in_no_line) as live:
        answers = await asyncio.gather(*(answer(live, "view", PASSWORD) for _ in range(64)))
        assert [one["name"] for one in answers] == ["response"] * 64
