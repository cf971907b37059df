"""All paths of the facade below `/core4/api`, and what answers them."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from sysadmd.errors import MethodNotAllowed, NotFound, RpcError
from sysadmd.listen.core4 import history, jobs, login, names, roles
from sysadmd.listen.core4.envelope import failure, new_id
from sysadmd.listen.core4.exchange import Endpoint, Parts, Resource
from sysadmd.listen.core4.socket import EventSocket
from sysadmd.listen.core4.system import system
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
    "/v1/queue/history": {
        "GET": Endpoint(names.QUEUE_HISTORY, history.queue),
        "POST": Endpoint(names.QUEUE_HISTORY, history.queue),
    },
    "/v1/system": {"GET": Endpoint(names.SYSTEM, system)},
    "/v1/job": {
        "GET": Endpoint(names.JOB, jobs.listing),
        "POST": Endpoint(names.JOB, jobs.enqueue, access="run", changes=True),
    },
    "/v1/job/queue": {"POST": Endpoint(names.JOB, jobs.listing)},
    "/v1/job/list": {"GET": Endpoint(names.JOB, jobs.names)},
    "/v1/job/detail/{id}": {"GET": Endpoint(names.JOB, jobs.detail)},
    "/v1/job/follow/{id}": {"GET": Endpoint(names.JOB, jobs.followed)},
    "/v1/job/log/{id}": {"GET": Endpoint(names.JOB, jobs.log)},
    "/v1/job/kill/{id}": {"PUT": Endpoint(names.JOB, jobs.kill, access="run", changes=True)},
    "/v1/job/remove/{id}": {"PUT": Endpoint(names.JOB, jobs.remove, access="run", changes=True)},
    "/v1/job/restart/{id}": {"PUT": Endpoint(names.JOB, jobs.restart, access="run", changes=True)},
    "/v1/job/{id}": {"GET": Endpoint(names.JOB, jobs.detail)},
    "/v1/enqueue": {"POST": Endpoint(names.JOB_POST, jobs.enqueue_named, access="run", changes=True)},
    "/v1/jobs/enqueue": {"POST": Endpoint(names.JOB_POST, jobs.enqueue_named, access="run", changes=True)},
    "/v1/jobs/list": {"GET": Endpoint(names.JOBS, jobs.names)},
    "/v1/jobs": {"GET": Endpoint(names.JOBS, jobs.readable), "POST": Endpoint(names.JOBS, jobs.readable)},
    "/v1/jobs/delete/{id}": {"PUT": Endpoint(names.JOBS, jobs.remove, access="run", changes=True)},
    "/v1/jobs/kill/{id}": {"PUT": Endpoint(names.JOBS, jobs.kill, access="run", changes=True)},
    "/v1/jobs/restart/{id}": {"PUT": Endpoint(names.JOBS, jobs.restart_named, access="run", changes=True)},
    "/v1/jobs/{id}": {
        "GET": Endpoint(names.JOBS, jobs.detail),
        "DELETE": Endpoint(names.JOBS, jobs.remove, access="run", changes=True),
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
