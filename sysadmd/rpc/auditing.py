"""What the call pipeline writes into the audit trail.

A call that changes something is recorded before its handler runs, so there is no change without its record; the answer
waits until the record is durable. Without a record there is no change: when the trail takes none, the call is refused.
Every refusal for want of an identity or a permission is recorded too.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from sysadmd.auth.trail import Trail
from sysadmd.errors import Forbidden, RpcError, Unauthorized, Unavailable
from sysadmd.rpc.registry import Entry
from sysadmd.wire.messages import Request

if TYPE_CHECKING:
    from sysadmd.rpc.session import Session

ARGS_BYTES = 4096
"""Arguments that are written down as JSON; of longer ones, the beginning and the SHA-256 of the whole."""
NAME_LENGTH = 128
"""Characters of a namespace, name or request id, which a stranger chooses."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A call that is in the trail. `number` ties later records of the same call to the first."""

    number: int
    written: asyncio.Future[None] | None

    async def durable(self) -> None:
        """Wait until the record is on the disk. Raises Unavailable when it will never be."""
        if self.written is not None:
            try:
                await asyncio.shield(self.written)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                raise Unavailable("done, but the audit trail could not be written") from error


class Auditing:
    """Writes for all sessions of one engine."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._numbers = itertools.count(1)

    def begin(self, session: Session, request: Request, entry: Entry, args: Any) -> Noted | None:
        """Record a call that changes something, before it does. Raises Unavailable; None for other calls."""
        if not entry.method.mutates:
            return None
        return self.note(session, request, entry.method.key, entry.redact(args))

    def note(self, session: Session, request: Request, key: str, args: Any) -> Noted:
        """Record a change that is about to be made, as a call of the method `key`. There is no secret in `args`.

        Raises Unavailable: without a record there is no change.
        """
        noted = next(self._numbers)
        written = self._record(session, "call", request, method=key, n=noted, args=_bounded(args))
        if written is not None and written.done() and written.exception() is not None:
            self._record(session, "failed", request, method=key, n=noted, code=Unavailable.code)
            raise Unavailable("the audit trail cannot be written")
        return Noted(noted, written)

    def refused(self, session: Session, request: Request, method: str, error: RpcError, noted: Noted | None) -> None:
        """Record why a call failed: any failure of one that is in the trail, and a want of identity or permission."""
        if noted is not None:
            self._record(session, "failed", request, method=method, n=noted.number, code=error.code)
        elif isinstance(error, Unauthorized | Forbidden) and not _is_login(method):
            name = method or f"{request.namespace}/{request.name}"[:NAME_LENGTH]
            self._record(session, "refused", request, method=name, code=error.code)

    def _record(self, session: Session, kind: str, request: Request, **data: Any) -> asyncio.Future[None] | None:
        scope, peer = session.scope, session.peer
        if isinstance(request.id, str | int) and request.id != "":
            data["id"] = request.id if isinstance(request.id, int) else request.id[:NAME_LENGTH]
        account = None if scope is None else scope.account
        return self._trail.record(kind, account=account, peer=peer, session=session.id, **data)


def _is_login(method: str) -> bool:
    """Failed log-ins are recorded where they are judged."""
    return method.startswith("rpc/auth")


def _bounded(args: Any) -> Any:
    text = msgspec.json.encode(args)
    if len(text) <= ARGS_BYTES:
        return args
    return {
        "cut": text[:ARGS_BYTES].decode(errors="ignore"),
        "bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
    }
