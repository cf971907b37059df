"""The REST listener: the same methods and events over HTTP.

`GET|PUT|POST /<namespace>/<name>` carries the arguments as a JSON body and answers `{"args": ...}` (spec sysadm §2.6),
with Basic or Bearer authentication. A request is a session that lives for one call, so it passes the same pipeline as
a WebSocket frame.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.identity import Peer
from sysadmd.auth.scope import Scope
from sysadmd.auth.tokens import Tokens
from sysadmd.errors import (
    BadRequest,
    DeadlineExceeded,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    PayloadTooLarge,
    RpcError,
    Unauthorized,
)
from sysadmd.events.record import Draft
from sysadmd.events.subscription import SubscriptionSpec
from sysadmd.listen.discard import DiscardOutlet
from sysadmd.listen.origin import FOREIGN_SITES, from_browser, origin_allowed
from sysadmd.listen.sse import EventStream, StreamOutlet
from sysadmd.listen.upgrade import UpgradeOutlet
from sysadmd.listen.websocket import SECRET_PARAMETERS
from sysadmd.rpc.engine import CLOSE_GOING_AWAY, Engine
from sysadmd.rpc.session import Session
from sysadmd.schema import openapi
from sysadmd.wire.messages import Request
from sysadmd.wire.sse import SSE, parse_event_id
from sysadmd.wire.sysadm import SYSADM
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
        self._engine, self._authenticator, self._tokens = engine, authenticator, tokens
        self._metrics, self._healthy, self._snapshot = metrics, healthy, snapshot
        self.origins = tuple(origins)

    def app(self, *more: BaseRoute) -> Starlette:
        """The ASGI application; `more` are routes that come before its own."""
        app = Starlette(
            routes=[
                *more,
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
        """End every event stream and every upgraded connection, with a reason (a server that stops)."""
        for session in list(self._engine.sessions):
            if isinstance(session.outlet, StreamOutlet | UpgradeOutlet):
                session.outlet.close(CLOSE_GOING_AWAY, reason)

    # Endpoints

    async def _call(self, http: HttpRequest) -> Response:
        if http.method == "OPTIONS":
            return Response(headers=ALLOW)
        if http.method not in VERBS:
            raise MethodNotAllowed(f"{http.method} is not offered; use GET, PUT or POST")
        self._refuse_foreign(http)
        session = self._engine.open(DiscardOutlet(), _peer(http))
        try:
            await self._identify(http, session)
            return _json({"args": await _outcome(http, session, await self._request(http, session))})
        finally:
            session.close()

    async def _events(self, http: HttpRequest) -> Response:
        self._refuse_foreign(http)
        self._engine.refuse_while_draining()
        outlet = StreamOutlet()
        session = self._engine.open(outlet, _peer(http))
        try:
            await self._identify(http, session)
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
        self._refuse_foreign(http)
        if not _is_loopback(http) or from_browser(http.headers.keys()):
            session = self._engine.open(DiscardOutlet(), _peer(http))
            try:
                await self._identify(http, session)
                _caller(session)
            finally:
                session.close()
        return Response(self._metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, http: HttpRequest) -> Response:
        """The methods that the caller may call; without a log-in, those that are for everybody."""
        self._refuse_foreign(http)
        session = self._engine.open(DiscardOutlet(), _peer(http))
        try:
            await self._identify(http, session)
            return _json(openapi.document(self._engine.registry.allowed(session.scope)))
        finally:
            session.close()

    # Requests

    def _refuse_foreign(self, http: HttpRequest) -> None:
        """Refuse what another site's page sends by its visitor's browser, and secrets in the URL."""
        headers = http.headers
        origins = headers.getlist("origin")
        if origins and not origin_allowed(origins, headers.getlist("host"), self.origins):
            raise Forbidden("this origin is not allowed; see the option `origins`")
        if not origins and headers.get("sec-fetch-site") in FOREIGN_SITES:
            raise Forbidden("links and images of other sites may not call")
        if SECRET_PARAMETERS & {name.lower() for name in http.query_params}:
            raise Forbidden("secrets do not belong into a URL; use the Authorization header")

    async def _request(self, http: HttpRequest, session: Session) -> Request:
        """The call that an HTTP request makes: the first path segment is the namespace, the last the name."""
        limits = self._engine.limits
        args: Any = dict(http.query_params)
        size = limits.frame_unauthenticated if session.scope is None else limits.frame_authenticated
        if body := await _body(http, size, limits.auth_timeout):
            args = _decode_body(body, limits.json_depth)
        name = http.path_params["path"].rpartition("/")[2]
        if not name:
            raise BadRequest("the path has no name; expected /<namespace>/<name>", path="name", rule="minLength")
        action = None
        if isinstance(args, dict) and isinstance(args.get("action"), str):
            action = args["action"]
            args = {key: value for key, value in args.items() if key != "action"}
        return Request(http.path_params["namespace"], name, action, "", args)

    async def _identify(self, http: HttpRequest, session: Session) -> None:
        """Log the session in by the Authorization header (RFC 7617 Basic, RFC 6750 Bearer), if there is one."""
        header = http.headers.get("authorization")
        if header is None:
            return
        scheme, _, credentials = header.partition(" ")
        if scheme.lower() == "bearer":
            token = credentials.strip()
            scope = await self._authenticator.token(token, session.peer, session=session.id, recorded=False)
            expires = self._engine.monotonic() + self._tokens.remaining(token)
            session.login(scope, token, expires, self._tokens.voucher(token), method="token")
        elif scheme.lower() == "basic":
            name, password = _basic(credentials)
            scope = await self._authenticator.password(name, password, session.peer, session=session.id)
            session.login(scope, None, None, method=self._authenticator.means(scope.account))
        else:
            raise Unauthorized(f"the scheme {scheme[:20]!r} is not offered; use Basic or Bearer")


async def _outcome(http: HttpRequest, session: Session, request: Request) -> Any:
    """The result of the call, which is withdrawn when its client goes away. Raises `RpcError`."""
    result: Any = None
    refused: RpcError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_close_with_client, http, session)
        try:
            result = await session.perform(request, SYSADM)
        except RpcError as error:
            refused = error  # raised below: out of a task group it would come as a group
        tasks.cancel_scope.cancel()
    if refused is not None:
        raise refused
    return result


async def _close_with_client(http: HttpRequest, session: Session) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
    session.close()


def _caller(session: Session) -> Scope:
    if session.scope is None:
        raise Unauthorized
    return session.scope


def _subscription(http: HttpRequest, scope: Scope) -> SubscriptionSpec:
    """What `/api/v1/events?topic=…&since=…&snapshot=1` asks for. Raises `BadRequest` and `Forbidden`."""
    if not scope.may_call("events/subscribe", "read"):
        raise Forbidden(f"{scope.account} may not call events/subscribe")
    names = [name for value in http.query_params.getlist("topic") for name in value.split(",") if name]
    topics = frozenset(canonical_topic(name) for name in names) or SUBSCRIBABLE
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


def _basic(credentials: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadRequest("Authorization: not base64 of <name>:<password>") from error
    name, colon, password = text.partition(":")
    if not colon:
        raise BadRequest("Authorization: not base64 of <name>:<password>")
    return name, password


def _decode_body(body: bytes, depth: int) -> Any:
    """The arguments: the body itself, or its `args` where it is an envelope."""
    args = parse(body, depth)
    if isinstance(args, dict) and "args" in args and args.keys() <= {"namespace", "name", "id", "args"}:
        return args["args"]
    return args


async def _body(http: HttpRequest, limit: int, timeout: float) -> bytes:
    chunks, size = [], 0
    with anyio.move_on_after(timeout):
        async for chunk in http.stream():
            size += len(chunk)
            if size > limit:
                raise PayloadTooLarge(f"the body is longer than {limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks).strip()
    raise DeadlineExceeded(f"the body did not come within {timeout:g} s")


def _is_loopback(http: HttpRequest) -> bool:
    """Whether the client is on this machine; what a proxy here passes on says so, and is not."""
    if FORWARDED & set(http.headers.keys()):
        return False
    try:
        return http.client is not None and ip_address(http.client.host).is_loopback
    except ValueError:
        return False


def _peer(http: HttpRequest) -> Peer:
    return Peer(http.client.host if http.client else "unknown", "rest")


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
