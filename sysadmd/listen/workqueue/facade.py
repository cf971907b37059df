"""Who calls, what is answered, and how errors read.

Anybody who is not known gets 403, as these clients expect; a job of somebody else is 404, like one that there is not.
Errors are `{"code", "message"}`, successes have no envelope. Lists come in pieces, so that a long one is never in
memory as a whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route

from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest, Cancelled, Forbidden, InternalError, RpcError, Unauthorized
from sysadmd.jobs.transfers.pdm import JobType, read
from sysadmd.jobs.workqueue.service import Workqueue
from sysadmd.listen.door import Door
from sysadmd.listen.waiting import WaitOutlet
from sysadmd.listen.workqueue import openapi
from sysadmd.listen.workqueue.endpoints import ENDPOINTS, Asked, Endpoint, Pages
from sysadmd.listen.workqueue.query import body as json_of
from sysadmd.rpc.auditing import Noted
from sysadmd.rpc.session import Session
from sysadmd.wire.messages import Request
from sysadmd.wire.text import describe, encode

PREFIX = "/workqueue/api/v1.0"
TOKEN_HEADERS = ("x-token", "token")
"""X-Token is the one of the original; both take any token of this server."""
JSON = "application/json"
ANONYMOUS = "nobody is logged in: send a token as X-Token, or an Authorization header with Basic or Bearer"


@dataclass(slots=True)
class _Visit:
    """One request on its way. `key` is the method that it is a call of; `noted` its record in the audit trail, once it
    is about to change something.
    """

    http: HttpRequest
    endpoint: Endpoint
    session: Session
    outlet: WaitOutlet
    key: str
    noted: Noted | None = None

    @property
    def request(self) -> Request:
        """The call, for the audit trail."""
        return Request("workqueue", self.key.rpartition("/")[2], None, "", None)


class WorkqueueApi:
    """The facade, to be mounted on the HTTP listener."""

    def __init__(self, door: Door, service: Workqueue) -> None:
        self._door, self._service, self._engine = door, service, door.engine

    def routes(self) -> Sequence[BaseRoute]:
        """One mount: what is wrong below it reads as these clients expect."""
        by_path: dict[str, dict[str, Endpoint]] = {}
        for endpoint in ENDPOINTS:
            by_path.setdefault(endpoint.path, {})[endpoint.verb] = endpoint
        app = Starlette(
            routes=[Route(path, self._serving(verbs), methods=list(verbs)) for path, verbs in by_path.items()],
            # Starlette types a handler by the base class of what it handles.
            exception_handlers={
                RpcError: _on_error,  # type: ignore[dict-item]
                HTTPException: _on_http_error,  # type: ignore[dict-item]
                ClientDisconnect: _on_disconnect,  # type: ignore[dict-item]
                Exception: _on_fault,
            },
        )
        app.router.redirect_slashes = False  # a redirect would lead to whatever host the request named
        return [Mount(PREFIX, app)]

    def paths(self, scope: Scope | None) -> Mapping[str, Any]:
        """What somebody with this scope may use, described; nothing for a stranger."""
        allowed = [] if scope is None else [one for one in ENDPOINTS if self._may(scope, one)]
        return openapi.paths(PREFIX, allowed)

    def _serving(self, verbs: Mapping[str, Endpoint]) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def serve(http: HttpRequest) -> Response:
            return await self._serve(http, verbs["GET" if http.method == "HEAD" else http.method])

        return serve

    async def _serve(self, http: HttpRequest, endpoint: Endpoint) -> Response:
        self._door.refuse_foreign(http)
        self._engine.refuse_while_draining()
        outlet = WaitOutlet()
        session = self._door.open(http, outlet)
        visit = _Visit(http, endpoint, session, outlet, endpoint.methods()[0])
        try:
            response = await self._perform(visit, await self._identify(visit))
        except RpcError as error:
            self._engine.count(visit.key, error.code)
            self._engine.auditing.refused(session, visit.request, visit.key, error, visit.noted)
            raise
        finally:
            session.close()
        self._engine.count(visit.key, 200)
        return response

    async def _identify(self, visit: _Visit) -> Scope:
        """Who calls, and may. Raises Forbidden."""
        http, endpoint = visit.http, visit.endpoint
        tokens = [http.headers[name] for name in TOKEN_HEADERS if name in http.headers]
        try:
            if tokens:
                await self._door.by_token(tokens[0].strip(), visit.session)
            else:
                await self._door.identify(http, visit.session)
        except Unauthorized as error:
            raise Forbidden(error.message) from error
        scope = visit.session.scope
        if scope is None:
            raise Forbidden(ANONYMOUS)
        if not self._may(scope, endpoint):
            raise Forbidden(f"{scope.account} may not call {visit.key}")
        return scope

    async def _perform(self, visit: _Visit, caller: Scope) -> Response:
        http, endpoint, limits = visit.http, visit.endpoint, self._engine.limits
        body = None
        if endpoint.takes_body:
            body = json_of(await self._door.body(http, visit.session), limits.json_depth)
            self._resolve_type(visit, caller, body)
        key = http.headers.get("idempotency-key")
        asked = Asked(self._service, caller, http.path_params, http.query_params, limits, body, key)
        if endpoint.pages is not None:
            return await _streamed(endpoint.pages(asked))
        if not endpoint.mutates:
            return _json(await visit.outlet.patiently(http, visit.session, lambda: endpoint.handle(asked)))
        args = body if endpoint.takes_body else dict(http.path_params)
        visit.noted = self._engine.auditing.note(visit.session, visit.request, visit.key, args)
        result = await endpoint.handle(asked)
        await visit.noted.durable()
        return _json(result)

    def _resolve_type(self, visit: _Visit, caller: Scope, body: Any) -> None:
        """POST jobs is as good as the path of the body's type, and needs the same permission."""
        if visit.endpoint.action is not None or not isinstance(body, dict) or body.get("type") is None:
            return
        visit.key = f"workqueue/{read(JobType, body['type'], 'type').name.lower()}"
        if not self._may_call(caller, visit.key, visit.endpoint):
            raise Forbidden(f"{caller.account} may not call {visit.key}")

    def _may(self, scope: Scope, endpoint: Endpoint) -> bool:
        return any(self._may_call(scope, key, endpoint) for key in endpoint.methods())

    def _may_call(self, scope: Scope, key: str, endpoint: Endpoint) -> bool:
        """Where there is a method of this name, its schema says of which access class it is."""
        return scope.may_call(key, self._engine.registry.access.get(key, endpoint.access))


