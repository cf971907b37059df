"""Tokens: what a log-in returns, so that the next one needs no password.

A token is 32 characters of `[A-Za-z0-9]` from the system's generator, 190 bits. Neither memory nor database holds it,
only its SHA-256; that is enough for a random secret, and it makes the comparison exact: a token is looked up by its
whole digest or not at all (the original searched for a substring, and the empty token opened every door: spec sysadm
§3.8). Because the look-up is by digest, its time tells nothing about a token.

Memory answers, the database remembers: a new token and a revoked one are written at once (nobody waits for it), the
times of use with `run` every half minute. After a crash a token may thus be up to that much older than it was, never
younger.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import string
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import anyio
import structlog
from anyio.abc import TaskStatus
from sqlalchemy import Connection, bindparam, delete, exists, insert, literal, select, update
from sqlalchemy.exc import SQLAlchemyError

from sysadmd.auth.policy import Policy, PolicyChange
from sysadmd.auth.scope import Scope
from sysadmd.auth.writing import Writer
from sysadmd.errors import SysadmdError
from sysadmd.limits import Limits
from sysadmd.store import Store
from sysadmd.store.tables import account as account_rows
from sysadmd.store.tables import public_key as key_rows
from sysadmd.store.tables import token as token_rows

log = structlog.get_logger(__name__)

ALPHABET = string.ascii_letters + string.digits
LENGTH = 32
FLUSH_INTERVAL = 30.0
"""Seconds between two writes of the times of use: a thirtieth of a token's idle life."""
FLUSH_AT_END = 2.0
"""Seconds that a stop waits for the last of them."""


