"""Accounts of a running server: logging in with a password, and changing who may.

A password check costs 64 MiB and more than a tenth of a second, on purpose. So there is one lane for them: a flood of
log-ins uses half of one core and one such block, never more, and who comes when the lane's queue is full is told so
(429). An account that does not exist costs the same as one that does, so that names cannot be found by the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sysadmd.auth import account_table, role_table
from sysadmd.auth.granting import Grantor
from sysadmd.auth.lane import Lane
from sysadmd.auth.password import Passwords, check_name, check_password
from sysadmd.auth.policy import Policy
from sysadmd.auth.scope import Scope
from sysadmd.auth.writing import Writer
from sysadmd.errors import SysadmdError, Unauthorized
from sysadmd.limits import Limits
from sysadmd.store import Store

log = structlog.get_logger(__name__)

T = TypeVar("T")

REFUSED = "wrong name or password"
"""The one answer to every failed log-in: it must not tell which of the two was wrong."""


class Accounts:
    """Local accounts. `policy` is what they may do now."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        *,
        limits: Limits | None = None,
        passwords: Passwords | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        limits = limits or Limits()
        self.policy = Policy(store.read_now(account_table.policy_rows))
        self._store, self._writer, self.clock = store, writer, clock
        self._passwords = passwords or Passwords(limit=limits.password_bytes)
        self._lane = Lane(limits.password_checks_queued, "password checks")

    def reconfigure(self, limits: Limits) -> None:
        """Take changed limits; a password that is stored stays good."""
        self._passwords.limit, self._lane.queued = limits.password_bytes, limits.password_checks_queued

    async def authenticate(self, name: str, password: str) -> Scope:
        """The scope of the account with this password. Raises Unauthorized, and TooManyRequests when too many wait."""
        before = self.policy.scope(name)
        stored, good = await self._lane.run(lambda: self._verify(name, password))
        # A password that was changed while the old one was checked must not log in with the old one.
        if not good or before is None or self.policy.scope(name) is not before:
            raise Unauthorized(REFUSED)
        if stored is not None and self._passwords.is_stale(stored):
            await self._rehash(name, stored, password)
        return before

    async def add(self, name: str, password: str, roles: Iterable[str] = (), *, by: Grantor | None = None) -> None:
        """Add an account.

        Raises BadRequest (name, password, unknown role), Conflict (the name is taken) and Forbidden (`by`, who asks,
        does not hold what the roles grant). For this and all changes below, None is the machine itself.
        """
        check_name(name)
        hashed, wanted, now = await self.hashed(password), tuple(roles), self.clock()
        await self.change(name, lambda c: account_table.add_account(c, name, hashed, wanted, now, by=by))

    async def remove(self, name: str, *, by: Grantor | None = None) -> None:
        """Remove an account and end its tokens. Raises NotFound, and Forbidden when it may do more than `by`."""
        await self.change(name, lambda c: account_table.remove_account(c, name, by), revoked=True)

    async def passwd(self, name: str, password: str, *, by: Grantor | None = None) -> None:
        """Set an account's password and end its tokens. Raises BadRequest (password), NotFound and Forbidden."""
        hashed, now = await self.hashed(password), self.clock()
        await self.change(name, lambda c: account_table.set_password(c, name, hashed, now, by), revoked=True)

    async def set_roles(self, name: str, roles: Iterable[str], *, by: Grantor | None = None) -> None:
        """Give an account these roles instead of its own. Raises NotFound, BadRequest (unknown role) and Forbidden."""
        wanted = tuple(roles)
        await self.change(name, lambda c: account_table.set_roles(c, name, wanted, by))

    async def set_disabled(self, name: str, *, disabled: bool, by: Grantor | None = None) -> None:
        """Whether an account may not log in; it ends at once when it may not. Raises NotFound and Forbidden."""
        await self.change(name, lambda c: account_table.set_disabled(c, name, disabled, by), revoked=disabled)

    async def set_role(
        self, name: str, patterns: Iterable[str], includes: Iterable[str], *, by: Grantor | None = None
    ) -> None:
        """Make a role or replace what it grants. Raises as `role_table.set_role`."""
        own, others = tuple(patterns), tuple(includes)
        await self.change(None, lambda c: role_table.set_role(c, name, own, others, by))

    async def remove_role(self, name: str, *, by: Grantor | None = None) -> None:
        """Remove a role that nothing uses. Raises as `role_table.remove_role`."""
        await self.change(None, lambda c: role_table.remove_role(c, name, by))

    async def roles(self) -> list[dict[str, Any]]:
        """Every role, as `role_table.list_roles` gives it."""
        return await self._store.read(role_table.list_roles)

    async def read(self, look: Callable[[Connection], T]) -> T:
        """What `look` finds in the tables of accounts and roles."""
        return await self._store.read(look)

    async def list(self) -> list[dict[str, Any]]:
        """Every account, as `account_table.list_accounts` gives it."""
        return await self._store.read(account_table.list_accounts)

    async def hashed(self, password: str) -> str:
        """The hash of a password that is to be stored. Raises BadRequest, and TooManyRequests when too many wait."""
        check_password(password, self._passwords.limit)  # refused before it waits in the lane
        return await self._lane.run(lambda: self._passwords.hash(password))

    def _verify(self, name: str, password: str) -> tuple[str | None, bool]:
        stored = self._store.read_now(lambda connection: account_table.password_hash(connection, name))
        return stored, self._passwords.verify(stored, password)

    async def _rehash(self, name: str, stored: str, password: str) -> None:
        """Bring a hash to today's cost. A log-in that is good does not fail because this does."""

        def replace(connection: Connection) -> tuple[None, tuple[()]]:
            account_table.replace_hash(connection, name, stored, hashed)
            return None, ()

        try:
            hashed = await self.hashed(password)
            await asyncio.shield(self._writer.submit(replace))
        except (SysadmdError, SQLAlchemyError) as error:
            log.warning("password hash stays at its old cost", account=name, error=str(error))

    async def change(
        self, name: str | None, write: Callable[[Connection], T], *, revoked: bool = False, ended: str | None = None
    ) -> T:
        """Commit a change and take the policy that it leaves, even if whoever asked for it is gone by then. The result
        is that of `write`.

        `name`: the only account that it changes; None where a role changes, and so may any account. `revoked`: the
        tokens of that account end. `ended`: an account whose tokens end besides, where `name` is None.
        """

        def commit(connection: Connection) -> tuple[tuple[account_table.PolicyRows, T], tuple[()]]:
            result = write(connection)
            return (account_table.policy_rows(connection), result), ()

        def committed(future: asyncio.Future[tuple[account_table.PolicyRows, T]]) -> None:
            if not future.cancelled() and future.exception() is None:
                rows = future.result()[0]
                self.policy.replace(rows, name, revoked=revoked)
                if ended is not None:
                    self.policy.replace(rows, ended, revoked=True)

        future = self._writer.submit(commit)
        future.add_done_callback(committed)
        return (await asyncio.shield(future))[1]
