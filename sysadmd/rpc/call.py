"""One call: what a handler is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sysadmd.auth.scope import Scope

if TYPE_CHECKING:
    from sysadmd.rpc.auditing import Noted
    from sysadmd.rpc.session import Session
    from sysadmd.wire.messages import Dialect

Handler = Callable[["Call", Any], Any]
"""`handler(call, services)`: a plain function for what never waits (it runs at once), a coroutine function for the
rest.

`services` is what the composition root put together (`sysadmd.api.services.Services`); rpc passes it through unseen.
"""

H = TypeVar("H", bound=Handler)


class Call(msgspec.Struct, frozen=True, gc=False):
    """The validated arguments of one call and who makes it, in which dialect, on which session.

    `scope` is None only for methods of the access class `public`.
    """

    args: Any
    scope: Scope | None
    session: Session
    dialect: Dialect
    noted: Noted | None = None
    """The record of a call that changes something."""

    @property
    def caller(self) -> Scope:
        """The scope of a caller who is logged in; every method that is not public has one."""
        if self.scope is None:
            raise AssertionError("a method that is not public ran without a scope")
        return self.scope


def method(key: str) -> Callable[[H], H]:
    """Mark a handler: `@method("rpc/dispatcher/run")`. The key is the path of its schema file below schemas/methods."""

    def mark(handler: H) -> H:
        handler.__method__ = key  # type: ignore[attr-defined]
        return handler

    return mark
