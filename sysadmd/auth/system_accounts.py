"""The machine's own accounts: PAM says whether a password is good, the groups say which roles it has.

Who asks PAM is injected (`SystemCheck`); the server cannot, and need not, be root. What is decided here:

- A name is somebody's once. One that has a local account is checked against that alone, even if it is disabled or has
  no password; every other name is asked of the machine.
- Roles come from groups, by the configuration, anew at each log-in. Whoever is in none of them is refused, and loses
  what an earlier log-in left: roles and tokens.
- Who logs in with a key is asked no password, and has the groups of that moment all the same.
- uid 0 is refused unless the configuration says otherwise. Its password opens everything else of the machine too, and
  the network is no place for it.

After a first log-in the account has a row without a password, so that tokens have something to belong to.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import Connection, delete, insert, select

from sysadmd.auth import account_table
from sysadmd.auth.accounts import REFUSED, Accounts
from sysadmd.auth.password import check_name, check_password
from sysadmd.auth.peer import ADMIN
from sysadmd.auth.scope import Scope
from sysadmd.auth.writing import Writer
from sysadmd.config import Pam
from sysadmd.errors import BadRequest, Unauthorized, Unavailable
from sysadmd.store.tables import account, account_role, role, token

log = structlog.get_logger(__name__)

REFUSAL_TIME = 1.0
"""Seconds from the beginning of a refused log-in to its answer, at the least. A local account is refused after a hash,
any other name after PAM has looked; without this the clock would tell which names are local."""
LOOK_UP_TIME = 5.0
"""Seconds for the machine to name a user's groups: it may have to ask a directory elsewhere."""
LOOK_UPS = 4
"""Of those that are asked at once; one that hangs keeps a thread."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the machine says of a user with the right password."""

    uid: int
    groups: frozenset[str]


class SystemCheck(Protocol):
    """Whoever can ask PAM (dispatcher.Dispatcher, through the executor)."""

    @property
    def checks_passwords(self) -> bool:
        """Whether it can be asked now."""
        ...

    async def check_password(self, name: str, password: str) -> Verdict | None:
        """What PAM says; None: no. Raises Unavailable and TooManyRequests."""
        ...


