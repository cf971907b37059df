"""What the rest of the server writes into the audit trail."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from sysadmd.auth.identity import Peer


class Trail(Protocol):
    """`auth.audit.Audit`, or a stand-in of a test."""

    def record(
        self,
        kind: str,
        *,
        account: str | None = None,
        peer: Peer | None = None,
        session: str | None = None,
        **data: Any,
    ) -> asyncio.Future[None] | None:
        """Append one record, in the order of the calls. The future is done when it is durable; None: nothing is kept.

        Never raises: what cannot be written is in the server's log, and its future has the error.
        """
        ...


class NoTrail:
    """Keeps nothing."""

    def record(
        self,
        kind: str,
        *,
        account: str | None = None,
        peer: Peer | None = None,
        session: str | None = None,
        **data: Any,
    ) -> None:
        """Forget it."""
