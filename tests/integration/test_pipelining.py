"""Frames sent in one go: who a call runs as, and how JSON-RPC names what it calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.apps import running_app
from tests.integration.servers import PASSWORD


def envelope(name: str, request_id: str, args: Any) -> dict[str, Any]:
    return {"namespace": "rpc", "name": name, "id": request_id, "args": args}


async def test_a_call_between_two_log_ins_runs_as_the_first_of_them(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        await peer.send(envelope("auth", "1", {"username": "view", "password": PASSWORD}))
        await peer.send(envelope("accounts", "2", {"action": "list"}))
        await peer.send(envelope("auth", "3", {"username": "admin", "password": PASSWORD}))
        await peer.send(envelope("accounts", "4", {"action": "list"}))
        assert (await peer.reply("2"))["args"]["code"] == 403
        assert (await peer.reply("4"))["name"] == "response"


async def test_positional_parameters_are_named_by_the_schema(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        await peer.send({"jsonrpc": "2.0", "method": "rpc/auth", "params": ["admin", PASSWORD], "id": 1})
        token, seconds = (await peer.reply(1))["result"]
        assert (len(token), seconds) == (32, 900)
        await peer.send({"jsonrpc": "2.0", "method": "rpc/auth", "params": ["admin", PASSWORD, "more"], "id": 2})
        error = (await peer.reply(2))["error"]
        assert error["code"] == -32602
        assert "rpc/auth has 2: username, password" in error["message"]


async def test_an_action_of_a_method_that_has_none_is_an_unknown_method(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        await peer.send({"jsonrpc": "2.0", "method": "rpc/query/bogus", "id": 1})
        assert (await peer.reply(1))["error"]["code"] == -32601
        await peer.send({"jsonrpc": "2.0", "method": "rpc/query", "id": 2})
        assert "rpc/dispatcher" in (await peer.reply(2))["result"]


async def test_a_deadline_in_the_envelope_ends_a_process_that_a_call_waits_for(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True) as live, live.connect() as peer:
        call = {"action": "exec", "commands": "sleep 300"}
        reply = await peer.request("rpc", "dispatcher", call, timeout=0.5)
        assert reply["args"]["code"] == 504
        listing = await peer.call("rpc", "dispatcher", {"action": "list"})
        while listing["jobs"]["no_queue"]:
            listing = await peer.call("rpc", "dispatcher", {"action": "list"})
