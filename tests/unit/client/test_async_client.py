"""Calls: correlation, errors, deadlines, reconnecting, the log-in. All against the server in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sysadmd.client import (
    AsyncClient,
    AuthFailed,
    BadAddress,
    CallTimeout,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    RemoteError,
)
from sysadmd.client.mock import NO_REPLY, MockServer
from sysadmd.errors import Forbidden, TooManyRequests, Unauthorized
from sysadmd.wire.messages import Request
from sysadmd.wire.sysadm import SYSADM
from tests.unit.client.waiting import until


def client_of(server: MockServer, **options: Any) -> AsyncClient:
    return AsyncClient("unix:///mock", dial=server.dial, **options)


def methods(server: MockServer) -> list[str]:
    return ["/".join(filter(None, (r.namespace, r.name, r.action))) for r in server.requests]


# Calls


async def test_a_call_gives_the_result_of_its_method() -> None:
    server = MockServer({"rpc/dispatcher/list": lambda args: {"jobs": args}})
    async with client_of(server) as client:
        assert await client.call("rpc/dispatcher/list", {"lane": "no_queue"}) == {"jobs": {"lane": "no_queue"}}


async def test_a_call_without_arguments_sends_an_empty_object() -> None:
    server = MockServer({"rpc/identify": lambda args: {"type": "server"}})
    async with client_of(server) as client:
        await client.call("rpc/identify")
    assert server.requests[0].args == {}


async def test_replies_find_their_callers_in_any_order() -> None:
    server = MockServer({"test/echo": lambda args: NO_REPLY})
    async with client_of(server) as client:
        calls = [asyncio.create_task(client.call("test/echo", {"n": n})) for n in range(20)]
        await until(lambda: len(server.requests) == 20)
        for request in reversed(server.requests):
            server.connections[0].reply(request, request.args["n"])
        assert await asyncio.gather(*calls) == list(range(20))


async def test_an_error_reply_raises_with_code_and_message() -> None:
    def refuse(args: Any) -> Any:
        raise Forbidden("ines may not call this")

    async with client_of(MockServer({"rpc/accounts/list": refuse})) as client:
        with pytest.raises(RemoteError) as caught:
            await client.call("rpc/accounts/list")
    assert (caught.value.code, caught.value.message) == (403, "ines may not call this")


async def test_a_refused_call_leaves_the_connection_usable() -> None:
    server = MockServer({"rpc/identify": lambda args: {"type": "server"}})
    async with client_of(server) as client:
        with pytest.raises(RemoteError, match="404"):
            await client.call("rpc/nothing")
        assert await client.call("rpc/identify") == {"type": "server"}
        assert len(server.connections) == 1


@pytest.mark.parametrize("method", ["", "rpc", "rpc/", "/rpc", "a/b/c/d", "a//b"])
async def test_a_method_that_is_none_is_not_sent(method: str) -> None:
    server = MockServer()
    async with client_of(server) as client:
        with pytest.raises(ValueError, match="no method"):
            await client.call(method)
    assert server.requests == []


async def test_replies_to_nobody_are_dropped() -> None:
    server = MockServer({"rpc/identify": lambda args: 1})
    async with client_of(server) as client:
        for request_id in ("unknown", None, 7, ["x"]):
            server.connections[0].push(SYSADM.reply(Request("rpc", "x", None, request_id, None), {}))
        assert await client.call("rpc/identify") == 1


# Deadlines and withdrawal


async def test_a_call_that_takes_too_long_is_withdrawn_on_the_server() -> None:
    server = MockServer({"test/slow": lambda args: NO_REPLY})
    async with client_of(server) as client:
        with pytest.raises(CallTimeout, match=r"test/slow: no reply within 0\.02 s"):
            await client.call("test/slow", timeout=0.02)
        await until(lambda: methods(server)[-1] == "rpc/cancel")
    assert server.requests[-1].args == {"id": server.requests[0].id}
    assert server.requests[0].timeout == 0.02


async def test_a_cancelled_caller_withdraws_its_call() -> None:
    server = MockServer({"test/slow": lambda args: NO_REPLY})
    async with client_of(server) as client:
        call = asyncio.create_task(client.call("test/slow"))
        await until(lambda: bool(server.requests))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert methods(server) == ["test/slow", "rpc/cancel"]


async def test_a_late_reply_harms_nobody() -> None:
    server = MockServer({"test/slow": lambda args: NO_REPLY, "rpc/identify": lambda args: 1})
    async with client_of(server) as client:
        with pytest.raises(CallTimeout):
            await client.call("test/slow", timeout=0.01)
        server.connections[0].reply(server.requests[0], "late")
        assert await client.call("rpc/identify") == 1


# Losing and making connections


async def test_a_call_in_flight_learns_of_a_lost_connection() -> None:
    server = MockServer({"test/slow": lambda args: NO_REPLY})
    async with client_of(server) as client:
        call = asyncio.create_task(client.call("test/slow"))
        await until(lambda: bool(server.requests))
        server.drop()
        with pytest.raises(ConnectionLost):
            await call


async def test_the_next_call_connects_again() -> None:
    server = MockServer({"rpc/identify": lambda args: 1})
    async with client_of(server) as client:
        server.drop()
        await asyncio.sleep(0)
        assert await client.call("rpc/identify") == 1


async def test_a_server_that_speaks_something_else_has_lost_the_connection() -> None:
    server = MockServer({"test/slow": lambda args: NO_REPLY})
    async with client_of(server) as client:
        call = asyncio.create_task(client.call("test/slow"))
        await until(lambda: bool(server.requests))
        server.connections[0].push(b"<html>")
        with pytest.raises(ConnectionLost, match="no message"):
            await call


async def test_entering_connects_and_tells_when_nobody_answers() -> None:
    server = MockServer()
    server.refusing = True
    with pytest.raises(ConnectFailed):
        async with client_of(server):
            pass


async def test_many_first_calls_share_one_connection() -> None:
    server = MockServer({"rpc/identify": lambda args: 1})
    client = client_of(server)
    await asyncio.gather(*(client.call("rpc/identify") for _ in range(10)))
    assert len(server.connections) == 1
    await client.aclose()


async def test_a_closed_client_stays_closed() -> None:
    server = MockServer()
    async with client_of(server) as client:
        pass
    await client.aclose()
    with pytest.raises(ClientError, match="closed"):
        await client.call("rpc/identify")
    assert server.connections == []


async def test_closing_ends_calls_in_flight() -> None:
    server = MockServer({"test/slow": lambda args: NO_REPLY})
    client = client_of(server)
    call = asyncio.create_task(client.call("test/slow"))
    await until(lambda: bool(server.requests))
    await client.aclose()
    with pytest.raises(ConnectionLost):
        await call


async def test_an_exception_of_the_block_is_not_wrapped() -> None:
    with pytest.raises(KeyError):
        async with client_of(MockServer()):
            raise KeyError("mine")


# The log-in


def server_with_password(password: str) -> MockServer:
    tokens: set[str] = set()

    def auth(args: Any) -> Any:
        if args != {"username": "admin", "password": password}:
            raise Unauthorized
        tokens.add(f"t{len(tokens)}")
        return [f"t{len(tokens) - 1}", 900]

    def auth_token(args: Any) -> Any:
        if args["token"] not in tokens:
            raise Unauthorized
        return [args["token"], 900]

    def auth_clear(args: Any) -> Any:
        tokens.clear()
        return {}

    handlers = {"rpc/auth": auth, "rpc/auth_token": auth_token, "rpc/auth_clear": auth_clear}
    return MockServer({**handlers, "rpc/query": lambda args: {}})


async def test_a_password_logs_in_once_and_its_token_serves_later_connections() -> None:
    server = server_with_password("right")
    async with client_of(server, username="admin", password="right") as client:
        server.drop()
        await asyncio.sleep(0)
        await client.call("rpc/query")
    assert methods(server) == ["rpc/auth", "rpc/auth_token", "rpc/query", "rpc/auth_clear"]


async def test_a_token_that_ended_is_replaced_by_the_password() -> None:
    server = server_with_password("right")
    async with client_of(server, username="admin", password="right") as client:
        server.handlers["rpc/auth_clear"]({})
        server.drop()
        await asyncio.sleep(0)
        await client.call("rpc/query")
    assert methods(server)[:4] == ["rpc/auth", "rpc/auth_token", "rpc/auth", "rpc/query"]


async def test_a_wrong_password_is_told_and_the_connection_closed() -> None:
    server = server_with_password("right")
    with pytest.raises(AuthFailed) as caught:
        async with client_of(server, username="admin", password="wrong"):
            pass
    assert "wrong" not in str(caught.value)
    assert server.connections == []


async def test_a_bad_token_is_told() -> None:
    with pytest.raises(AuthFailed):
        async with client_of(server_with_password("right"), token="made-up"):
            pass


async def test_a_refusal_other_than_401_is_told_with_its_reason() -> None:
    def busy(args: Any) -> Any:
        raise TooManyRequests("8 log-ins wait")

    with pytest.raises(AuthFailed, match="8 log-ins wait"):
        async with client_of(MockServer({"rpc/auth": busy}), username="admin", password="x"):
            pass


async def test_a_log_in_without_an_answer_ends_by_its_deadline() -> None:
    server = MockServer({"rpc/auth": lambda args: NO_REPLY})
    with pytest.raises(ConnectFailed, match=r"no answer to the log-in within 0\.02 s"):
        async with client_of(server, username="admin", password="x", timeout=0.02):
            pass
    assert server.connections == []


async def test_a_log_in_answered_with_nonsense_fails() -> None:
    with pytest.raises(AuthFailed, match="something else than a token"):
        async with client_of(MockServer({"rpc/auth": lambda args: {}}), username="admin", password="x"):
            pass


async def test_a_log_in_without_encryption_over_a_network_is_refused() -> None:
    with pytest.raises(BadAddress, match="use wss"):
        AsyncClient("ws://nas.example", username="admin", password="x")
    AsyncClient("ws://127.0.0.1", username="admin", password="x")
    AsyncClient("ws://nas.example")


def test_half_a_log_in_is_refused() -> None:
    with pytest.raises(ValueError, match="come together"):
        AsyncClient("unix:///x", username="admin")
