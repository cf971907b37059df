"""Where the facade hangs in the HTTP surface. Its other modules are imported by the first request that wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from sysadmd.auth.scope import Scope as Permissions
from sysadmd.listen.door import Door
from sysadmd.listen.websocket import WebSocketListener

if TYPE_CHECKING:
    from sysadmd.listen.core4.exchange import Parts


class Core4:
    """core4's API below `/core4/api`. `rules` has the origins that may open a socket, and the places for strangers."""

    def __init__(self, door: Door, parts: Parts, rules: WebSocketListener) -> None:
        self._door, self._parts, self._rules = door, parts, rules
        self._app: ASGIApp | None = None

    def routes(self) -> Sequence[BaseRoute]:
        """One, for all of it."""
        return [Mount("/core4/api", self._serve)]

    def paths(self, scope: Permissions | None) -> Mapping[str, Any]:
        """Those that a scope may call."""
        from sysadmd.listen.core4.app import PATHS
        from sysadmd.listen.core4.openapi import paths

        return paths(scope, PATHS)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        from sysadmd.listen.core4.arguments import take_query

        take_query(scope)
        if self._app is None:
            self._app = self._build()
        await self._app(scope, receive, send)

    def _build(self) -> ASGIApp:
        from sysadmd.listen.core4.app import build
        from sysadmd.listen.core4.socket import EventSocket

        return build(self._door, self._parts, EventSocket(self._door, self._rules, self._parts.queue.summary))
