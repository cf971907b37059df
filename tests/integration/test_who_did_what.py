"""Whoever comes by whichever door: what they changed and what they were refused is in the trail, with who and where."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sysadmd.errors import Unavailable
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import Peer
from tests.integration.test_rest import answer
from tests.integration.test_unix_socket import peer_on, socket_of
from tests.integration.test_upgrade import upgraded

Call = Callable[[str, dict[str, Any]], Awaitable[int]]
ADD = {"action": "add", "name": "bert", "password": "not to be written down"}


def over(peer: Peer) -> Call:
    async def call(name: str, args: dict[str, Any]) -> int:
        reply = await peer.request("rpc", name, args)
        return 200 if reply["name"] == "response" else int(reply["args"]["code"])

    return call


@contextlib.asynccontextmanager
async def door(live: LiveApp, kind: str, account: str) -> AsyncIterator[Call]:
    """Calls that come by one of the doors, as one account."""
    if kind == "rest":
        async with live.http(account) as http:

            async def call(name: str, args: dict[str, Any]) -> int:
                return (await answer(await http.post(f"/rpc/{name}", json=args)))[0]

            yield call
    elif kind == "unix":
        async with peer_on(socket_of(live)) as peer:
            await peer.login(account)
            yield over(peer)
    else:
        async with live.connect(account) if kind == "tcp" else upgraded(live, login=account) as peer:
            yield over(peer)


async def records(live: LiveApp, kind: str, door: str) -> list[dict[str, Any]]:
    """The records of a kind that came by a door, once everything that was to be written is."""
    await live.app.events.submit(lambda connection: (None, ()))
    found = (await live.app.auth.audit.list(limit=1000, kind=kind))["records"]
    return [one for one in found if one.get("via") == door]


@pytest.mark.parametrize("kind", ["tcp", "upgrade", "rest", "unix"])
async def test_a_change_and_a_refusal_are_recorded_with_account_and_address(tmp_path: Path, kind: str) -> None:
    async with running_app(tmp_path) as live:
        async with door(live, kind, "admin") as call:
            assert await call("accounts", ADD) == 200
        async with door(live, kind, "view") as call:
            assert await call("accounts", ADD) == 403
            assert await call("dispatcher", {"action": "list"}) == 200
        (change,) = await records(live, "call", kind)
        (refusal,) = await records(live, "refused", kind)
        log_ins = await records(live, "login", kind)
    assert (change["account"], change["method"]) == ("admin", "rpc/accounts/add")
    assert (refusal["account"], refusal["method"], refusal["code"]) == ("view", "rpc/accounts/add", 403)
    assert {one["account"] for one in log_ins} >= {"admin", "view"}
    assert all(one["address"] for one in (change, refusal, *log_ins))
    assert ADD["password"] not in str((change, refusal, log_ins))


async def test_a_peer_of_the_machine_is_recorded_by_its_uid_s_account(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        async with peer_on(socket_of(live)) as peer:
            assert await over(peer)("accounts", ADD) == 200
        (change,) = await records(live, "call", "unix")
    assert change["account"] == pwd.getpwuid(os.geteuid()).pw_name


async def test_a_command_is_recorded_with_who_asked_for_it(tmp_path: Path) -> None:
    run = {"action": "run", "tidy": [["rm", "-r", "/tmp/none"]]}
    async with running_app(tmp_path) as live:
        async with door(live, "tcp", "admin") as call:
            assert await call("dispatcher", run) == 200
        (record,) = await records(live, "call", "tcp")
    assert (record["account"], record["method"]) == ("admin", "rpc/dispatcher/run")
    assert record["args"]["tidy"] == run["tidy"]


async def test_without_a_record_there_is_no_change(tmp_path: Path) -> None:
    def full(*args: Any, **kwargs: Any) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(Unavailable("the disk is full"))
        future.exception()  # looked at: the loop complains of nothing
        return future

    role = {"action": "set", "name": "night", "patterns": ["call:@read"]}
    async with running_app(tmp_path) as live, door(live, "tcp", "admin") as call:
        before = await live.app.auth.accounts.list(), await live.app.auth.accounts.roles()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(live.app.auth.audit, "record", full)
            assert await call("accounts", ADD) == 503
            assert await call("accounts", {"action": "set_roles", "name": "view", "roles": ["operator"]}) == 503
            assert await call("roles", role) == 503
            assert await call("dispatcher", {"action": "run", "a": "true"}) == 503
            assert await call("dispatcher", {"action": "list"}) == 200
        assert (await live.app.auth.accounts.list(), await live.app.auth.accounts.roles()) == before
        assert live.app.dispatcher.figures() == {"pending": 0, "running": 0}
        assert await call("roles", role) == 200


async def test_only_administrators_read_the_trail(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        for account, expected in (("admin", 200), ("oper", 403), ("view", 403), ("nobody-much", 403)):
            async with door(live, "rest", account) as call:
                assert await call("audit", {"action": "list"}) == expected
                assert await call("audit", {"action": "verify"}) == expected


async def test_a_flood_of_refusals_is_counted_and_not_written(tmp_path: Path) -> None:
    tries = 300
    async with running_app(tmp_path) as live:
        async with door(live, "tcp", "view") as call:
            for _ in range(tries):
                assert await call("accounts", ADD) == 403
        await live.app.auth.audit.checkpoint()
        written = len(await records(live, "refused", "tcp"))
        counted = (await live.app.auth.audit.list(kind="suppressed"))["records"]
    assert 1 <= written < tries
    assert written + sum(sum(one["counts"].values()) for one in counted) == tries
