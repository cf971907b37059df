"""The REST listener: the same methods and events over HTTP.

`GET|PUT|POST /<namespace>/<name>` carries the arguments as a JSON body and answers `{"args": ...}` (spec sysadm §2.6),
with Basic or Bearer authentication. A request is a session that lives for one call, so it passes the same pipeline as
a WebSocket frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.scope import Scope
from sysadmd.auth.tokens import Tokens
from sysadmd.errors import (
    BadRequest,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    RpcError,
    Unauthorized,
)
from sysadmd.events.record import Draft
from sysadmd.events.subscription import SubscriptionSpec
from sysadmd.listen.door import Door, outcome
from sysadmd.listen.origin import from_browser
from sysadmd.listen.sse import EventStream, StreamOutlet
from sysadmd.listen.upgrade import UpgradeOutlet
from sysadmd.listen.waiting import WaitOutlet
from sysadmd.rpc.engine import CLOSE_GOING_AWAY, Engine
from sysadmd.rpc.session import Session
from sysadmd.schema import openapi
from sysadmd.wire.messages import Request
from sysadmd.wire.sse import SSE, parse_event_id
from sysadmd.wire.text import describe, parse
from sysadmd.wire.topics import SUBSCRIBABLE, canonical_topic

VERBS = ["GET", "PUT", "POST"]
ALLOW = {"Allow": ", ".join([*VERBS, "OPTIONS"])}
CHALLENGE = {"WWW-Authenticate": 'Basic realm="sysadmd", charset="UTF-8"'}
BROWSER_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sysadmd"'}
"""Asked for Basic, a browser would prompt, remember the password, and send it along with whatever any page asks for."""
CLIENT_CLOSED = 499
FORWARDED = frozenset({"forwarded", "x-forwarded-for", "via"})
"""Headers of proxies (RFC 7239, RFC 9110 §7.6.3)."""


class Facade(Protocol):
    """The paths and forms of another program's API, over our services."""

    def routes(self) -> Sequence[BaseRoute]:
        """Its routes, with their whole paths."""
        ...

    def paths(self, scope: Scope | None) -> Mapping[str, Any]:
        """The `paths` of OpenAPI that somebody with this scope may use; None: a stranger."""
        ...


class RestApi:
    """The HTTP surface. `metrics` renders the Prometheus text; `healthy` says whether the server works; `snapshot`
    tells where each live process stands. `origins` are the web pages, besides our own, that may call.
    """

    def __init__(
        self,
        engine: Engine,
        authenticator: Authenticator,
        tokens: Tokens,
        *,
        metrics: Callable[[], bytes],
        healthy: Callable[[], dict[str, Any]],
        snapshot: Callable[[], Sequence[Draft]],
        origins: Sequence[str] = (),
    ) -> None:
        self.door = Door(engine, authenticator, tokens, origins=origins)
        self._engine = engine
        self._metrics, self._healthy, self._snapshot = metrics, healthy, snapshot
        self._facades: list[Facade] = []

    def mount(self, *facades: Facade) -> None:
        """Serve these too, from the next `app` on."""
        self._facades += facades

    def app(self, *more: BaseRoute) -> Starlette:
        """The ASGI application; `more` are routes that come before its own."""
        app = Starlette(
            routes=[
                *more,
                *(route for facade in self._facades for route in facade.routes()),
                Route("/healthz", self._healthz),
                Route("/metrics", self._serve_metrics),
                Route("/openapi.json", self._openapi),
                Route("/api/v1/events", self._events),
                Route("/{namespace}/{path:path}", self._call, methods=[*VERBS, "DELETE", "PATCH", "HEAD", "OPTIONS"]),
            ],
            # Starlette types a handler by the base class of what it handles.
            exception_handlers={
                RpcError: _on_error,  # type: ignore[dict-item]
                HTTPException: _on_http_error,  # type: ignore[dict-item]
                ClientDisconnect: _on_disconnect,  # type: ignore[dict-item]
                Exception: _on_fault,
            },
        )
        app.router.redirect_slashes = False  # a redirect would lead to whatever host the request named
        return app

    def end_streams(self, reason: str) -> None:
        """End every event stream, upgraded connection and request that waits, with a reason (a server that stops)."""
        for session in list(self._engine.sessions):
            if isinstance(session.outlet, StreamOutlet | UpgradeOutlet | WaitOutlet):
                session.outlet.close(CLOSE_GOING_AWAY, reason)

    # Endpoints

    async def _call(self, http: HttpRequest) -> Response:
        if http.method == "OPTIONS":
            return Response(headers=ALLOW)
        if http.method not in VERBS:
            raise MethodNotAllowed(f"{http.method} is not offered; use GET, PUT or POST")
        self.door.refuse_foreign(http)
        session = self.door.open(http)
        try:
            await self.door.identify(http, session)
            return _json({"args": await outcome(http, session, await self._request(http, session))})
        finally:
            session.close()

    async def _events(self, http: HttpRequest) -> Response:
        self.door.refuse_foreign(http)
        self._engine.refuse_while_draining()
        outlet = StreamOutlet()
        session = self.door.open(http, outlet)
        try:
            await self.door.identify(http, session)
            spec = _subscription(http, _caller(session))
            wanted = spec.replay_last and "dispatcher" in spec.topics and not self._engine.events.resumes(spec)
            session.subscriptions.add_extended(spec, self._snapshot() if wanted else ())
        except BaseException:
            session.close()
            raise
        limits = self._engine.limits
        return EventStream(session, outlet, patience=limits.ping_interval + limits.ping_timeout)

    async def _healthz(self, http: HttpRequest) -> Response:
        state = self._healthy()
        return _json(state, 200 if state["healthy"] else 503)

    async def _serve_metrics(self, http: HttpRequest) -> Response:
        self.door.refuse_foreign(http)
        if not _is_loopback(http) or from_browser(http.headers.keys()):
            session = self.door.open(http)
            try:
                await self.door.identify(http, session)
                _caller(session)
            finally:
                session.close()
        return Response(self._metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, http: HttpRequest) -> Response:
        """The methods that the caller may call; without a log-in, those that are for everybody."""
        self.door.refuse_foreign(http)
        session = self.door.open(http)
        try:
            await self.door.identify(http, session)
            document = openapi.document(self._engine.registry.allowed(session.scope))
            for facade in self._facades:
                document["paths"] |= facade.paths(session.scope)
            return _json(document)
        finally:
            session.close()

    # Requests

    async def _request(self, http: HttpRequest, session: Session) -> Request:
        """The call that an HTTP request makes: the first path segment is the namespace, the last the name."""
        args: Any = dict(http.query_params)
        if body := await self.door.body(http, session):
            args = _decode_body(body, self._engine.limits.json_depth)
        name = http.path_params["path"].rpartition("/")[2]
        if not name:
            raise BadRequest("the path has no name; expected /<namespace>/<name>", path="name", rule="minLength")
        action = None
        if isinstance(args, dict) and isinstance(args.get("action"), str):
            action = args["action"]
            args = {key: value for key, value in args.items() if key != "action"}
        return Request(http.path_params["namespace"], name, action, "", args)


