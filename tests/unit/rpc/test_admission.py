"""When a call runs: at once, in its turn, or never."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sysadmd.errors import Unavailable
from sysadmd.limits import Limits
from tests.unit.rpc.rig import auth_frame, cancel_frame, codes, frame, rig, settle, slow_frame

SMALL = Limits(calls_in_flight=2, calls_queued=2)


def names(count: int, start: int = 0) -> list[str]:
    return [f"n{i}" for i in range(start, start + count)]


async def test_the_shipped_bounds_are_20_in_flight_and_64_queued(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        for name in names(85):
            session.receive(slow_frame(name))
        await settle()
        assert server.gates.begun == names(20)
        assert session.calls == 84
        assert codes(outlet.replies) == {"n84": 429}


async def test_waiting_calls_start_in_the_order_they_came(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        session, _ = server.session()
        for name in names(4):
            session.receive(slow_frame(name))
        server.gates.open("n1")
        await settle()
        assert server.gates.begun == ["n0", "n1", "n2"]
        server.gates.open("n0")
        await settle()
        assert server.gates.begun == names(4)


async def test_replies_come_as_the_calls_end_and_carry_their_ids(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        for name in names(3):
            session.receive(slow_frame(name))
        for name in ("n2", "n0", "n1"):
            server.gates.open(name)
            await settle()
        assert [(one["id"], one["args"]["did"]) for one in outlet.replies] == [("n2",) * 2, ("n0",) * 2, ("n1",) * 2]


async def test_a_plain_handler_runs_inside_receive(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(slow_frame("a"))
        session.receive(frame("echo", id="now"))
        assert codes(outlet.replies) == {"now": 200}


async def test_nothing_overtakes_a_queue(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        session, outlet = server.session()
        for name in names(3):
            session.receive(slow_frame(name))
        session.receive(frame("echo", id="last"))
        assert outlet.replies == []
        server.gates.open("n0")
        await settle()
        assert [one["id"] for one in outlet.replies] == ["n0"]
        server.gates.open("n1")
        await settle()
        assert [one["id"] for one in outlet.replies] == ["n0", "n1", "last"]


async def test_a_refused_call_gives_its_place_back(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        session, outlet = server.session()
        for name in names(4):
            session.receive(slow_frame(name))
        session.receive(slow_frame("refused"))
        server.gates.open("n0")
        await settle()
        session.receive(slow_frame("taken"))
        assert codes(outlet.replies) == {"refused": 429, "n0": 200}


async def test_sessions_do_not_share_their_bounds(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        first, _ = server.session()
        second, _ = server.session()
        for name in names(4):
            first.receive(slow_frame(name))
        second.receive(slow_frame("other"))
        await settle()
        assert "other" in server.gates.begun


# Authentication


async def test_calls_sent_with_a_log_in_wait_for_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        for text in (auth_frame("ann"), frame("echo", id="plain"), slow_frame("task"), frame("echo", id="last")):
            session.receive(text)
        await settle()
        assert outlet.replies == []
        server.gates.open("ann", "task")
        await settle()
        assert [one["id"] for one in outlet.replies] == ["auth-ann", "plain", "last", "task"]
        assert codes(outlet.replies) == dict.fromkeys(["auth-ann", "plain", "last", "task"], 200)


async def test_calls_sent_with_a_log_in_that_fails_get_401(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        session.receive(auth_frame("mallory"))
        session.receive(frame("echo", id="2"))
        server.gates.open("mallory")
        await settle()
        assert codes(outlet.replies) == {"auth-mallory": 401, "2": 401}


async def test_authentications_run_one_after_the_other(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        for text in (auth_frame("ann"), auth_frame("bob"), frame("echo", id="who")):
            session.receive(text)
        server.gates.open("bob")
        await settle()
        assert server.gates.begun == ["ann"]
        server.gates.open("ann")
        await settle()
        assert server.gates.begun == ["ann", "bob"]
        assert outlet.replies[-1]["args"]["by"] == "bob"


async def test_identify_keeps_its_place_behind_a_log_in(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        session.receive(auth_frame("ann"))
        session.receive(frame("identify", id="i", namespace="rpc"))
        assert outlet.replies == []
        server.gates.open("ann")
        await settle()
        assert [one["id"] for one in outlet.replies] == ["auth-ann", "i"]


async def test_a_log_in_is_read_ahead_of_a_full_queue(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        session, outlet = server.session()
        for name in names(4):
            session.receive(slow_frame(name))
        server.gates.open("bob")
        session.receive(auth_frame("bob"))
        await settle()
        assert codes(outlet.replies) == {"auth-bob": 200}


async def test_waiting_log_ins_are_bounded(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        session, outlet = server.session(login=None)
        for name in names(4):
            session.receive(auth_frame(name))
        assert codes(outlet.replies) == {"auth-n3": 429}


async def test_a_call_keeps_the_identity_that_it_began_with(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login="ann")
        session.receive(slow_frame("a"))
        session.receive(auth_frame("bob"))
        server.gates.open("a", "bob")
        await settle()
        assert {one["id"]: one["args"] for one in outlet.replies}["a"] == {"by": "ann", "did": "a"}


# Cancelling


async def test_a_running_call_that_is_withdrawn_answers_499(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(slow_frame("a"))
        await settle()
        session.receive(cancel_frame("a"))
        await settle()
        assert server.gates.cancelled == ["a"]
        assert codes(outlet.replies) == {"c": 200, "a": 499}
        assert outlet.replies[0]["args"] == {"cancelled": True}


async def test_a_waiting_call_that_is_withdrawn_never_begins(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        session, outlet = server.session()
        for name in names(4):
            session.receive(slow_frame(name))
        session.receive(cancel_frame("n2"))
        server.gates.open("n0")
        await settle()
        assert server.gates.begun == ["n0", "n1", "n3"]
        assert codes(outlet.replies) == {"n2": 499, "c": 200, "n0": 200}


async def test_cancel_is_read_ahead_of_a_full_queue(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        session, outlet = server.session()
        for name in names(4):
            session.receive(slow_frame(name))
        await settle()
        session.receive(cancel_frame("n0"))
        await settle()
        assert codes(outlet.replies) == {"c": 200, "n0": 499}


async def test_a_log_in_can_be_withdrawn_by_who_is_logged_in(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login="ann")
        session.receive(auth_frame("bob"))
        await settle()
        session.receive(cancel_frame("auth-bob"))
        await settle()
        assert codes(outlet.replies) == {"c": 200, "auth-bob": 499}


async def test_cancel_waits_for_the_first_log_in(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        for text in (auth_frame("ann"), slow_frame("a"), cancel_frame("a")):
            session.receive(text)
        server.gates.open("ann")
        await settle()
        assert codes(outlet.replies) == {"auth-ann": 200, "a": 499, "c": 200}


@pytest.mark.parametrize("target", ["other", 7, None, ["a"]])
async def test_cancelling_what_is_not_there_says_so(tmp_path: Path, target: Any) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(slow_frame("a"))
        session.receive(cancel_frame(target))
        assert outlet.replies[0]["args"] == {"cancelled": False}


async def test_one_session_cannot_cancel_another_s_call(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        first, _ = server.session()
        second, outlet = server.session()
        first.receive(slow_frame("a"))
        second.receive(cancel_frame("a"))
        assert outlet.replies[0]["args"] == {"cancelled": False}
        assert first.calls == 1


async def test_of_two_calls_with_one_id_each_is_withdrawn_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        for _ in range(2):
            session.receive(frame("slow", {"name": "a"}, id="same"))
        await settle()
        for number in range(3):
            session.receive(cancel_frame("same", id=f"c{number}"))
        await settle()
        answers = {one["id"]: one["args"] for one in outlet.replies if one["id"] != "same"}
        assert [answers[f"c{i}"]["cancelled"] for i in range(3)] == [True, True, False]


# Deadlines


@pytest.mark.parametrize("limits,timeout", [(Limits(), {"timeout": 0.02}), (Limits(call_deadline=0.02), {})])
async def test_a_call_over_its_deadline_answers_504(tmp_path: Path, limits: Limits, timeout: dict[str, float]) -> None:
    async with rig(tmp_path, limits) as server:
        session, outlet = server.session()
        session.receive(slow_frame("a", **timeout))
        await asyncio.sleep(0.2)
        assert codes(outlet.replies) == {"a": 504}
        assert outlet.replies[0]["args"]["message"] == "no result within 0.02 s"
        assert server.gates.cancelled == ["a"]


async def test_a_json_rpc_call_has_its_deadline_too(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        params = {"name": "a"}
        call = {"jsonrpc": "2.0", "method": "test/slow", "params": params, "id": 1, "timeout": 0.02}
        session.receive(json.dumps(call))
        await asyncio.sleep(0.2)
        assert outlet.replies[0]["error"]["data"]["code"] == 504


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_deadline_that_is_over_is_a_bad_request(tmp_path: Path, timeout: float) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(frame("echo", timeout=timeout))
        assert codes(outlet.replies) == {"1": 400}


# Ends


async def test_closing_a_session_cancels_its_calls_and_writes_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        session, outlet = server.session()
        for name in names(4):
            session.receive(slow_frame(name))
        await settle()
        session.close()
        session.close()
        await settle()
        assert server.gates.cancelled == ["n0", "n1"]
        assert server.gates.begun == ["n0", "n1"]
        assert outlet.replies == []
        assert server.engine.sessions == set()
        assert server.engine.counts == {("test/slow", 499): 2}


async def test_a_session_that_closes_during_its_log_in_gets_no_identity_back(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session(login=None)
        session.receive(auth_frame("ann"))
        await settle()
        session.close()
        server.gates.open("ann")
        await settle()
        assert session.scope is None


async def test_draining_finishes_what_runs_and_refuses_the_rest(tmp_path: Path) -> None:
    async with rig(tmp_path, SMALL) as server:
        session, outlet = server.session()
        for name in names(3):
            session.receive(slow_frame(name))
        await settle()
        drained = asyncio.create_task(server.engine.drain(5))
        await settle()
        session.receive(frame("echo", id="late"))
        assert codes(outlet.replies) == {"n2": 503, "late": 503}
        server.gates.open("n0", "n1")
        await drained
        assert codes(outlet.replies) == {"n2": 503, "late": 503, "n0": 200, "n1": 200}


async def test_draining_ends_at_its_limit(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        session.receive(slow_frame("a"))
        await settle()
        async with asyncio.timeout(5):
            await server.engine.drain(0.05)
        assert session.calls == 1


async def test_a_draining_engine_says_why(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        await server.engine.drain(0)
        with pytest.raises(Unavailable, match="the server is stopping"):
            server.engine.refuse_while_draining()
