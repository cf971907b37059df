"""The two pages of a bridge, on the port of its peers: whether it works, and its figures.

They are answered in the handshake of the WebSocket, of which a plain request never makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from sysadmd.listen.origin import from_browser

FORWARDED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})
"""Headers of what a reverse proxy passes on; such a request is not from this machine, whatever its address."""
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Pages:
    """`GET /healthz` for everybody, `GET /metrics` for this machine."""

    def __init__(self, *, health: Callable[[], dict[str, Any]], metrics: Callable[[], bytes]) -> None:
        self._health, self._metrics = health, metrics

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """The page, or None for everything else: peers may use any path."""
        if "Upgrade" in request.headers:
            return None
        path = request.path.partition("?")[0]
        if path == "/healthz":
            state = self._health()
            status = HTTPStatus.OK if state["healthy"] else HTTPStatus.SERVICE_UNAVAILABLE
            return _page(connection, status, msgspec.json.encode(state).decode(), "application/json")
        if path != "/metrics":
            return None
        if not _from_this_machine(connection, request):
            return _page(connection, HTTPStatus.FORBIDDEN, "the figures are for this machine alone\n")
        return _page(connection, HTTPStatus.OK, self._metrics().decode(), PROMETHEUS)


def _page(connection: ServerConnection, status: HTTPStatus, text: str, kind: str | None = None) -> Response:
    response = connection.respond(status, text)
    if kind is not None:
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = kind
    return response


def _from_this_machine(connection: ServerConnection, request: Request) -> bool:
    """Not through a proxy here, and not by a page in a browser here, which may be anybody's."""
    names = {name.lower() for name in request.headers}
    if FORWARDED & names or from_browser(names):
        return False
    address = connection.remote_address
    try:
        found = ip_address(str(address[0]).partition("%")[0])
    except (ValueError, TypeError, IndexError):
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
