"""API tokens: made on purpose, for a program, with a name, a bound and an end of their own.

A token may do what its account may and its `scopes` grant as well, at any time: what the account loses, the token
loses. Nobody makes one that may more than they do themselves, and a confined token makes only tokens within its bound.
A new password ends the API tokens of the account too, because whoever changes one suspects that somebody else knows it.

Unlike a log-in, making and revoking wait for the database: the token is shown once, so it must be there tomorrow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from sysadmd.auth.pattern import check
from sysadmd.auth.policy import Policy
from sysadmd.auth.scope import Scope
from sysadmd.auth.token_table import API, LiveToken, digest_of, id_of, insert_api, new_token
from sysadmd.auth.tokens import Tokens
from sysadmd.auth.writing import Writer
from sysadmd.errors import Conflict, Forbidden, NotFound, Unavailable

Listener = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Made:
    """A new API token. `token` is nowhere else; `expires_at` is Unix seconds, None: until it is revoked."""

    id: str
    token: str
    name: str
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Listed:
    """What may be said of an API token; times are Unix seconds. `scopes` None: all that the account may."""

    id: str
    account: str
    name: str | None
    scopes: tuple[str, ...] | None
    created_at: float
    used_at: float
    expires_at: float | None


class ApiTokens:
    """The API tokens among `tokens`, which answers for them. Used on the event loop only."""

    def __init__(
        self, writer: Writer, policy: Policy, tokens: Tokens, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._writer, self._policy, self._tokens, self._clock = writer, policy, tokens, clock
        self._listeners: list[Listener] = []

    def on_revoke(self, listener: Listener) -> None:
        """Call `listener` on the event loop after each revocation, when the token holds no more."""
        self._listeners.append(listener)

    def list(self, account: str | None = None) -> list[Listed]:
        """Those that hold, of one account or of all (None), the oldest first."""
        found = [
            Listed(id_of(digest), one.account, one.name, one.scopes, one.created, one.used, one.expires)
            for digest, one in self._tokens.api_tokens(account)
        ]
        return sorted(found, key=lambda one: (one.created_at, one.id))

    async def create(
        self,
        by: Scope,
        account: str,
        name: str,
        *,
        scopes: Iterable[str] | None = None,
        life: float | None = None,
        access: Mapping[str, str] | None = None,
    ) -> Made:
        """Make a token for an account; `life` in seconds, None: until it is revoked. `access` as in `Scope.covers`.

        Raises BadRequest (no permission), Forbidden (`by` may not), NotFound (no such account), TooManyRequests (it has
        too many) and Conflict (the account changed meanwhile).
        """
        bound = None if scopes is None else tuple(sorted({check(pattern) for pattern in scopes}))
        held = self._may_create(by, account, bound, access)
        now, token = self._clock(), new_token()
        digest = digest_of(token)
        assert digest is not None
        fresh = LiveToken(account, now, now, None if life is None else now + life, kind=API, name=name, scopes=bound)

        def committed() -> None:
            # What was allowed was allowed by the policy as it was; a new password ends every older token.
            if self._policy.scope(account) is held:
                self._tokens.keep(digest, fresh)
            else:
                self._tokens.end(digest)

        await self._insert(digest, fresh, committed)
        if self._tokens.resolve(token) is None:
            raise Conflict(f"account {account!r} changed meanwhile")
        return Made(id_of(digest), token, name, fresh.expires)

    async def revoke(self, token_id: str, account: str | None = None) -> None:
        """End the token with this id, of one account or of any (None); connections that use it end now.

        Raises NotFound, alike for what is not there and for what is another's.
        """
        for digest, _ in self._tokens.api_tokens(account):
            if id_of(digest) == token_id:
                await self._end(digest)
                return
        raise NotFound("there is no such token of yours" if account is not None else "there is no such token")

    async def _end(self, digest: bytes) -> None:
        """It holds no more, whatever becomes of the write. Raises Unavailable when that has to be tried again."""
        written = self._tokens.end(digest)
        for listener in self._listeners:
            listener()
        if written is None:
            raise Unavailable("revoked, but not written yet; it is tried again")
        await asyncio.shield(written)

    def _may_create(
        self, by: Scope, account: str, bound: tuple[str, ...] | None, access: Mapping[str, str] | None
    ) -> Scope:
        """The account's scope. Raises Forbidden unless `by` has all that the token would grant, and NotFound."""
        if account != by.account and not by.administers:
            raise Forbidden("only an administrator may make a token for another account")
        held = self._policy.scope(account)
        if held is None:
            raise NotFound(f"there is no account {account[:40]!r} that may log in")
        wanted: Iterable[str] = held.patterns if bound is None or account != by.account else ()
        beyond = by.covers(wanted, access) or by.covers(bound or (), access)
        if beyond is not None:
            raise Forbidden(f"the token would grant what you may not: {beyond}")
        return held

    async def _insert(self, digest: bytes, fresh: LiveToken, committed: Callable[[], None]) -> None:
        """Commit it, and take it even if whoever asked for it is gone by then."""
        limit = self._tokens.limits.api_tokens_per_account

        def commit(connection: Connection) -> tuple[None, tuple[()]]:
            insert_api(connection, digest, fresh, limit)
            return None, ()

        def done(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is None:
                committed()

        future = self._writer.submit(commit)
        future.add_done_callback(done)
        await asyncio.shield(future)
