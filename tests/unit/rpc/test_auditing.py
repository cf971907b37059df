"""What the call pipeline writes into the audit trail, and when it refuses a call for want of it."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.auth.identity import Peer
from sysadmd.errors import Conflict, Unavailable
from sysadmd.events.log import EventLog
from sysadmd.limits import Limits
from sysadmd.rpc.auditing import ARGS_BYTES
from sysadmd.rpc.call import Call, method
from sysadmd.rpc.engine import Engine
from sysadmd.rpc.registry import Registry
from sysadmd.rpc.session import Session
from sysadmd.store import Store
from sysadmd.wire.messages import Request
from sysadmd.wire.sysadm import SYSADM
from tests.unit.rpc.rig import FakeOutlet, codes, declared, frame, scope, settle

ARGS = {"type": "object", "properties": {"password": {"x-secret": True}, "how": {"type": "string"}}}


class Trail:
    """Keeps records; each is durable when a test says so. `refuses`: none is taken."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.futures: list[asyncio.Future[None]] = []
        self.refuses = False

    def record(
        self,
        kind: str,
        *,
        account: str | None = None,
        peer: Peer | None = None,
        session: str | None = None,
        **data: Any,
    ) -> asyncio.Future[None]:
        self.records.append({"kind": kind, "account": account, "address": peer and peer.address, **data})
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.refuses:
            future.set_exception(Unavailable("full"))
            future.exception()
        self.futures.append(future)
        return future

    @property
    def kinds(self) -> list[str]:
        return [record["kind"] for record in self.records]


class Machine:
    """What the calls do, in order, and what was in the trail when they did."""

    def __init__(self, trail: Trail) -> None:
        self.trail = trail
        self.seen: list[list[str]] = []


@method("test/change")
async def change(call: Call, machine: Machine) -> Any:
    machine.seen.append(machine.trail.kinds)
    how = call.args.get("how")
    if how == "conflict":
        raise Conflict("taken")
    if how == "fault":
        raise RuntimeError("a fault")
    if how == "wait":
        await anyio.sleep_forever()
    return {}


@method("test/look")
def look(call: Call, machine: Machine) -> Any:
    return {}


@method("test/admin")
def admin(call: Call, machine: Machine) -> Any:
    return {}


METHODS = (
    dataclasses.replace(declared("test/change", args=ARGS), mutates=True),
    declared("test/look"),
    declared("test/admin", access="admin"),
)


@dataclasses.dataclass
class Rig:
    engine: Engine
    trail: Trail
    machine: Machine

    def session(self, *patterns: str, login: bool = True) -> tuple[Session, FakeOutlet]:
        outlet = FakeOutlet()
        session = self.engine.open(outlet, Peer("192.0.2.1", "tcp"))
        if login:
            session.login(scope("ann", *patterns), None, None)
        return session, outlet


@asynccontextmanager
async def rig(path: Path) -> AsyncIterator[Rig]:
    store = Store.open(path / "sysadmd.db")
    events = EventLog(store, node="n", limits=Limits())
    trail = Trail()
    machine = Machine(trail)
    registry = Registry({one.key: one for one in METHODS}, (change, look, admin))
    engine = Engine(registry, machine, events, Limits(), trail=trail)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(events.run)
            await tasks.start(engine.run)
            yield Rig(engine, trail, machine)
            tasks.cancel_scope.cancel()
    finally:
        store.close()


