"""Who is connected, and ending that, without sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysadmd.errors import NotFound
from sysadmd.rpc import roster
from sysadmd.rpc.engine import CLOSE_POLICY
from tests.unit.rpc.rig import auth_frame, frame, rig, settle, slow_frame


async def test_times_are_unix_seconds_and_idle_counts_from_the_last_message(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        session.expires = server.clock.now + 500
        server.clock.now += 40
        session.receive(frame("echo"))
        server.clock.now += 60
        (one,) = roster.listed(server.engine)
        assert one.opened == server.events.now() - 100
        assert one.idle == 60
        assert one.expires == server.events.now() + 400


async def test_an_end_that_never_comes_is_none(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session()
        session.expires = float("inf")
        assert roster.listed(server.engine)[0].expires is None


async def test_of_one_account_there_are_only_its_own_and_no_strangers(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        mine, _ = server.session()
        theirs, _ = server.session(login="bob")
        stranger, _ = server.session(login=None)
        assert [one.id for one in roster.listed(server.engine, "ann")] == [mine.id]
        assert len(roster.listed(server.engine)) == 3
        for hidden in (theirs, stranger):
            with pytest.raises(NotFound, match="no such session of yours"):
                roster.find(server.engine, hidden.id, "ann")


async def test_a_killed_session_s_calls_are_cancelled_and_not_answered(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        admin, _ = server.session(login="root")
        session, outlet = server.session()
        session.receive(slow_frame("a"))
        await settle()
        roster.kill(server.engine, session, admin)
        await settle()
        assert server.gates.cancelled == ["a"]
        assert outlet.closed == [(CLOSE_POLICY, roster.KILLED)]
        assert outlet.replies == []
        assert session not in server.engine.sessions


async def test_a_killed_session_logs_in_no_more_while_its_socket_closes(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        admin, _ = server.session(login="root")
        session, outlet = server.session()
        roster.kill(server.engine, session, admin)
        server.gates.open("bob")
        session.receive(auth_frame("bob"))
        session.receive(frame("echo"))
        await settle()
        assert session.scope is None
        assert server.gates.begun == []
        assert outlet.replies == []


async def test_a_killed_session_s_log_in_that_is_under_way_comes_to_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        admin, _ = server.session(login="root")
        session, outlet = server.session()
        session.receive(auth_frame("bob"))
        await settle()
        roster.kill(server.engine, session, admin)
        server.gates.open("bob")
        await settle()
        assert session.scope is None
        assert outlet.replies == []
