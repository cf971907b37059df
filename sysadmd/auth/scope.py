"""Who is calling and what they may do: one immutable object for each session.

A scope is compiled once from the patterns of the account's roles and asked many thousand times a second: for each call,
and for each event on each subscription. What may be asked about is a small set (the registry's methods, the topics,
the lanes), so each answer is computed once and kept; the second one is a dictionary look-up.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import Final, TypeVar

from sysadmd.auth.pattern import Grants, compiled

K = TypeVar("K", bound=Hashable)

MAX_MEMO = 4096
"""Answers kept by one scope. Job names come from users; above this they are computed each time."""


class Scope:
    """An account's permissions at one version of the policy.

    `account` and `roles` are names; `patterns` is what was compiled; `version` is that of the policy it was made from.
    Two scopes are equal when they permit the same, whoever holds them: followers of the log with equal scopes share the
    decision about each record. To ask whether two are the same account's, compare `account`.
    """

    __slots__ = ("__weakref__", "_calls", "_grants", "_jobs", "_topics", "account", "patterns", "roles", "version")

    account: Final[str]
    roles: Final[tuple[str, ...]]
    patterns: Final[frozenset[str]]
    version: Final[int]

    def __init__(self, account: str, roles: Iterable[str], patterns: Iterable[str], version: int = 0) -> None:
        self.account = account
        self.roles = tuple(sorted(set(roles)))
        self.patterns = frozenset(patterns)
        self.version = version
        self._grants: Final[Grants] = compiled(self.patterns)
        self._calls: Final[dict[tuple[str, str], bool]] = {}
        self._topics: Final[dict[str, bool]] = {}
        self._jobs: Final[dict[tuple[str, str], bool]] = {}

    def may_call(self, key: str, access: str) -> bool:
        """Whether the method `key` (`rpc/dispatcher/run`) of the access class `access` may be called."""
        try:
            return self._calls[key, access]
        except KeyError:
            allowed = access in self._grants.access or _matches(self._grants.calls, key)
            return _kept(self._calls, (key, access), allowed)

    def may_see(self, topic: str) -> bool:
        """Whether events of `topic`, in either spelling, may be seen."""
        try:
            return self._topics[topic]
        except KeyError:
            return _kept(self._topics, topic, _matches(self._grants.topics, topic.replace("-", "_")))

    def may_job(self, name: str, right: str = "read") -> bool:
        """Whether jobs called `name` (`dispatcher.pkg_queue`) may be read or run."""
        try:
            return self._jobs[name, right]
        except KeyError:
            return _kept(self._jobs, (name, right), _matches(self._grants.jobs, f"{name}:{right}"))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Scope) and self.patterns == other.patterns)

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __repr__(self) -> str:
        return f"<Scope {self.account} {','.join(self.roles)} v{self.version}>"


def _matches(expression: re.Pattern[str] | None, text: str) -> bool:
    return expression is not None and expression.fullmatch(text) is not None


def _kept(memo: dict[K, bool], key: K, answer: bool) -> bool:  # noqa: FBT001
    if len(memo) < MAX_MEMO:
        memo[key] = answer
    return answer
