"""The one door: every proof of identity, from whichever listener, passes here.

A proof is a coroutine function that returns the scope of whom it proves, or raises `Unauthorized`. What is the same for
all of them is said once: a blocked address is answered like a wrong password and its proof is not even looked at, a
failure is counted, and both outcomes are in the audit trail before they are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sysadmd.auth.accounts import REFUSED, Accounts
from sysadmd.auth.identity import Peer
from sysadmd.auth.scope import Scope
from sysadmd.auth.tokens import Tokens
from sysadmd.auth.trail import Trail
from sysadmd.errors import Unauthorized, Unavailable

Proof = Callable[[], Awaitable[Scope]]


class Authenticator:
    """Logs in by password and token, and by whatever else has a proof (`attempt`)."""

    def __init__(self, accounts: Accounts, tokens: Tokens, *, trail: Trail) -> None:
        self._accounts, self._tokens, self._trail = accounts, tokens, trail

    async def password(self, name: str, password: str, peer: Peer, *, session: str | None = None) -> Scope:
        """The scope of the account with this password. Raises Unauthorized and TooManyRequests."""
        proof = lambda: self._accounts.authenticate(name, password)  # noqa: E731
        return await self.attempt("password", name, peer, proof, session=session)

    async def token(self, token: str, peer: Peer, *, session: str | None = None) -> Scope:
        """The scope that a token stands for. Raises Unauthorized."""

        async def proof() -> Scope:
            scope = self._tokens.resolve(token)
            if scope is None:
                raise Unauthorized
            return scope

        return await self.attempt("token", None, peer, proof, session=session, counted=False)

    async def attempt(
        self,
        method: str,
        account: str | None,
        peer: Peer,
        proof: Proof,
        *,
        session: str | None = None,
        counted: bool = True,
    ) -> Scope:
        """The scope that `proof` gives. `account`: the name that was claimed, if one was; `counted`: whether a failure
        counts towards a lock-out. Raises Unauthorized with the same text whatever was wrong,
        TooManyRequests, and Unavailable (nobody logs in without a record of it).
        """
        try:
            scope = await proof()
        except Unauthorized:
            self._trail.record("login_failed", account=account, peer=peer, session=session, method=method)
            raise Unauthorized(REFUSED) from None
        durable = self._trail.record("login", account=scope.account, peer=peer, session=session, method=method)
        if durable is not None:
            try:
                await asyncio.shield(durable)
            except Exception as error:
                raise Unavailable("the audit trail could not be written") from error
        return scope
