"""Tokens: what a log-in returns, so that the next one needs no password, and what is made on purpose for a program.

A token is 32 characters of `[A-Za-z0-9]` from the system's generator, 190 bits. Neither memory nor database holds it,
only its SHA-256; that is enough for a random secret, and it makes the comparison exact: a token is looked up by its
whole digest or not at all (the original searched for a substring, and the empty token opened every door: spec sysadm
§3.8). Because the look-up is by digest, its time tells nothing about a token.

Memory answers, the database remembers: a new token and a revoked one are written at once (nobody waits for it), the
times of use with `run` every half minute. After a crash a token may thus be up to that much older than it was, never
younger. API tokens are made and revoked by `auth.api_tokens`, where the caller does wait.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import anyio
import structlog
from anyio.abc import TaskStatus
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sysadmd.auth.policy import Policy, PolicyChange
from sysadmd.auth.scope import Scope
from sysadmd.auth.token_table import (
    API,
    LOGIN,
    LiveToken,
    delete_tokens,
    digest_of,
    insert_login,
    live_tokens,
    new_token,
    set_used,
)
from sysadmd.auth.writing import Writer
from sysadmd.errors import SysadmdError
from sysadmd.limits import Limits
from sysadmd.store import Store

log = structlog.get_logger(__name__)

FLUSH_INTERVAL = 30.0
"""Seconds between two writes of the times of use: a thirtieth of a token's idle life."""
FLUSH_AT_END = 2.0
"""Seconds that a stop waits for the last of them."""


