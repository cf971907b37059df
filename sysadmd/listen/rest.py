"""The REST listener: the same methods and events over HTTP.

`GET|PUT|POST /<namespace>/<name>` carries the arguments as a JSON body and answers `{"args": ...}` (spec sysadm §2.6),
with Basic or Bearer authentication. A request is a session that lives for one call, so it passes the same pipeline as
a WebSocket frame.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sysadmd.auth.accounts import Accounts
from sysadmd.auth.scope import Scope
from sysadmd.auth.tokens import Tokens
from sysadmd.errors import BadRequest, Forbidden, MethodNotAllowed, PayloadTooLarge, RpcError, Unauthorized
from sysadmd.events.subscription import Framing, SubscriptionSpec
from sysadmd.listen.sse import StreamSink, stream, unframed
from sysadmd.rpc.engine import Engine
from sysadmd.rpc.session import Peer
from sysadmd.schema import openapi
from sysadmd.wire.messages import Request
from sysadmd.wire.sse import SSE, parse_event_id
from sysadmd.wire.sysadm import SYSADM
from sysadmd.wire.text import describe, parse
from sysadmd.wire.topics import SUBSCRIBABLE, canonical_topic

SECRET_PARAMETERS = frozenset({"token", "password", "passwd", "secret", "access_token"})
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
VERBS = ["GET", "PUT", "POST"]


class DiscardOutlet:
    """The outlet of a session that lives for one HTTP request: its result is returned, not written."""

    framing: Framing = staticmethod(unframed)

    def writable(self) -> bool:
        """Events are dropped: nothing subscribes over REST (spec sysadm §2.6)."""
        return True

    def write(self, data: bytes) -> None:
        """Drop."""

    def send(self, payload: bytes) -> None:
        """Drop."""

    def limit_frames(self, size: int) -> None:
        """Nothing to do: the body's limit is fixed."""

    def close(self, code: int, reason: str) -> None:
        """Nothing to close."""

    def overflow_close(self, reason: str) -> None:
        """Nothing to close."""


class RestApi:
    """The HTTP surface. `metrics` renders the Prometheus text; `healthy` says whether the server works."""

    def __init__(
        self,
        engine: Engine,
        accounts: Accounts,
        tokens: Tokens,
        metrics: Callable[[], bytes],
        healthy: Callable[[], dict[str, Any]],
    ) -> None:
        self._engine, self._accounts, self._tokens = engine, accounts, tokens
        self._metrics, self._healthy = metrics, healthy
        self.streams: set[StreamSink] = set()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/metrics", self._serve_metrics),
                Route("/openapi.json", self._openapi),
                Route("/api/v1/events", self._events),
                Route("/{namespace}/{path:path}", self._call, methods=[*VERBS, "DELETE", "PATCH", "HEAD", "OPTIONS"]),
            ],
            # Starlette types a handler by the base class of what it handles.
            exception_handlers={RpcError: _on_error},  # type: ignore[dict-item]
        )

    def end_streams(self, reason: str) -> None:
        """End every event stream, with a reason (a server that stops)."""
        for sink in list(self.streams):
            sink.overflow_close(reason)

    # Endpoints

    async def _call(self, http: HttpRequest) -> Response:
        if http.method == "OPTIONS":
            return Response(headers={"Allow": ", ".join([*VERBS, "OPTIONS"]), **HEADERS})
        if http.method not in VERBS:
            raise MethodNotAllowed(f"{http.method} is not offered; use GET, PUT or POST")
        request = await self._request(http)
        session = self._engine.open(DiscardOutlet(), _peer(http))
        try:
            session.scope = await self._identify(http)
            result = await session.perform(request, SYSADM)
        finally:
            session.close()
        return _json({"args": result})

    async def _events(self, http: HttpRequest) -> Response:
        scope = await self._required(http)
        _refuse_secrets(http)
        names = [name for value in http.query_params.getlist("topic") for name in value.split(",") if name]
        topics = frozenset(canonical_topic(name) for name in names) or SUBSCRIBABLE
        last = http.headers.get("last-event-id") or http.query_params.get("since")
        spec = SubscriptionSpec(
            topics=topics,
            dialect=SSE,
            scope=scope,
            extended=True,
            since=parse_event_id(last) if last else None,
            replay_last=not last and http.query_params.get("snapshot") in {"1", "true"},
        )
        body = stream(self._engine.events, spec, self.streams)
        return StreamingResponse(body, media_type="text/event-stream", headers={**HEADERS, "X-Accel-Buffering": "no"})

    async def _healthz(self, http: HttpRequest) -> Response:
        state = self._healthy()
        return _json(state, 200 if state["healthy"] else 503)

    async def _serve_metrics(self, http: HttpRequest) -> Response:
        if http.client is None or http.client.host not in {"127.0.0.1", "::1"}:
            await self._required(http)
        return Response(self._metrics(), media_type="text/plain; version=0.0.4; charset=utf-8", headers=HEADERS)

    async def _openapi(self, http: HttpRequest) -> Response:
        return _json(openapi.document(list(self._engine.registry.methods.values())))

    # Requests

    async def _request(self, http: HttpRequest) -> Request:
        """The call that an HTTP request makes: the first path segment is the namespace, the last the name."""
        _refuse_secrets(http)
        args: Any = dict(http.query_params)
        if body := await _body(http, self._engine.limits.frame_authenticated):
            args = _decode_body(body, self._engine.limits.json_depth)
        path = http.path_params["path"].split("/")
        action = None
        if isinstance(args, dict) and isinstance(args.get("action"), str):
            action = args["action"]
            args = {key: value for key, value in args.items() if key != "action"}
        return Request(http.path_params["namespace"], path[-1], action, "", args)

    async def _required(self, http: HttpRequest) -> Scope:
        scope = await self._identify(http)
        if scope is None:
            raise Unauthorized
        return scope

    async def _identify(self, http: HttpRequest) -> Scope | None:
        """The scope of the Authorization header (RFC 7617 Basic, RFC 6750 Bearer); None without one."""
        header = http.headers.get("authorization")
        if header is None:
            return None
        scheme, _, credentials = header.partition(" ")
        if scheme.lower() == "bearer":
            scope = self._tokens.resolve(credentials.strip())
            if scope is None:
                raise Unauthorized
            return scope
        if scheme.lower() == "basic":
            name, password = _basic(credentials)
            return await self._accounts.authenticate(name, password)
        raise Unauthorized(f"the scheme {scheme[:20]!r} is not offered; use Basic or Bearer")


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


async def _body(http: HttpRequest, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in http.stream():
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge(f"the body is longer than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks).strip()


def _refuse_secrets(http: HttpRequest) -> None:
    if SECRET_PARAMETERS & {name.lower() for name in http.query_params}:
        raise Forbidden("secrets do not belong into a URL; use the Authorization header")


def _peer(http: HttpRequest) -> Peer:
    return Peer(http.client.host if http.client else "unknown", "rest")


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(msgspec.to_builtins(value), indent=4, ensure_ascii=False) + "\n"
    return Response(text, status, media_type="application/json", headers={**HEADERS, **(headers or {})})


async def _on_error(http: HttpRequest, error: RpcError) -> Response:
    headers = {"WWW-Authenticate": 'Basic realm="sysadmd", charset="UTF-8"'} if error.code == 401 else None
    return _json({"args": {"code": error.code, "message": describe(error)}}, error.code, headers)
