"""`rpc/auth`, `rpc/auth_token`, `rpc/auth_clear`: what becomes of the identity that was there before."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import PASSWORD, Peer


async def code(peer: Peer, name: str, args: object) -> int:
    reply = await peer.request("rpc", name, args)
    return int(reply["args"]["code"]) if reply["name"] == "error" else 200


def password_of(name: str, password: str = PASSWORD) -> dict[str, str]:
    return {"username": name, "password": password}


async def token_holds(live: LiveApp, token: str) -> bool:
    async with live.connect(login=None) as peer:
        return await code(peer, "auth_token", {"token": token}) == 200


async def test_a_token_logs_another_connection_in_and_is_answered_as_it_is(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as first, live.connect(login=None) as second:
        token = await first.login()
        assert await second.call("rpc", "auth_token", {"token": token}) == [token, 900]
        assert await second.call("rpc", "query")


async def test_another_log_in_ends_the_token_of_the_first(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        first = await peer.login()
        second = await peer.login("view")
        assert not await token_holds(live, first)
        assert await token_holds(live, second)


@pytest.mark.parametrize("args,answer", [(password_of("admin", "guess"), 401), (password_of("nobody", "guess"), 401)])
async def test_a_failed_log_in_leaves_a_stranger_whose_token_is_over(
    tmp_path: Path, args: dict[str, str], answer: int
) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        token = await peer.login()
        assert await code(peer, "auth", args) == answer
        assert await code(peer, "query", {}) == 401
        assert not await token_holds(live, token)


async def test_the_attached_token_is_revoked_before_the_one_presented_is_looked_up(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer, live.connect(login=None) as other:
        own, others = await peer.login(), await other.login()
        assert await code(peer, "auth_token", {"token": own}) == 401
        assert await code(peer, "query", {}) == 401
        own = await peer.login()
        assert await code(peer, "auth_token", {"token": others}) == 200
        assert not await token_holds(live, own)


async def test_a_bad_token_leaves_a_stranger(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        assert await code(peer, "auth_token", {"token": "x" * 32}) == 401
        assert await code(peer, "query", {}) == 401


@pytest.mark.parametrize("token", ["", "user", "operator", "x" * 256])
async def test_what_is_no_token_opens_nothing_while_others_are_logged_in(tmp_path: Path, token: str) -> None:
    """The hole of the original, spec sysadm §3.8(1)."""
    async with running_app(tmp_path) as live, live.connect(), live.connect(login=None) as stranger:
        assert await code(stranger, "auth_token", {"token": token}) == 401


async def test_a_part_of_a_token_opens_nothing(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        token = await peer.login()
        assert not await token_holds(live, token[:-1])
        assert not await token_holds(live, token + token[-1])


async def test_auth_clear_ends_the_token_and_the_connections_that_use_it(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer, live.connect(login=None) as other:
        token = await peer.login()
        await other.call("rpc", "auth_token", {"token": token})
        assert await peer.call("rpc", "auth_clear") == {}
        assert await code(peer, "query", {}) == 401
        with pytest.raises(ConnectionClosed) as closed:
            await other.receive()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "the identity was revoked")
        assert not await token_holds(live, token)


async def test_auth_clear_of_a_stranger_is_no_error(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        assert await peer.call("rpc", "auth_clear") == {}


async def test_calls_sent_in_one_go_with_the_log_in_are_answered(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        for number, (name, args) in enumerate([("auth", password_of("admin")), ("query", {}), ("discover", {})]):
            await peer.send({"namespace": "rpc", "name": name, "id": str(number), "args": args})
        assert [(await peer.receive())["id"] for _ in range(3)] == ["0", "1", "2"]


async def test_an_account_without_a_role_may_do_nothing_but_log_in(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect("nobody-much") as peer:
        assert await code(peer, "query", {}) == 403
        assert await code(peer, "auth_clear", {}) == 200


async def test_a_removed_account_loses_its_connections(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect("view") as viewer:
        await admin.call("rpc", "accounts", {"action": "remove", "name": "view"})
        with pytest.raises(ConnectionClosed):
            await viewer.receive()


async def test_who_changes_their_own_password_is_answered_before_the_connection_ends(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin:
        args = {"action": "passwd", "name": "admin", "password": "another one"}
        await admin.send({"namespace": "rpc", "name": "accounts", "id": "1", "args": args})
        assert (await admin.receive())["name"] == "response"
        with pytest.raises(ConnectionClosed):
            await admin.receive()