class Tokens:
    """The live tokens of every account. Used on the event loop only; nothing here waits except `run` and `flush`."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        policy: Policy,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._writer, self._policy, self._clock = writer, policy, clock
        self.limits = limits or Limits()
        """Replaced when the configuration is read again."""
        self._live: dict[bytes, LiveToken] = {}
        self._of_account: dict[str, set[bytes]] = {}
        self._touched: set[bytes] = set()
        self._to_delete: set[bytes] = set()
        for digest, token in store.read_now(live_tokens).items():
            self.keep(digest, token)
        policy.on_change(self._policy_changed)

    def issue(self, scope: Scope, *, key: str | None = None) -> str:
        """A new log-in token for the account of `scope`. Above `tokens_per_account` the one idle for longest ends.

        `key`: the fingerprint of the public key that proved the log-in.
        """
        now, token = self._clock(), new_token()
        digest = digest_of(token)
        assert digest is not None
        fresh = LiveToken(scope.account, now, now, now + self.limits.token_absolute, key)
        ended = self._make_room(scope.account, now)
        self.keep(digest, fresh)

        def write(connection: Connection) -> None:
            insert_login(connection, digest, fresh)
            delete_tokens(connection, ended)

        self._write(write, ended)
        return token

    def resolve(self, token: str) -> Scope | None:
        """What the holder of the token may do; None: unknown or over. Its idle time restarts."""
        digest, found = self._find(token)
        if found is None:
            return None
        found.used = self._clock()
        self._touched.add(digest)
        return self._scope(found)

    def voucher(self, token: str) -> Callable[[], Scope | None] | None:
        """How an open connection learns what the holder of an API token may do after each change of the policy; None
        for a log-in token, whose holder may do what the account may.
        """
        found = self._find(token)[1]
        if found is None or found.kind == LOGIN:
            return None

        def vouch() -> Scope | None:
            live = self._find(token)[1]
            return None if live is None else self._scope(live)

        return vouch

    def touch(self, token: str) -> None:
        """Restart the idle time: the token is in use on an open connection."""
        self.resolve(token)

    def remaining(self, token: str) -> float:
        """Seconds until the token ends however busy it is, or infinity; 0 when it is over already."""
        found = self._find(token)[1]
        if found is None:
            return 0.0
        return math.inf if found.expires is None else found.expires - self._clock()

    def revoke(self, token: str) -> bool:
        """Give a log-in token back; whether it was live. An API token is not the connection's that uses it: it stays,
        and the answer is False.
        """
        digest, found = self._find(token)
        if found is None or found.kind == API:
            return False
        self.end(digest)
        return True

    def end(self, digest: bytes) -> asyncio.Future[None] | None:
        """End a token of either kind. The future is done when that is written; None: it is tried again later."""
        self.drop(digest)
        return self._write(lambda connection: delete_tokens(connection, [digest]), [digest])

    def api_tokens(self, account: str | None = None) -> Iterator[tuple[bytes, LiveToken]]:
        """The API tokens that hold, of one account or of all (None), with their digests."""
        now = self._clock()
        mine = self._live if account is None else self._of_account.get(account, ())
        for digest in mine:
            token = self._live[digest]
            if token.kind == API and not self._is_over(token, now):
                yield digest, token

    def end_key(self, account: str, key: str) -> None:
        """The tokens that this public key opened end. Their rows are gone already, with the row of the key."""
        for digest in [one for one in self._of_account.get(account, ()) if self._live[one].key == key]:
            self.drop(digest)

    def keep(self, digest: bytes, token: LiveToken) -> None:
        """From now on this one holds."""
        self._live[digest] = token
        self._of_account.setdefault(token.account, set()).add(digest)

    def drop(self, digest: bytes) -> None:
        """From now on this one does not; whoever drops it sees to its row. Nothing when it does not already."""
        token = self._live.pop(digest, None)
        if token is None:
            return
        self._touched.discard(digest)
        mine = self._of_account[token.account]
        mine.discard(digest)
        if not mine:
            del self._of_account[token.account]

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write the times of use and drop what is over, until cancelled."""
        task_status.started()
        try:
            while True:
                await anyio.sleep(FLUSH_INTERVAL)
                await self.flush()
        finally:
            with anyio.move_on_after(FLUSH_AT_END, shield=True):
                await self.flush()

    async def flush(self) -> None:
        """Write the times of use since the last one, and delete what is over; nothing when nothing happened."""
        now = self._clock()
        for digest in [digest for digest, token in self._live.items() if self._is_over(token, now)]:
            self.drop(digest)
            self._to_delete.add(digest)
        used = {digest: self._live[digest].used for digest in self._touched if digest in self._live}
        ended = tuple(self._to_delete)
        self._touched.clear()
        self._to_delete.clear()
        if not used and not ended:
            return

        def write(connection: Connection) -> None:
            set_used(connection, used)
            delete_tokens(connection, ended)

        try:
            await asyncio.shield(self._writer.submit(_transaction(write)))
        except (SysadmdError, SQLAlchemyError) as error:
            self._touched |= used.keys()
            self._to_delete.update(ended)
            log.warning("times of use of tokens not written", tokens=len(used), error=str(error))

    def _scope(self, token: LiveToken) -> Scope | None:
        """What the account may do, as far as the token may."""
        held = self._policy.scope(token.account)
        if held is None or token.scopes is None:
            return held
        if token.confined is None or token.confined[0] is not held:
            token.confined = held, held.bounded(token.scopes)
        return token.confined[1]

    def _find(self, token: object) -> tuple[bytes, LiveToken | None]:
        """The live token, by its whole digest."""
        digest = digest_of(token)
        if digest is None:
            return b"", None
        found = self._live.get(digest)
        if found is not None and self._is_over(found, self._clock()):
            self.drop(digest)
            self._to_delete.add(digest)
            found = None
        return digest, found

    def _is_over(self, token: LiveToken, now: float) -> bool:
        if token.expires is not None and now >= token.expires:
            return True
        return token.kind == LOGIN and now - token.used > self.limits.token_idle

    def _make_room(self, account: str, now: float) -> list[bytes]:
        """End what must end before one more log-in token fits; their digests."""
        mine = [one for one in self._of_account.get(account, ()) if self._live[one].kind == LOGIN]
        excess = len(mine) + 1 - self.limits.tokens_per_account
        if excess <= 0:
            return []
        ended = [digest for digest in mine if self._is_over(self._live[digest], now)]
        if len(ended) < excess:
            ended = sorted(mine, key=lambda digest: self._live[digest].used)[:excess]
        for digest in ended:
            self.drop(digest)
        return ended

    def _policy_changed(self, change: PolicyChange) -> None:
        """The rows are gone already, with the transaction of the change."""
        if change.revoked and change.account is not None:
            for digest in tuple(self._of_account.get(change.account, ())):
                self.drop(digest)

    def _write(self, write: Callable[[Connection], None], ended: Iterable[bytes]) -> asyncio.Future[None] | None:
        """Write without waiting: memory is what answers until the next start. What had to end is tried again."""

        def failed(error: BaseException) -> None:
            self._to_delete.update(ended)
            log.warning("a token was not written, a new one will not outlive this server", error=str(error))

        def done(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                failed(error)

        try:
            future = self._writer.submit(_transaction(write))
        except SysadmdError as error:
            failed(error)
            return None
        future.add_done_callback(done)
        return future


def _transaction(write: Callable[[Connection], None]) -> Callable[[Connection], tuple[None, Sequence[object]]]:
    """`write` in the form that the log takes: no result, no records."""

    def transaction(connection: Connection) -> tuple[None, Sequence[object]]:
        write(connection)
        return None, ()

    return transaction
