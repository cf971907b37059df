"""The engine: what all sessions share. It resolves methods, owns the tasks of calls, counts, and ends sessions that are
over.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from sysadmd.auth.identity import Peer
from sysadmd.auth.policy import PolicyChange
from sysadmd.auth.scope import Scope
from sysadmd.auth.trail import NoTrail, Trail
from sysadmd.errors import InternalError, NotFound, RpcError, Unavailable
from sysadmd.events.log import EventLog
from sysadmd.limits import Limits
from sysadmd.rpc.auditing import Auditing
from sysadmd.rpc.registry import Entry, Registry
from sysadmd.rpc.session import Outlet, Session
from sysadmd.wire import JSONRPC
from sysadmd.wire.messages import Dialect, Request

log = structlog.get_logger(__name__)

CLOSE_POLICY = 1008
"""RFC 6455 §7.4.1: the peer broke a rule (no log-in in time, an expired or revoked identity)."""
CLOSE_GOING_AWAY = 1001
"""RFC 6455 §7.4.1: the server stops, or the session was idle for too long."""
SWEEP_INTERVAL = 1.0
"""Seconds between two looks at the sessions' deadlines: one timer for all of them, since idle sessions must cost no
memory.
"""

RENEW_INTERVAL = 30.0
"""Seconds between two renewals of the tokens that are in use: far less than their idle life."""


REVOKED = "the identity was revoked"
REVOKE_GRACE = 1.0
"""Seconds that the running calls of a revoked identity have to answer, before their connection is closed."""


class Engine:
    """One for each server.

    `services` is handed to every handler, unseen. `keep_token` restarts the idle time of a token that is in use on an
    open connection; it says whether the token still holds.
    """

    def __init__(
        self,
        registry: Registry,
        services: Any,
        events: EventLog,
        limits: Limits,
        *,
        trail: Trail | None = None,
        keep_token: Callable[[str], bool] = lambda token: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry, self.services, self.events, self.limits = registry, services, events, limits
        self.trail = trail or NoTrail()
        self.auditing = Auditing(self.trail)
        self.monotonic, self._keep_token = monotonic, keep_token
        self.sessions: set[Session] = set()
        self.counts: Counter[tuple[str, int]] = Counter()
        self.draining = False
        self._renew_at = 0.0
        self._tasks: TaskGroup | None = None

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Own the calls' tasks and sweep the sessions, until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            while True:
                await anyio.sleep(SWEEP_INTERVAL)
                self.sweep()

    # Sessions

    def open(self, outlet: Outlet, peer: Peer, *, classic: bool = False) -> Session:
        """A new session, not logged in."""
        session = Session(self, outlet, peer, classic=classic)
        self.sessions.add(session)
        return session

    def forget(self, session: Session) -> None:
        """A session that was closed."""
        self.sessions.discard(session)

    def sweep(self) -> None:
        """Close the sessions whose time is over: no log-in within the grace, past the absolute expiry, or idle."""
        now, limits = self.monotonic(), self.limits
        renew = now >= self._renew_at
        if renew:
            self._renew_at = now + RENEW_INTERVAL
        for session in list(self.sessions):
            if renew and session.token is not None and not self._keep_token(session.token):
                self._revoke(session)
            if session.scope is None:
                if now - session.logged_out_at > limits.auth_timeout and not session.calls:
                    session.outlet.close(CLOSE_POLICY, f"not authenticated within {limits.auth_timeout:g} s")
            elif session.expires is not None and now > session.expires:
                session.outlet.close(CLOSE_POLICY, "the session expired")
            elif now - session.last_message > limits.idle_timeout and not session.calls and not session.subscriptions:
                session.outlet.close(CLOSE_GOING_AWAY, f"idle for {limits.idle_timeout:g} s")

    def apply_policy(self, change: PolicyChange, scope_of: Callable[[str], Scope | None]) -> None:
        """Accounts or roles changed: open sessions get their new scope at once, or end."""
        for session in list(self.sessions):
            old, voucher = session.scope, session.voucher
            if old is None or change.account not in {None, old.account}:
                continue
            scope = scope_of(old.account) if voucher is None else voucher()
            # What a voucher says was no log-in, so that a new password does not end it.
            if scope is None or (change.revoked and voucher is None):
                self._revoke(session)
            else:
                # What a token was confined to, it stays confined to, whatever its account may do now.
                confined = old.bound is not None and scope.bound is None
                session.rescope(scope.bounded(old.bound or ()) if confined else scope)

    def end_token(self, token: str, besides: Session) -> None:
        """A token was given back on one connection: the others that use it end."""
        for session in list(self.sessions):
            if session.token == token and session is not besides:
                self._revoke(session)

    def end_dead_tokens(self) -> None:
        """Tokens ended by something else than their own revocation (a key was revoked): so do those who use them."""
        for session in list(self.sessions):
            if session.token is not None and not self._keep_token(session.token):
                self._revoke(session)

    def end_after_calls(self, session: Session, reason: str) -> None:
        """Take a session's identity now, and close it as soon as its running calls had a moment to answer."""
        session.logout()
        if session.calls:
            self.spawn(self._close_soon, session, reason)
        else:
            session.outlet.close(CLOSE_POLICY, reason)

    def _revoke(self, session: Session) -> None:
        self.end_after_calls(session, REVOKED)

    async def _close_soon(self, session: Session, reason: str) -> None:
        """Close after the calls that run: whoever changes their own password is to have the answer."""
        with anyio.move_on_after(REVOKE_GRACE):
            while session.calls:  # noqa: ASYNC110  # as in `drain`
                await anyio.sleep(0.01)
        session.outlet.close(CLOSE_POLICY, reason)

    # Calls

    def resolve(self, request: Request, dialect: Dialect) -> Entry | RpcError:
        """The method that a request addresses, or why there is none."""
        try:
            entry = self.registry.find(request.namespace, request.name, request.action)
        except RpcError as error:
            return error
        if dialect is JSONRPC and request.action and entry.method.action is None:
            # There the action is a part of the method's name; elsewhere it is an argument that some methods have.
            return NotFound(f"there is no {entry.method.key}/{request.action}")
        return entry

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run a call's task."""
        if self._tasks is None:
            raise AssertionError("the engine does not run")
        self._tasks.start_soon(function, *args)

    def refuse_while_draining(self) -> None:
        """Raise `Unavailable` once the server stops."""
        if self.draining:
            raise Unavailable("the server is stopping")

    def fault(self, request: Request, error: Exception) -> InternalError:
        """Log a fault of ours; the caller is told no details."""
        log.error("call failed", namespace=request.namespace, name=request.name, action=request.action, exc_info=error)
        return InternalError()

    def count(self, key: str, code: int) -> None:
        """Count an answer, for /metrics."""
        self.counts[key, code] += 1

    async def drain(self, timeout: float) -> None:
        """Take no new calls and wait until the running ones are done, at most `timeout` seconds."""
        self.draining = True
        for session in list(self.sessions):
            session.refuse_waiting(Unavailable("the server is stopping"))
        with anyio.move_on_after(timeout):
            # One poll in the life of a server; an event would have to be set at the end of every call.
            while any(session.calls for session in self.sessions):  # noqa: ASYNC110
                await anyio.sleep(0.02)
