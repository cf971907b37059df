"""Who is connected: the open sessions of an engine, as people see them and end them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from sysadmd.errors import NotFound
from sysadmd.rpc.engine import CLOSE_POLICY, Engine
from sysadmd.rpc.session import Session

KILLED = "the session was ended"


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One session. `opened` and `expires` are Unix seconds, `idle` is seconds since its last message.

    `insecure`: a bridge between the two can read and change what they say.
    `account` and `method` are None before its log-in; `expires` is None where only a log-out or a revocation ends it.
    """

    id: str
    account: str | None
    roles: tuple[str, ...]
    address: str
    via: str
    method: str | None
    opened: float
    idle: float
    expires: float | None
    subscriptions: int
    calls: int
    classic: bool
    insecure: bool


def listed(engine: Engine, account: str | None = None) -> list[Listed]:
    """The sessions of one account, or all of them (None), strangers among them; the oldest first."""
    now, elapsed = engine.events.now(), engine.monotonic()
    found = sorted(_sessions(engine, account), key=lambda session: session.opened)
    return [_described(session, now - elapsed, elapsed) for session in found]


def find(engine: Engine, session_id: str, account: str | None = None) -> Session:
    """The session with this id. Raises NotFound, alike for what is not there and for what is another's."""
    for session in _sessions(engine, account):
        if session.id == session_id:
            return session
    raise NotFound("there is no such session" if account is None else "there is no such session of yours")


def kill(engine: Engine, session: Session, by: Session) -> None:
    """End a session now: its calls are cancelled, its socket is closed. Who ends their own is answered first."""
    if session is by:
        engine.end_after_calls(session, KILLED)
        return
    session.logout()
    session.outlet.close(CLOSE_POLICY, KILLED)
    session.close()


def _sessions(engine: Engine, account: str | None) -> Iterator[Session]:
    for session in engine.sessions:
        if account is None or (session.scope is not None and session.scope.account == account):
            yield session


def _described(session: Session, started: float, elapsed: float) -> Listed:
    """`started` is when the engine's monotonic clock began, in Unix seconds."""
    scope, expires = session.scope, session.expires
    return Listed(
        id=session.id,
        account=None if scope is None else scope.account,
        roles=() if scope is None else scope.roles,
        address=session.peer.address,
        via=session.peer.kind,
        method=session.method,
        opened=round(started + session.opened, 3),
        idle=round(elapsed - session.last_message, 3),
        expires=None if expires is None or math.isinf(expires) else round(started + expires, 3),
        subscriptions=len(session.subscriptions),
        calls=session.calls,
        classic=session.classic,
        insecure=session.peer.insecure,
    )
