"""All paths of the facade below `/core4/api`, and what answers them."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from sysadmd.errors import MethodNotAllowed, NotFound, RpcError
from sysadmd.listen.core4 import history, login, names, roles
from sysadmd.listen.core4.envelope import failure, new_id
from sysadmd.listen.core4.exchange import Endpoint, Parts, Resource
from sysadmd.listen.core4.socket import EventSocket
from sysadmd.listen.door import Door

VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

LOGIN = {"GET": Endpoint(None, login.login), "POST": Endpoint(None, login.login), "PUT": Endpoint(None, login.reset)}
LOGOUT = {"GET": Endpoint(None, login.logout), "POST": Endpoint(None, login.logout)}
PATHS: Mapping[str, Mapping[str, Endpoint]] = {
    "/login": LOGIN,
    "/v1/login": LOGIN,
    "/logout": LOGOUT,
    "/v1/logout": LOGOUT,
    "/v1/profile": {
        "GET": Endpoint(names.PROFILE, roles.profile),
        "PUT": Endpoint(names.PROFILE, roles.update_profile, changes=True),
    },
    "/v1/roles": {
        "GET": Endpoint(names.ROLES, roles.listing),
        "POST": Endpoint(names.ROLES, roles.create, changes=True),
    },
    "/v1/roles/distinct": {"GET": Endpoint(names.ROLES, roles.distinct)},
    "/v1/roles/{key}": {
        "GET": Endpoint(names.ROLES, roles.detail),
        "PUT": Endpoint(names.ROLES, roles.update, changes=True),
        "DELETE": Endpoint(names.ROLES, roles.remove, changes=True),
    },
    "/v1/roles/{key}/{etag}": {"DELETE": Endpoint(names.ROLES, roles.remove, changes=True)},
    "/v1/event/history": {
        "GET": Endpoint(names.EVENT_HISTORY, history.events),
        "POST": Endpoint(names.EVENT_HISTORY, history.events),
    },
    "/v1/jobs/history": {
        "GET": Endpoint(names.JOB_HISTORY, history.jobs),
        "POST": Endpoint(names.JOB_HISTORY, history.jobs),
    },
}
"""The first path that matches is it: fixed ones come before those with parts."""


def build(door: Door, parts: Parts, socket: EventSocket) -> Starlette:
    """The ASGI application."""
    routes: list[BaseRoute] = [
        Route(path, Resource(door, parts, verbs).serve, methods=VERBS) for path, verbs in PATHS.items()
    ]

    async def refuse(http: HttpRequest, error: Exception) -> Response:
        """What has no path here."""
        known: RpcError = NotFound(f"there is no {http.url.path[:128]}")
        if isinstance(error, HTTPException) and error.status_code == MethodNotAllowed.code:
            known = MethodNotAllowed()
        now = door.engine.events.now()
        return failure(new_id(now), now, known)

    app = Starlette(
        routes=[*routes, WebSocketRoute("/v1/event", socket.serve)], exception_handlers={HTTPException: refuse}
    )
    app.router.redirect_slashes = False  # a redirect would lead to whatever host the request named
    return app