@dataclass(slots=True)
class _Token:
    """One live token. Times are Unix seconds; `expires` is absolute."""

    account: str
    used: float
    expires: float
    key: str | None = None
    """Fingerprint of the public key that proved the log-in; the token ends with it."""


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
        self._live: dict[bytes, _Token] = {}
        self._of_account: dict[str, set[bytes]] = {}
        self._touched: set[bytes] = set()
        self._to_delete: set[bytes] = set()
        for row in store.read_now(lambda connection: connection.execute(select(token_rows)).all()):
            self._keep(bytes.fromhex(row.hash), _Token(row.account, row.used_at, row.expires_at, row.key))
        policy.on_change(self._policy_changed)

    def issue(self, scope: Scope, *, key: str | None = None) -> str:
        """A new token for the account of `scope`. Above `tokens_per_account` the one idle for longest ends.

        `key`: the fingerprint of the public key that proved the log-in.
        """
        now = self._clock()
        token = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        digest = _digest(token)
        fresh = _Token(scope.account, now, now + self.limits.token_absolute, key)
        ended = self._make_room(scope.account, now)
        self._keep(digest, fresh)

        def write(connection: Connection) -> None:
            _insert(connection, digest, fresh, now)
            _delete(connection, ended)

        self._write(write, ended)
        return token

    def resolve(self, token: str) -> Scope | None:
        """The scope of the account that the token stands for; None: unknown or over. Its idle time restarts."""
        digest, found = self._find(token)
        if found is None:
            return None
        found.used = self._clock()
        self._touched.add(digest)
        return self._policy.scope(found.account)

    def touch(self, token: str) -> None:
        """Restart the idle time: the token is in use on an open connection."""
        self.resolve(token)

    def remaining(self, token: str) -> float:
        """Seconds until the token ends however busy it is; 0 when it is over already."""
        found = self._find(token)[1]
        return 0.0 if found is None else found.expires - self._clock()

    def revoke(self, token: str) -> bool:
        """End a token; whether it was live."""
        digest, found = self._find(token)
        if found is None:
            return False
        self._drop(digest)
        self._write(lambda connection: _delete(connection, [digest]), [digest])
        return True

    def end_key(self, account: str, key: str) -> None:
        """The tokens that this public key opened end. Their rows are gone already, with the row of the key."""
        for digest in [one for one in self._of_account.get(account, ()) if self._live[one].key == key]:
            self._drop(digest)

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
            self._drop(digest)
            self._to_delete.add(digest)
        used = {digest: self._live[digest].used for digest in self._touched if digest in self._live}
        ended = tuple(self._to_delete)
        self._touched.clear()
        self._to_delete.clear()
        if not used and not ended:
            return

        def write(connection: Connection) -> None:
            _update(connection, used)
            _delete(connection, ended)

        try:
            await asyncio.shield(self._writer.submit(_transaction(write)))
        except (SysadmdError, SQLAlchemyError) as error:
            self._touched |= used.keys()
            self._to_delete.update(ended)
            log.warning("times of use of tokens not written", tokens=len(used), error=str(error))

    def _find(self, token: object) -> tuple[bytes, _Token | None]:
        """The live token, by its whole digest. What cannot be a token is not even hashed."""
        if not (isinstance(token, str) and len(token) == LENGTH and token.isascii() and token.isalnum()):
            return b"", None
        digest = _digest(token)
        found = self._live.get(digest)
        if found is not None and self._is_over(found, self._clock()):
            self._drop(digest)
            self._to_delete.add(digest)
            found = None
        return digest, found

    def _is_over(self, token: _Token, now: float) -> bool:
        return now >= token.expires or now - token.used > self.limits.token_idle

    def _make_room(self, account: str, now: float) -> list[bytes]:
        """End what must end before one more fits; their digests."""
        mine = self._of_account.get(account, set())
        excess = len(mine) + 1 - self.limits.tokens_per_account
        if excess <= 0:
            return []
        ended = [digest for digest in mine if self._is_over(self._live[digest], now)]
        if len(ended) < excess:
            ended = sorted(mine, key=lambda digest: self._live[digest].used)[:excess]
        for digest in ended:
            self._drop(digest)
        return ended

    def _keep(self, digest: bytes, token: _Token) -> None:
        self._live[digest] = token
        self._of_account.setdefault(token.account, set()).add(digest)

    def _drop(self, digest: bytes) -> None:
        token = self._live.pop(digest)
        self._touched.discard(digest)
        mine = self._of_account[token.account]
        mine.discard(digest)
        if not mine:
            del self._of_account[token.account]

    def _policy_changed(self, change: PolicyChange) -> None:
        """The rows are gone already, with the transaction of the change."""
        if change.revoked and change.account is not None:
            for digest in tuple(self._of_account.get(change.account, ())):
                self._drop(digest)

    def _write(self, write: Callable[[Connection], None], ended: Iterable[bytes]) -> None:
        """Write without waiting: memory is what answers until the next start. What had to end is tried again."""

        def failed(error: BaseException) -> None:
            self._to_delete.update(ended)
            log.warning("a token was not written, a new one will not outlive this server", error=str(error))

        def done(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                failed(error)

        try:
            self._writer.submit(_transaction(write)).add_done_callback(done)
        except SysadmdError as error:
            failed(error)


def _transaction(write: Callable[[Connection], None]) -> Callable[[Connection], tuple[None, Sequence[object]]]:
    """`write` in the form that the log takes: no result, no records."""

    def transaction(connection: Connection) -> tuple[None, Sequence[object]]:
        write(connection)
        return None, ()

    return transaction


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii")).digest()


def _insert(connection: Connection, digest: bytes, token: _Token, now: float) -> None:
    """Nothing when the account was removed meanwhile, or the key revoked: its tokens go with it."""
    columns = ["hash", "id", "account", "kind", "key", "created_at", "used_at", "expires_at"]
    values = (digest.hex(), digest.hex()[:12], token.account, "login", token.key, now, now, token.expires)
    row = select(*map(literal, values)).where(exists().where(account_rows.c.name == token.account))
    if token.key is not None:
        row = row.where(exists().where(key_rows.c.fingerprint == token.key))
    connection.execute(insert(token_rows).from_select(columns, row))


def _delete(connection: Connection, digests: Iterable[bytes]) -> None:
    for digest in digests:
        connection.execute(delete(token_rows).where(token_rows.c.hash == digest.hex()))


def _update(connection: Connection, used: dict[bytes, float]) -> None:
    if used:
        statement = update(token_rows).where(token_rows.c.hash == bindparam("digest")).values(used_at=bindparam("used"))
        connection.execute(statement, [{"digest": digest.hex(), "used": at} for digest, at in used.items()])