async def _streamed(pages: Pages) -> Response:
    """A list in pieces; what is wrong with the request is raised before the first one."""
    first: list[dict[str, Any]] = await anext(pages, [])

    async def chunks() -> AsyncIterator[bytes]:
        yield b"[" + encode(first)[1:-1]
        separator = b"," if first else b""
        async for page in pages:
            if page:
                yield separator + encode(page)[1:-1]
                separator = b","
        yield b"]"

    return StreamingResponse(chunks(), media_type=JSON)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(value), status, media_type=JSON, headers=headers)


async def _on_error(http: HttpRequest, error: RpcError) -> Response:
    if isinstance(error, Cancelled):
        return Response(status_code=error.code)
    message = error.message if isinstance(error, BadRequest) else describe(error)
    return _json({"code": error.code, "message": message}, error.code)


async def _on_http_error(http: HttpRequest, error: HTTPException) -> Response:
    """What Starlette itself refuses: a path or a verb without a route."""
    return _json({"code": error.status_code, "message": error.detail}, error.status_code, error.headers)


async def _on_disconnect(http: HttpRequest, error: ClientDisconnect) -> Response:
    return Response(status_code=Cancelled.code)


async def _on_fault(http: HttpRequest, error: Exception) -> Response:
    """A fault of ours: Starlette raises it again for the log, the client is told no details."""
    return await _on_error(http, InternalError())