async def test_a_change_is_recorded_before_it_is_made_and_answered_when_the_record_is_durable(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        session, outlet = it.session()
        session.receive(frame("change", {"how": "x"}))
        await settle()
        assert it.machine.seen == [["call"]]
        assert outlet.replies == []
        it.trail.futures[0].set_result(None)
        await settle()
        assert codes(outlet.replies) == {"1": 200}
        assert it.trail.records == [
            {
                "kind": "call",
                "account": "ann",
                "address": "192.0.2.1",
                "method": "test/change",
                "n": 1,
                "args": {"how": "x"},
                "id": "1",
            }
        ]


async def test_a_change_that_cannot_be_recorded_is_refused_and_not_made(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        session, outlet = it.session()
        it.trail.refuses = True
        session.receive(frame("change"))
        await settle()
        assert codes(outlet.replies) == {"1": 503}
        assert it.machine.seen == []
        # Where the record was taken after all, to try whether it can be, it is not the last word.
        assert [(one["kind"], one["n"]) for one in it.trail.records] == [("call", 1), ("failed", 1)]


async def test_a_record_that_is_lost_after_the_change_is_answered_with_that(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        session, outlet = it.session()
        session.receive(frame("change"))
        await settle()
        it.trail.futures[0].set_exception(OSError("gone"))
        await settle()
        (reply,) = outlet.replies
        assert reply["args"]["code"] == 503
        assert "done, but the audit trail could not be written" in reply["args"]["message"]


@pytest.mark.parametrize("lost", [False, True])
async def test_a_caller_who_waits_as_rest_does_waits_for_the_record_too(tmp_path: Path, lost: bool) -> None:
    async with rig(tmp_path) as it:
        session, _ = it.session()
        task = asyncio.create_task(session.perform(Request("test", "change", None, "", {}), SYSADM))
        await settle()
        assert it.machine.seen == [["call"]]
        assert not task.done()
        if lost:
            it.trail.futures[0].set_exception(OSError("gone"))
            with pytest.raises(Unavailable):
                await task
        else:
            it.trail.futures[0].set_result(None)
            assert await task == {}


@pytest.mark.parametrize("how,code", [("conflict", 409), ("fault", 500)])
async def test_a_change_that_fails_has_a_second_record_with_its_number(tmp_path: Path, how: str, code: int) -> None:
    async with rig(tmp_path) as it:
        session, outlet = it.session()
        for one in ("a", "b"):
            session.receive(frame("change", {"how": how}, id=one))
        await settle()
        assert codes(outlet.replies) == {"a": code, "b": code}
        assert sorted((one["n"], one["kind"], one.get("code")) for one in it.trail.records) == [
            (1, "call", None),
            (1, "failed", code),
            (2, "call", None),
            (2, "failed", code),
        ]


async def test_a_change_whose_caller_goes_away_is_recorded_as_cancelled(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        session, _ = it.session()
        session.receive(frame("change", {"how": "wait"}))
        await settle()
        session.close()
        await settle()
        assert [(one["kind"], one.get("code")) for one in it.trail.records] == [("call", None), ("failed", 499)]


async def test_what_a_caller_may_not_do_is_recorded(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        session, outlet = it.session("call:test/look")
        stranger, strangers = it.session(login=False)
        session.receive(frame("admin"))
        session.receive(frame("change"))
        stranger.receive(frame("look"))
        stranger.receive(frame("nothing", namespace="no" * 200))
        await settle()
        assert codes(outlet.replies) == {"1": 403}
        assert codes(strangers.replies) == {"1": 401}
        assert it.machine.seen == []
        assert [(one["kind"], one["account"], one["method"], one["code"]) for one in it.trail.records] == [
            ("refused", "ann", "test/admin", 403),
            ("refused", "ann", "test/change", 403),
            ("refused", None, "test/look", 401),
            ("refused", None, ("no" * 200)[:128], 401),
        ]


async def test_reading_and_wrong_arguments_are_not_recorded(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        session, outlet = it.session()
        session.receive(frame("look", id="a"))
        session.receive(frame("nothing", id="b"))
        session.receive(frame("change", {"how": 5}, id="c"))
        await settle()
        assert codes(outlet.replies) == {"a": 200, "b": 404, "c": 400}
        assert it.trail.records == []


async def test_secrets_are_left_out(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        session, _ = it.session()
        session.receive(frame("change", {"password": "hush", "how": "x"}))
        await settle()
        assert it.trail.records[0]["args"] == {"password": "[secret]", "how": "x"}
        assert "hush" not in str(it.trail.records)


async def test_of_long_arguments_the_beginning_and_a_sum_are_written(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        session, _ = it.session()
        args = {"how": "é" * ARGS_BYTES, "password": "hush"}
        session.receive(frame("change", args))
        await settle()
        whole = json.dumps({**args, "password": "[secret]"}, ensure_ascii=False, separators=(",", ":")).encode()
        written = it.trail.records[0]["args"]
        assert written["bytes"] == len(whole)
        assert written["sha256"] == hashlib.sha256(whole).hexdigest()
        assert whole.startswith(written["cut"].encode())
        assert ARGS_BYTES - 4 < len(written["cut"].encode()) <= ARGS_BYTES


@pytest.mark.parametrize("given,written", [(7, 7), ("x" * 500, "x" * 128), ([1], None)])
async def test_a_request_id_is_kept_short(tmp_path: Path, given: Any, written: Any) -> None:
    async with rig(tmp_path) as it:
        session, _ = it.session()
        session.receive(frame("change", id=given))
        await settle()
        assert it.trail.records[0].get("id") == written
