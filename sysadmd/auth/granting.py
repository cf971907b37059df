"""Nobody grants more than they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sysadmd.auth.scope import Scope
from sysadmd.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Grantor:
    """Who changes accounts and roles. `access` maps the keys of methods to their access classes (`Scope.covers`).

    Taking away, setting a password and removing need the same as giving: else whoever may administer a little could
    lock out, or become, who may do more.
    """

    scope: Scope
    access: Mapping[str, str] = field(default_factory=dict)

    def check(self, patterns: Iterable[str], what: str) -> None:
        """Raise Forbidden, naming the first of `patterns` that the caller does not hold. `what` has them."""
        missing = self.scope.covers(patterns, self.access)
        if missing is not None:
            raise Forbidden(f"{what} has {missing}, which {self.scope.account} does not hold", rule="held")
