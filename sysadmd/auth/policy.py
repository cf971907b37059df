"""The policy in memory: which account has which permissions now, and who is told when that changes.

Tokens are resolved on the event loop, for each REST request, so the answer cannot wait for the database. The policy is
small, and this copy is replaced after each commit that changes it. `version` counts the replacements; a session keeps
the scope it has until the change reaches it through `on_change`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sysadmd.auth.account_table import PolicyRows
from sysadmd.auth.scope import Scope


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What changed: of one account, or of all (None). `revoked`: its tokens ended, and so do sessions that used one.

    `scope` is the account's new one; None when it may no longer log in.
    """

    version: int
    account: str | None
    scope: Scope | None
    revoked: bool


Listener = Callable[[PolicyChange], None]


class Policy:
    """The permissions of every account. Used on the event loop only."""

    def __init__(self, rows: PolicyRows) -> None:
        self.version = 1
        self._rows = rows
        self._scopes: dict[str, Scope] = {}
        self._listeners: list[Listener] = []

    def scope(self, account: str) -> Scope | None:
        """The scope of an account, the same object until the account changes; None: it may not log in."""
        scope = self._scopes.get(account)
        roles = self._rows.accounts.get(account)
        if scope is None and roles is not None:
            scope = self._scopes[account] = self.with_roles(account, roles)
        return scope

    def is_local(self, account: str) -> bool:
        """Whether there is a local account of that name, be it disabled."""
        return account in self._rows.local

    def with_roles(self, account: str, roles: Iterable[str]) -> Scope:
        """A scope of these roles under this name, whether or not there is such an account (callers known by uid)."""
        names = tuple(roles)
        patterns = (pattern for name in names for pattern in self._rows.roles.get(name, ()))
        return Scope(account, names, patterns, self.version)

    def on_change(self, listener: Listener) -> None:
        """Call `listener` on the event loop after each change, in the order of their commits."""
        self._listeners.append(listener)

    def replace(self, rows: PolicyRows, account: str | None, *, revoked: bool = False) -> None:
        """Take the rows that a commit left, and tell everybody. `account`: the only one that changed, None for any."""
        self._rows = rows
        self.version += 1
        if account is None:
            self._scopes.clear()
        else:
            self._scopes.pop(account, None)
        scope = None if account is None else self.scope(account)
        change = PolicyChange(self.version, account, scope, revoked)
        for listener in self._listeners:
            listener(change)
