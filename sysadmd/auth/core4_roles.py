"""core4's roles on a running server: what core4_role_table does, with passwords hashed and the policy kept.

Who loses something by a change loses it at once: a new password, a closed account and a removal end the account's
tokens and connections, and whoever has a role that changed may do what it grants now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection

from sysadmd.auth import core4_role_table as table
from sysadmd.auth.accounts import Accounts
from sysadmd.auth.core4_role_table import Entry, Wanted
from sysadmd.auth.granting import Grantor


@dataclass(frozen=True, slots=True)
class Detail:
    """An entry with all that it inherits."""

    entry: Entry
    patterns: tuple[str, ...]
    roles: tuple[str, ...]


class Core4Roles:
    """Accounts and roles as one list. `by` is who asks; None is the account itself, or the machine."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def list(self) -> list[Entry]:
        """All of them by name."""
        return await self._accounts.read(table.entries)

    async def detail(self, key: str) -> Detail:
        """The one with this id or name. Raises NotFound."""

        def look(connection: Connection) -> Detail:
            entry = table.find(connection, key)
            return Detail(entry, *table.totals(connection, entry))

        return await self._accounts.read(look)

    async def account(self, name: str) -> Detail:
        """The account of this name, be it called like another's id. Raises NotFound."""

        def look(connection: Connection) -> Detail:
            entry = table.named(connection, name, account=True)
            return Detail(entry, *table.totals(connection, entry))

        return await self._accounts.read(look)

    async def create(self, name: str, wanted: Wanted, password: str | None, *, by: Grantor | None) -> Entry:
        """Add one. Raises as `core4_role_table.create`, and BadRequest for the password."""
        wanted, now = await self._with(wanted, password), self._accounts.clock()
        return await self._accounts.change(None, lambda c: table.create(c, name, wanted, now, by))

    async def change(
        self, key: str, etag: str, wanted: Wanted, password: str | None, *, by: Grantor | None
    ) -> Entry | None:
        """Change one; None: it says so already. Raises as `core4_role_table.change`."""
        wanted, now = await self._with(wanted, password), self._accounts.clock()
        ended = None
        if wanted.secret is not None or wanted.active is False:
            ended = (await self._accounts.read(partial(table.find, key=key))).name
        write = lambda c: table.change(c, key, etag, wanted, now, by=by)  # noqa: E731
        return await self._accounts.change(None, write, ended=ended)

    async def remove(self, key: str, etag: str, *, by: Grantor | None) -> None:
        """Remove one. Raises as `core4_role_table.remove`."""
        one = await self._accounts.read(partial(table.find, key=key))
        ended = one.name if one.account else None
        await self._accounts.change(None, lambda c: table.remove(c, key, etag, by), ended=ended)

    async def _with(self, wanted: Wanted, password: str | None) -> Wanted:
        return wanted if password is None else replace(wanted, secret=await self._accounts.hashed(password))
