"""Whoever comes by whichever door: what they changed and what they were refused is in the trail, with who and where."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

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