class SystemAccounts:
    """Log-ins with a password where the machine's accounts count too."""

    def __init__(
        self,
        accounts: Accounts,
        writer: Writer,
        check: SystemCheck,
        config: Pam,
        *,
        clock: Callable[[], float] = time.time,
        look_up: Callable[[str], Verdict | None] | None = None,
    ) -> None:
        self._accounts, self._policy = accounts, accounts.policy
        self._writer, self._check, self._config, self._clock = writer, check, config, clock
        self._look_up = look_up or user_of
        self._limiter: anyio.CapacityLimiter | None = None

    def reconfigure(self, config: Pam) -> None:
        """Take another configuration; who is logged in keeps what the old one gave until the next log-in."""
        self._config = config

    @property
    def enabled(self) -> bool:
        """Whether the machine's accounts may log in: said by the configuration, or found out (`auto`)."""
        return self._config.enabled is True or (self._config.enabled == "auto" and self._check.checks_passwords)

    def is_local(self, name: str) -> bool:
        """Whether this name is for the local accounts to judge."""
        return self._policy.is_local(name)

    async def authenticate(self, name: str, password: str) -> Scope:
        """The scope of the account, local or the machine's. Raises Unauthorized and TooManyRequests."""
        begun = anyio.current_time()
        try:
            if self.is_local(name):
                return await self._accounts.authenticate(name, password)
            return await self._ask(name, password)
        except Unauthorized:
            await anyio.sleep_until(begun + REFUSAL_TIME)
            raise

    async def renewed(self, name: str) -> Scope | None:
        """The scope of an account that proved itself by a key; None: it may not log in."""
        if self.is_local(name):
            return self._policy.scope(name)
        if self._config.enabled is False:
            return None
        self._limiter = self._limiter or anyio.CapacityLimiter(LOOK_UPS)
        verdict = None
        with anyio.move_on_after(LOOK_UP_TIME):
            verdict = await anyio.to_thread.run_sync(self._look_up, name, abandon_on_cancel=True, limiter=self._limiter)
        if verdict is None:
            # What it has stays: a directory that cannot be reached knows nobody either.
            log.warning("the machine does not know an account now", account=name)
            return None
        try:
            roles = await self._keep(name, self._roles(verdict))
        except Unauthorized:
            return None
        return self._policy.scope(name) if roles else None

    async def _ask(self, name: str, password: str) -> Scope:
        try:
            check_name(name)
            check_password(password)
            verdict = await self._check.check_password(name, password)
        except BadRequest:
            raise Unauthorized(REFUSED) from None
        except Unavailable as error:
            # The same answer as to a wrong password, or a stranger learns of what state the machine is in.
            log.warning("an account of the machine was not checked", reason=error.message)
            raise Unauthorized(REFUSED) from None
        if verdict is None:
            raise Unauthorized(REFUSED)
        roles = await self._keep(name, self._roles(verdict))
        scope = self._policy.scope(name)
        if not roles or scope is None:
            log.info("an account of the machine has no role here", uid=verdict.uid)
            raise Unauthorized(REFUSED)
        return scope

    def _roles(self, verdict: Verdict) -> tuple[str, ...]:
        """The roles that the groups give; root's are not a matter of groups."""
        if verdict.uid == 0:
            return (ADMIN,) if self._config.allow_root else ()
        return tuple(sorted({given for group, given in self._config.groups.items() if group in verdict.groups}))

    async def _keep(self, name: str, roles: Sequence[str]) -> Sequence[str]:
        """Store who it is now, if that is news; the roles that it has. Raises Unauthorized when the name is local."""

        def commit(connection: Connection) -> tuple[tuple[Sequence[str], bool, account_table.PolicyRows], tuple[()]]:
            given, changed = _store(connection, name, roles, now)
            return (given, changed, account_table.policy_rows(connection)), ()

        def committed(future: asyncio.Future[tuple[Sequence[str], bool, account_table.PolicyRows]]) -> None:
            if not future.cancelled() and future.exception() is None:
                given, changed, rows = future.result()
                if changed:
                    self._policy.replace(rows, name, revoked=not given)

        now = self._clock()
        future = self._writer.submit(commit)
        future.add_done_callback(committed)
        return (await asyncio.shield(future))[0]


def user_of(name: str) -> Verdict | None:
    """Who this is and in which groups, as the machine has it now; None: nobody."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    names = set()
    for number in os.getgrouplist(name, entry.pw_gid):
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue  # a group without a name maps to nothing
    return Verdict(entry.pw_uid, frozenset(names))


def _store(connection: Connection, name: str, roles: Sequence[str], now: float) -> tuple[Sequence[str], bool]:
    """Make the row and its roles what they should be: the roles that exist, and whether anything was changed."""
    known = set(connection.scalars(select(role.c.name).where(role.c.name.in_(roles))))
    if missing := sorted(set(roles) - known):
        log.warning("a group is mapped to a role that does not exist", roles=missing)
    given = sorted(known)
    row = connection.execute(select(account.c.source, account.c.disabled).where(account.c.name == name)).one_or_none()
    if row is not None and (row.source != "system" or row.disabled):
        raise Unauthorized(REFUSED)  # it became a local account meanwhile, or was shut out here
    held = sorted(connection.scalars(select(account_role.c.role).where(account_role.c.account == name)))
    if held == given and (row is not None or not given):
        return given, False
    if row is None:
        values = {"name": name, "source": "system", "disabled": False, "created_at": now, "changed_at": now}
        connection.execute(insert(account).values(values))
    connection.execute(delete(account_role).where(account_role.c.account == name))
    if given:
        connection.execute(insert(account_role), [{"account": name, "role": one} for one in given])
    else:
        connection.execute(delete(token).where(token.c.account == name))
    return given, True