def _caller(session: Session) -> Scope:
    if session.scope is None:
        raise Unauthorized
    return session.scope


def _subscription(http: HttpRequest, scope: Scope) -> SubscriptionSpec:
    """What `/api/v1/events?topic=…&since=…&snapshot=1` asks for. Raises `BadRequest` and `Forbidden`."""
    if not scope.may_call("events/subscribe", "read"):
        raise Forbidden(f"{scope.account} may not call events/subscribe")
    names = [name for value in http.query_params.getlist("topic") for name in value.split(",") if name]
    topics = frozenset(canonical_topic(name) for name in names) or _visible(scope)
    for topic in sorted(topics):
        if not scope.may_see(topic):
            raise Forbidden(f"{scope.account} may not see {topic}")
    last = http.headers.get("last-event-id") or http.query_params.get("since")
    return SubscriptionSpec(
        topics=topics,
        dialect=SSE,
        scope=scope,
        extended=True,
        since=parse_event_id(last) if last else None,
        replay_last=http.query_params.get("snapshot") in {"1", "true"},
    )


def _visible(scope: Scope) -> frozenset[str]:
    """The topics of a subscription that names none: those that the caller may see, or all, to be refused."""
    return frozenset(topic for topic in SUBSCRIBABLE if scope.may_see(topic)) or SUBSCRIBABLE


def _decode_body(body: bytes, depth: int) -> Any:
    """The arguments: the body itself, or its `args` where it is an envelope."""
    args = parse(body, depth)
    if isinstance(args, dict) and "args" in args and args.keys() <= {"namespace", "name", "id", "args"}:
        return args["args"]
    return args


def _is_loopback(http: HttpRequest) -> bool:
    """Whether the client is on this machine; what a proxy here passes on says so, and is not."""
    if FORWARDED & set(http.headers.keys()):
        return False
    try:
        return http.client is not None and ip_address(http.client.host).is_loopback
    except ValueError:
        return False


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(msgspec.to_builtins(value), indent=4, ensure_ascii=False) + "\n"
    # A lone surrogate, from a file name say, becomes `?` instead of an error.
    return Response(text.encode("utf-8", "replace"), status, media_type="application/json", headers=headers)


async def _on_error(http: HttpRequest, error: RpcError) -> Response:
    challenge = BROWSER_CHALLENGE if from_browser(http.headers.keys()) else CHALLENGE
    headers = {401: challenge, 405: ALLOW}.get(error.code)
    return _json({"args": {"code": error.code, "message": describe(error)}}, error.code, headers)


async def _on_http_error(http: HttpRequest, error: HTTPException) -> Response:
    """What Starlette itself refuses: a path or a verb without a route."""
    return _json({"args": {"code": error.status_code, "message": error.detail}}, error.status_code, error.headers)


async def _on_disconnect(http: HttpRequest, error: ClientDisconnect) -> Response:
    return Response(status_code=CLIENT_CLOSED)


async def _on_fault(http: HttpRequest, error: Exception) -> Response:
    """A fault of ours: Starlette raises it again for the log, the client is told no details."""
    return await _on_error(http, InternalError())
