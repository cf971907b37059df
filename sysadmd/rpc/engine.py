"""The engine: what all sessions share. It resolves methods, owns the tasks of calls, counts, and ends sessions that are over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from sysadmd.errors import InternalError, RpcError, Unavailable
from sysadmd.auth.policy import PolicyChange
from sysadmd.auth.scope import Scope
from sysadmd.events.log import EventLog
from sysadmd.limits import Limits
from sysadmd.rpc.registry import Entry, Registry
from sysadmd.rpc.session import Outlet, Peer, Session
from sysadmd.wire.messages import Request

log = structlog.get_logger(__name__)

CLOSE_POLICY = 1008
"""RFC 6455 §7.4.1: the peer broke a rule (no log-in in time, an expired or revoked identity)."""
CLOSE_GOING_AWAY = 1001
"""RFC 6455 §7.4.1: the server stops, or the session was idle for too long."""
SWEEP_INTERVAL = 1.0
"""Seconds between two looks at the sessions' deadlines: one timer for all of them, since idle sessions must cost no memory."""


class Engine:
    """One for each server. `services` is handed to every handler, unseen."""

    def __init__(
        self,
        registry: Registry,
        services: Any,
        events: EventLog,
        limits: Limits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry, self.services, self.events, self.limits = registry, services, events, limits
        self.monotonic = monotonic
        self.sessions: set[Session] = set()
        self.counts: Counter[tuple[str, int]] = Counter()
        self.draining = False
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
        for session in list(self.sessions):
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
            old = session.scope
            if old is None or session.token is None or change.account not in {None, old.account}:
                continue
            scope = scope_of(old.account)
            if change.revoked or scope is None:
                session.logout()
                session.outlet.close(CLOSE_POLICY, "the identity was revoked")
            else:
                session.rescope(scope)

    # Calls

    def resolve(self, request: Request) -> Entry | RpcError:
        """The method that a request addresses, or why there is none."""
        try:
            return self.registry.find(request.namespace, request.name, request.action)
        except RpcError as error:
            return error

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
            while any(session.calls for session in self.sessions):
                await anyio.sleep(0.02)
