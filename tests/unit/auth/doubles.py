"""Stand-ins for what auth stands on: a clock that is set, a log that commits at once, and cheap hashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from sysadmd.auth import account_table
from sysadmd.auth.accounts import Accounts
from sysadmd.auth.api_tokens import ApiTokens
from sysadmd.auth.password import Cost, Passwords
from sysadmd.auth.throttle import Throttle
from sysadmd.auth.tokens import Tokens
from sysadmd.errors import Unavailable
from sysadmd.limits import Limits
from sysadmd.store import Store

T = TypeVar("T")

CHEAP = Cost(passes=1, memory=8, lanes=1)


class Clock:
    """Unix seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class DirectLog:
    """Commits in the call, and says so in the next turn of the loop, as the log does.

    `full` refuses, `error` fails the write, `writes` counts.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.full = False
        self.error: Exception | None = None
        self.writes = 0

    def submit(self, write: Callable[[Connection], tuple[T, Sequence[Any]]]) -> asyncio.Future[T]:
        if self.full:
            raise Unavailable("too many changes wait for the disk")
        self.writes += 1
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        try:
            if self.error is not None:
                raise self.error
            loop.call_soon(future.set_result, self.store.write_now(write)[0])
        except Exception as error:  # noqa: BLE001  # the log hands over whatever the write raised
            loop.call_soon(future.set_exception, error)
        return future


class Auth:
    """Accounts and tokens on a database in `directory`; making it again is a restart of the server."""

    def __init__(self, directory: Path, limits: Limits | None = None, cost: Cost = CHEAP) -> None:
        self.limits = limits or Limits()
        self.clock, self.directory = Clock(), directory
        self.passwords = Passwords(cost, self.limits.password_bytes)
        self._open()

    def _open(self) -> None:
        self.store = Store.open(self.directory / "sysadmd.db")
        self.log = DirectLog(self.store)
        self.accounts = Accounts(self.store, self.log, limits=self.limits, passwords=self.passwords, clock=self.clock)
        self.policy = self.accounts.policy
        self.tokens = Tokens(self.store, self.log, self.policy, limits=self.limits, clock=self.clock)
        self.throttle = Throttle(self.store, self.log, limits=self.limits, clock=self.clock)
        self.api_tokens = ApiTokens(self.log, self.policy, self.tokens, clock=self.clock)

    def alter(self, account: str, statement: str, *, revoked: bool = False) -> None:
        """Change the rows of an account, and take the policy that they leave."""
        self.store.write_now(lambda connection: connection.exec_driver_sql(statement, (account,)))
        self.policy.replace(self.store.read_now(account_table.policy_rows), account, revoked=revoked)

    def restart(self) -> None:
        self.store.close()
        self._open()

    def rows(self, table: str) -> list[dict[str, Any]]:
        def read(connection: Connection) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.exec_driver_sql(f"select * from {table}").mappings()]

        return self.store.read_now(read)
