"""The one door: every proof of identity, from whichever listener, passes here.

A proof is a coroutine function that returns the scope of whom it proves, or raises `Unauthorized`. What is the same for
all of them is said once: a blocked address is answered like a wrong password and its proof is not even looked at, a
failure is counted, and both outcomes are in the audit trail before they are answered.

The answer to a blocked address comes after as long as the last wrong proof of the same kind took, so that the clock
does not tell a lock-out from a wrong password. It is slept, not computed: a blocked flood costs no processor. As the
log-ins of one prefix wait for each other, it also gets no more answers than an honest one. Loopback and the Unix socket
are never locked out: whoever is on the machine could lock its administrator out otherwise, who has no other address to
come from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio

from sysadmd.auth.accounts import REFUSED, Accounts
from sysadmd.auth.identity import Peer
from sysadmd.auth.prefix import is_loopback, prefix_of
from sysadmd.auth.scope import Scope
from sysadmd.auth.system_accounts import SystemAccounts
from sysadmd.auth.throttle import Throttle
from sysadmd.auth.tokens import Tokens
from sysadmd.auth.trail import Trail
from sysadmd.auth.turns import Turns
from sysadmd.errors import Unauthorized, Unavailable

Proof = Callable[[], Awaitable[Scope]]

PACE = 0.13
"""Seconds that a refusal of a blocked address takes before any wrong proof was measured: a password check's."""
MAX_PACE = 10.0


class _Blocked(Unauthorized):
    """Refused unseen."""


class Authenticator:
    """Logs in by password and token, and by whatever else has a proof (`attempt`).

    `exempt` says which addresses are never locked out.
    """

    def __init__(
        self,
        accounts: Accounts,
        tokens: Tokens,
        throttle: Throttle,
        *,
        trail: Trail,
        system: SystemAccounts | None = None,
        exempt: Callable[[str], bool] = is_loopback,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts, self._tokens, self._throttle, self._trail = accounts, tokens, throttle, trail
        self.exempt, self._sleep, self._monotonic = exempt, sleep, monotonic
        self._system = system
        self._turns = Turns()
        self._pace: dict[str, float] = {}

    async def password(self, name: str, password: str, peer: Peer, *, session: str | None = None) -> Scope:
        """The scope of the account with this password. Raises Unauthorized and TooManyRequests."""
        if self._system is None or not self._system.enabled:
            proof = lambda: self._accounts.authenticate(name, password)  # noqa: E731
            return await self.attempt("password", name, peer, proof, session=session)
        system = self._system
        proof = lambda: system.authenticate(name, password)  # noqa: E731
        return await self.attempt(self.means(name), name, peer, proof, session=session)

    def means(self, name: str) -> str:
        """What a log-in of this name with a password is called: `password`, or `system` for one that PAM judges."""
        return "password" if self._system is None or self._system.is_local(name) else "system"

    async def token(self, token: str, peer: Peer, *, session: str | None = None, recorded: bool = True) -> Scope:
        """The scope that a token stands for. Raises Unauthorized.

        A wrong token does not count towards a lock-out: nobody guesses 190 bits. Not `recorded`: a success is not
        written down, where each request brings its token along and what it changes is written down anyway.
        """

        async def proof() -> Scope:
            scope = self._tokens.resolve(token)
            if scope is None:
                raise Unauthorized
            return scope

        return await self.attempt("token", None, peer, proof, session=session, counted=False, recorded=recorded)

    async def attempt(
        self,
        method: str,
        account: str | None,
        peer: Peer,
        proof: Proof,
        *,
        session: str | None = None,
        counted: bool = True,
        recorded: bool = True,
    ) -> Scope:
        """The scope that `proof` gives. `account`: the name that was claimed, if one was; `counted`: whether a failure
        counts towards a lock-out; `recorded`: whether a success is written down. Raises Unauthorized with the same text
        whatever was wrong, TooManyRequests, and Unavailable (nobody logs in without a record of it).
        """
        watched = counted and not self.exempt(peer.address)
        try:
            scope = await (self._watched(method, account, peer, proof, session) if watched else proof())
        except Unauthorized as error:
            blocked = {"blocked": True} if isinstance(error, _Blocked) else {}
            self._trail.record("login_failed", account=account, peer=peer, session=session, method=method, **blocked)
            raise Unauthorized(REFUSED) from None
        if not recorded:
            return scope
        durable = self._trail.record("login", account=scope.account, peer=peer, session=session, method=method)
        if durable is not None:
            try:
                await asyncio.shield(durable)
            except Exception as error:
                raise Unavailable("the audit trail could not be written") from error
        return scope

    async def _watched(self, method: str, account: str | None, peer: Peer, proof: Proof, session: str | None) -> Scope:
        """What `proof` gives, in its prefix's turn and unless that is locked out; the outcome is counted."""
        throttle, prefix = self._throttle, prefix_of(peer.address)
        async with self._turns.turn(prefix, throttle.limits.password_checks_queued):
            if throttle.blocked(account, prefix):
                await self._sleep(self._pace.get(method, PACE))
                raise _Blocked
            began = self._monotonic()
            try:
                scope = await proof()
            except Unauthorized:
                self._pace[method] = min(self._monotonic() - began, MAX_PACE)
                for one in throttle.failed(account, prefix):
                    where = {"prefix": one.prefix, "until": one.blocked_until}
                    self._trail.record("lockout", account=one.account, peer=peer, session=session, **where)
                raise
            throttle.succeeded(account, prefix)
            return scope
