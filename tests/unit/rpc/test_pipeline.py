"""One request through the pipeline: who is refused with which code, in which order, and what a fault says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sysadmd.errors import BadRequest, Cancelled, DeadlineExceeded, InternalError, RpcError, Unavailable
from sysadmd.limits import Limits
from sysadmd.wire.messages import Request
from sysadmd.wire.sysadm import SYSADM
from tests.unit.rpc.rig import frame, rig, scope, settle

STRICT_BAD = {"action": "run", "n": -1}


def error_of(replies: list[Any]) -> tuple[int, str]:
    (reply,) = replies
    assert reply["name"] == "error"
    return reply["args"]["code"], reply["args"]["message"]


@pytest.mark.parametrize(
    "text",
    [
        frame("echo"),
        frame("weather"),
        frame("strict", {"action": "walk"}),
        frame("strict", STRICT_BAD),
        frame("echo", namespace="weather"),
    ],
    ids=["known", "unknown name", "unknown action", "bad arguments", "unknown namespace"],
)
async def test_a_stranger_gets_401_before_anything_is_looked_at(tmp_path: Path, text: str) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        session.receive(text)
        assert error_of(outlet.replies)[0] == 401


@pytest.mark.parametrize(
    "text,code",
    [
        (frame("weather"), 404),
        (frame("echo", namespace="weather"), 404),
        (frame("strict", {"action": "walk"}), 400),
        (frame("strict", {}), 400),
        (frame("strict", STRICT_BAD), 403),
        (frame("strict", {"action": "run", "n": 1}), 403),
    ],
)
async def test_the_method_comes_before_the_permission_and_that_before_the_arguments(
    tmp_path: Path, text: str, code: int
) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        session.login(scope("viewer", "call:@read"), "t", None)
        session.receive(text)
        assert error_of(outlet.replies)[0] == code
        assert outlet.closed == []


async def test_arguments_are_explained_to_who_may_call(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(frame("strict", STRICT_BAD))
        code, message = error_of(outlet.replies)
        assert code == 400
        assert "args.n" in message
        assert "-1" in message


async def test_a_public_method_needs_no_login(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        session.receive(frame("identify", namespace="rpc"))
        assert outlet.replies == [{"namespace": "rpc", "name": "response", "id": "1", "args": {"type": "server"}}]


async def test_the_reply_repeats_the_spelling_and_the_id(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(frame("ECHO", [1], id={"any": "thing"}, namespace="Test"))
        (reply,) = outlet.replies
        assert (reply["namespace"], reply["id"]) == ("Test", {"any": "thing"})
        assert reply["args"] == {"by": "ann", "args": [1]}


@pytest.mark.parametrize("name", ["fault", "slow-fault"])
async def test_a_fault_of_ours_is_500_without_details_and_the_session_lives(tmp_path: Path, name: str) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        server.gates.open("fault")
        session.receive(frame(name))
        await settle()
        assert error_of(outlet.replies) == (500, "Internal Server Error")
        session.receive(frame("echo", id="2"))
        assert outlet.replies[-1]["id"] == "2"


async def test_an_error_of_a_coroutine_handler_keeps_its_code(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(frame("conflict"))
        await settle()
        assert error_of(outlet.replies) == (409, "taken")


@pytest.mark.parametrize("text", ["{bad json}", "", "[" * 100, '"text"', '{"id":"x"}', b"\xff\xfe"])
async def test_bad_frames_are_answered_400_and_the_next_one_works(tmp_path: Path, text: str | bytes) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(text)
        session.receive(frame("echo", id="next"))
        bad, good = outlet.replies
        assert 400 in {bad.get("args", {}).get("code"), bad.get("error", {}).get("data", {}).get("code")}
        assert good["id"] == "next"


async def test_a_bad_frame_keeps_its_id(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive('{"namespace": "test", "name": 5, "id": "x"}')
        assert outlet.replies[0]["id"] == "x"


async def test_answers_are_counted_by_method_and_code(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        for text in (frame("echo"), frame("echo"), frame("weather"), frame("strict", STRICT_BAD), "{"):
            session.receive(text)
        assert server.engine.counts == {("test/echo", 200): 2, ("", 404): 1, ("test/strict/run", 400): 1, ("", 400): 1}


# JSON-RPC 2.0


def rpc(method: str, id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": id}


async def test_a_batch_is_answered_in_one_array_when_its_last_call_is_done(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(json.dumps([rpc("test/slow", 1, name="a"), rpc("test/echo", 2), rpc("test/weather", 3), 7]))
        await settle()
        assert outlet.replies == []
        server.gates.open("a")
        await settle()
        (answers,) = outlet.replies
        by_id = {one["id"]: one for one in answers}
        assert by_id[1]["result"]["did"] == "a"
        assert by_id[2]["result"]["by"] == "ann"
        assert by_id[3]["error"]["code"] == -32601
        assert by_id[None]["error"]["code"] == -32600


async def test_notifications_run_and_are_not_answered(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        quiet = [rpc("test/slow", name="a"), rpc("test/weather"), rpc("test/fault")]
        for one in quiet:
            del one["id"]
            session.receive(json.dumps(one))
        session.receive(json.dumps(quiet))
        server.gates.open("a")
        await settle()
        assert outlet.replies == []
        assert server.gates.begun == ["a", "a"]


async def test_a_batch_answers_only_what_wants_an_answer(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        notification = rpc("test/echo")
        del notification["id"]
        session.receive(json.dumps([notification, rpc("test/echo", 2)]))
        assert [one["id"] for one in outlet.replies[0]] == [2]


async def test_each_frame_is_answered_in_its_dialect(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(json.dumps(rpc("test/echo")))
        session.receive(frame("echo"))
        assert ["jsonrpc" in one for one in outlet.replies] == [True, False]


# For listeners that wait


def request(name: str, args: Any = None, timeout: float | None = None, action: str | None = None) -> Request:
    return Request("test", name, action, "", {} if args is None else args, timeout=timeout)


async def test_perform_returns_the_result_of_either_kind_of_handler(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        server.gates.open("a")
        assert (await session.perform(request("echo"), SYSADM))["by"] == "ann"
        assert (await session.perform(request("slow", {"name": "a"}), SYSADM))["did"] == "a"
        assert server.engine.counts == {("test/echo", 200): 1, ("test/slow", 200): 1}


@pytest.mark.parametrize(
    "asked,error",
    [
        (request("strict", {"n": -1}, action="run"), BadRequest),
        (request("fault"), InternalError),
        (request("slow", {"name": "a"}, timeout=0.01), DeadlineExceeded),
    ],
)
async def test_perform_raises_what_a_frame_would_be_answered(
    tmp_path: Path, asked: Request, error: type[RpcError]
) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        with pytest.raises(error):
            await session.perform(asked, SYSADM)
        assert sum(server.engine.counts.values()) == 1
        assert session.calls == 0


async def test_perform_is_withdrawn_when_its_session_closes(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        call = asyncio.create_task(session.perform(request("slow", {"name": "a"}), SYSADM))
        await settle()
        session.close()
        with pytest.raises(Cancelled):
            await call
        assert server.gates.cancelled == ["a"]


async def test_a_draining_engine_waits_for_perform_and_takes_no_new_one(tmp_path: Path) -> None:
    async with rig(tmp_path, Limits(drain=5)) as server:
        session, _ = server.session()
        call = asyncio.create_task(session.perform(request("slow", {"name": "a"}), SYSADM))
        await settle()
        drained = asyncio.create_task(server.engine.drain(5))
        await settle()
        assert not drained.done()
        with pytest.raises(Unavailable):
            await session.perform(request("echo"), SYSADM)
        server.gates.open("a")
        assert (await call)["did"] == "a"
        await drained
