"""What ends a session, by a clock that the test sets, and what changes it while it is open."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sysadmd.auth.policy import PolicyChange
from sysadmd.auth.scope import Scope
from sysadmd.events.record import Draft
from sysadmd.limits import Limits
from sysadmd.rpc.engine import CLOSE_GOING_AWAY, CLOSE_POLICY, RENEW_INTERVAL
from sysadmd.wire.sysadm import SYSADM
from tests.unit.rpc.rig import FakeOutlet, Rig, auth_frame, codes, frame, rig, scope, settle, slow_frame

LIMITS = Limits(auth_timeout=30, idle_timeout=1800)


def after(server: Rig, seconds: float, outlet: FakeOutlet) -> list[tuple[int, str]]:
    """What a sweep closes after so many seconds."""
    server.clock.now += seconds
    server.engine.sweep()
    return outlet.closed


async def test_a_stranger_is_closed_after_the_grace_and_not_before(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        _, outlet = server.session(login=None)
        assert after(server, 30, outlet) == []
        assert after(server, 0.1, outlet) == [(CLOSE_POLICY, "not authenticated within 30 s")]


async def test_frames_do_not_prolong_the_grace(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        session, outlet = server.session(login=None)
        server.clock.now += 29
        session.receive(frame("identify", namespace="rpc"))
        assert after(server, 2, outlet) == [(CLOSE_POLICY, "not authenticated within 30 s")]


async def test_a_log_in_that_is_being_checked_is_awaited(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        session, outlet = server.session(login=None)
        session.receive(auth_frame("ann"))
        await settle()
        assert after(server, 31, outlet) == []


async def test_logging_out_starts_the_grace_anew(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        session, outlet = server.session()
        server.clock.now += 100
        session.logout()
        assert after(server, 30, outlet) == []
        assert after(server, 0.1, outlet) != []


async def test_an_idle_session_is_closed(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        _, outlet = server.session()
        assert after(server, 1800, outlet) == []
        assert after(server, 0.1, outlet) == [(CLOSE_GOING_AWAY, "idle for 1800 s")]


async def test_a_message_ends_the_idleness(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        session, outlet = server.session()
        server.clock.now += 1799
        session.receive(frame("echo"))
        assert after(server, 1799, outlet) == []


async def test_who_has_a_call_or_a_subscription_is_not_idle(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        caller, first = server.session()
        listener, second = server.session()
        caller.receive(slow_frame("a"))
        assert listener.scope is not None
        listener.subscriptions.add(listener.scope, SYSADM, ["dispatcher"])
        assert after(server, 5000, first) == second.closed == []


async def test_a_session_ends_at_its_absolute_expiry_however_busy(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        session, outlet = server.session(login=None)
        session.login(scope(), "t", server.clock.now + 43200)
        session.subscriptions.add(scope(), SYSADM, ["dispatcher"])
        session.receive(slow_frame("a"))
        assert after(server, 43200, outlet) == []
        assert after(server, 0.1, outlet) == [(CLOSE_POLICY, "the session expired")]


async def test_the_tokens_of_open_sessions_are_kept_alive(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        _, outlet = server.session()
        server.engine.sweep()
        after(server, 1, outlet)
        assert server.renewed == ["token of ann"]
        after(server, RENEW_INTERVAL, outlet)
        assert server.renewed == ["token of ann"] * 2


async def test_a_session_whose_token_no_longer_holds_is_closed(tmp_path: Path) -> None:
    async with rig(tmp_path, LIMITS) as server:
        session, outlet = server.session()
        server.engine.sweep()
        server.dead_tokens.add("token of ann")
        assert after(server, RENEW_INTERVAL, outlet) == [(CLOSE_POLICY, "the identity was revoked")]
        assert session.scope is None


async def test_a_token_given_back_ends_its_other_sessions(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        mine, my_outlet = server.session()
        _, others = server.session()
        _, stranger = server.session(login="bob")
        server.engine.end_token("token of ann", mine)
        assert others.closed == [(CLOSE_POLICY, "the identity was revoked")]
        assert my_outlet.closed == stranger.closed == []


# Policy


def change(account: str | None, *, revoked: bool = False) -> PolicyChange:
    return PolicyChange(2, account, None, revoked)


def reader(account: str) -> Scope:
    return scope(account, "call:@read")


@pytest.mark.parametrize("changed", ["ann", None])
async def test_changed_roles_hold_for_the_next_call_and_the_next_event(tmp_path: Path, changed: str | None) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["dispatcher"])
        server.engine.apply_policy(change(changed), reader)
        server.events.publish(Draft("dispatcher", pending("a"), durable=False))
        session.receive(frame("strict", {"action": "run", "n": 1}))
        await settle()
        assert outlet.replies[0]["args"]["code"] == 403
        assert outlet.written == []
        assert outlet.closed == []


async def test_a_change_of_one_account_leaves_the_others(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, _ = server.session(login="bob")
        before = session.scope
        server.engine.apply_policy(change("ann", revoked=True), reader)
        assert session.scope is before


async def test_a_new_password_ends_the_sessions_of_the_account(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        server.engine.apply_policy(change("ann", revoked=True), reader)
        assert outlet.closed == [(CLOSE_POLICY, "the identity was revoked")]
        assert session.scope is None


async def test_the_call_that_ends_its_own_identity_is_answered_before_the_close(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.receive(slow_frame("a"))
        await settle()
        server.engine.apply_policy(change("ann", revoked=True), reader)
        assert session.scope is None
        assert outlet.closed == []
        server.gates.open("a")
        await asyncio.sleep(0.05)
        assert codes(outlet.replies) == {"a": 200}
        assert outlet.closed == [(CLOSE_POLICY, "the identity was revoked")]


async def test_an_account_that_is_gone_ends_its_sessions_even_without_a_token(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        session.login(scope(), None, None)
        server.engine.apply_policy(change("ann"), lambda account: None)
        assert outlet.closed == [(CLOSE_POLICY, "the identity was revoked")]


async def test_who_is_known_by_other_means_is_asked_for_again_and_survives_a_new_password(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        session.login(scope("root"), None, None, lambda: reader("root"))
        server.engine.apply_policy(change("root", revoked=True), lambda account: None)
        assert outlet.closed == []
        assert session.scope is not None
        assert session.scope.patterns == {"call:@read"}


async def test_who_is_known_by_other_means_ends_when_they_no_longer_vouch(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session(login=None)
        session.login(scope("ann"), None, None, lambda: None)
        server.engine.apply_policy(change("ann"), reader)
        assert outlet.closed == [(CLOSE_POLICY, "the identity was revoked")]


# Identity


async def test_a_log_in_raises_the_frame_limit_and_a_log_out_lowers_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.logout()
        assert outlet.frame_limits == [1024 * 1024, 8 * 1024]


async def test_a_log_out_ends_the_subscriptions(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["dispatcher"])
        session.logout()
        server.events.publish(Draft("dispatcher", pending("a"), durable=False))
        await settle()
        assert len(session.subscriptions) == 0
        assert outlet.written == []


async def test_subscriptions_outlive_another_log_in_with_its_rights(tmp_path: Path) -> None:
    async with rig(tmp_path) as server:
        session, outlet = server.session()
        session.subscriptions.add(scope(), SYSADM, ["dispatcher"])
        session.login(scope("bob"), "t", None)
        server.events.publish(Draft("dispatcher", pending("a"), durable=False))
        await settle()
        session.login(reader("eve"), "t", None)
        server.events.publish(Draft("dispatcher", pending("b"), durable=False))
        await settle()
        assert [one["args"]["process_id"] for one in outlet.written] == ["a"]


def pending(process_id: str) -> dict[str, object]:
    log = {"state": "pending", "process_id": process_id, "cmd_list": ["true"]}
    return {
        "phase": "pending",
        "process_id": process_id,
        "event_system": None,
        "extra": {},
        "details": log,
        "update": None,
    }
