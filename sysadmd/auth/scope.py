"""Who is calling and what they may do: one immutable object for each session.

A scope is compiled once from the patterns of the account's roles and asked many thousand times a second: for each call,
and for each event on each subscription. What may be asked about is a small set (the registry's methods, the topics,
the lanes), so each answer is computed once and kept; the second one is a dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Final, TypeVar

from sysadmd.auth.pattern import Grants, compiled, includes, rights

K = TypeVar("K", bound=Hashable)

MAX_MEMO = 4096
"""Answers kept by one scope. Job names come from users; above this they are computed each time."""


class Scope:
    """An account's permissions at one version of the policy.

    `account` and `roles` are names; `patterns` is what was compiled; `version` is that of the policy it was made from.
    `bound` are patterns too, of a token that is confined: what they do not grant as well is refused. None: no bound.
    Two scopes are equal when they permit the same, whoever holds them: followers of the log with equal scopes share the
    decision about each record. To ask whether two are the same account's, compare `account`.
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_confined",
        "_grants",
        "_jobs",
        "_topics",
        "account",
        "bound",
        "patterns",
        "roles",
        "version",
    )

    account: Final[str]
    roles: Final[tuple[str, ...]]
    patterns: Final[frozenset[str]]
    bound: Final[frozenset[str] | None]
    version: Final[int]

    def __init__(
        self,
        account: str,
        roles: Iterable[str],
        patterns: Iterable[str],
        version: int = 0,
        *,
        bound: Iterable[str] | None = None,
    ) -> None:
        self.account = account
        self.roles = tuple(sorted(set(roles)))
        self.patterns = frozenset(patterns)
        self.version = version
        self.bound = None if bound is None else frozenset(bound)
        self._grants: Final[Grants] = compiled(self.patterns)
        self._confined: Final[Grants | None] = None if self.bound is None else compiled(self.bound)
        self._calls: Final[dict[tuple[str, str], bool]] = {}
        self._topics: Final[dict[str, bool]] = {}
        self._jobs: Final[dict[tuple[str, str], bool]] = {}

    def may_call(self, key: str, access: str) -> bool:
        """Whether the method `key` (`rpc/dispatcher/run`) of the access class `access` may be called."""
        try:
            return self._calls[key, access]
        except KeyError:
            allowed = self._grants.call(key, access) and (self._confined is None or self._confined.call(key, access))
            return _kept(self._calls, (key, access), allowed)

    def may_see(self, topic: str) -> bool:
        """Whether events of `topic`, in either spelling, may be seen."""
        try:
            return self._topics[topic]
        except KeyError:
            name = topic.replace("-", "_")
            allowed = self._grants.topic(name) and (self._confined is None or self._confined.topic(name))
            return _kept(self._topics, topic, allowed)

    def may_job(self, name: str, right: str = "read") -> bool:
        """Whether jobs called `name` (`dispatcher.pkg_queue`) may be read or run."""
        try:
            return self._jobs[name, right]
        except KeyError:
            allowed = self._grants.job(name, right) and (self._confined is None or self._confined.job(name, right))
            return _kept(self._jobs, (name, right), allowed)

    @property
    def administers(self) -> bool:
        """Whether everything of the access class `admin` may be called, so that others' keys and tokens are theirs."""
        return self.covers(("call:@admin",)) is None

    def bounded(self, patterns: Iterable[str]) -> Scope:
        """The same account, confined to what `patterns` grant as well. Raises BadRequest for one that is none."""
        if self.bound is not None:
            raise AssertionError("a scope is confined once, when its token is made")
        return Scope(self.account, self.roles, self.patterns, self.version, bound=patterns)

    def covers(self, patterns: Iterable[str], access: Mapping[str, str] | None = None) -> str | None:
        """The first of `patterns` that grants something which this scope does not hold itself; None: there is none.

        It errs on the strict side: one pattern has to be included in one that is held (pattern.includes). `access` maps
        the keys of methods to their access classes, so that a class covers the methods that are in it.
        """
        for wanted in sorted(one for pattern in patterns for one in rights(pattern)):
            held = any(includes(one, wanted, access) for one in self.patterns)
            if not held or not (self.bound is None or any(includes(one, wanted, access) for one in self.bound)):
                return wanted
        return None

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Scope) and self.patterns == other.patterns and self.bound == other.bound
        )

    def __hash__(self) -> int:
        return hash((self.patterns, self.bound))

    def __repr__(self) -> str:
        return f"<Scope {self.account} {','.join(self.roles)} v{self.version}>"


def _kept(memo: dict[K, bool], key: K, answer: bool) -> bool:  # noqa: FBT001
    if len(memo) < MAX_MEMO:
        memo[key] = answer
    return answer
