"""One request: who sends it, with which arguments, whether they may, and how its answer is made.

The order is that of every other surface: who, whether they may, then what the arguments say; nobody learns from an
answer what they may not ask. Somebody who is not logged in gets 401 here, where core4 sends them to a page.

What changes something is in the audit trail before it happens, and answered when that is on the disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from sysadmd.auth.accounts import Accounts
from sysadmd.auth.audit import Audit
from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.granting import Grantor
from sysadmd.auth.scope import Scope
from sysadmd.auth.tokens import Tokens
from sysadmd.config import Config
from sysadmd.errors import Forbidden, InternalError, MethodNotAllowed, RpcError, Unauthorized
from sysadmd.jobs.queue import Queue
from sysadmd.jobs.tasks.catalogue import Catalogue
from sysadmd.listen.core4.arguments import Arguments, decode, query_of, redacted
from sysadmd.listen.core4.envelope import code_of, failure, new_id, reply
from sysadmd.listen.core4.names import ACTION_OF, Handler
from sysadmd.listen.core4.pager import PER_PAGE, Wanted
from sysadmd.listen.door import Door
from sysadmd.listen.origin import from_browser
from sysadmd.listen.sse import EventStream
from sysadmd.rpc.engine import Engine
from sysadmd.rpc.registry import Registry
from sysadmd.rpc.session import Session
from sysadmd.wire.messages import Request

CLIENT_CLOSED = 499
CREDENTIALS = frozenset({"token", "username", "password", "passwd"})
"""Arguments that log in, where there is no Authorization header."""


class Parts(Protocol):
    """What the facade needs of the server's services."""

    @property
    def accounts(self) -> Accounts:
        """Accounts and roles."""
        ...

    @property
    def authenticator(self) -> Authenticator:
        """The door for names and passwords."""
        ...

    @property
    def tokens(self) -> Tokens:
        """Log-in tokens."""
        ...

    @property
    def audit(self) -> Audit:
        """The audit trail."""
        ...

    @property
    def config(self) -> Config:
        """The configuration."""
        ...

    @property
    def queue(self) -> Queue:
        """The job queue."""
        ...

    @property
    def tasks(self) -> Catalogue:
        """What may be enqueued."""
        ...

    @property
    def registry(self) -> Registry:
        """The methods, with their access classes."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that may be answered. `id` is that of its reply; `now` is in Unix seconds."""

    id: str
    now: float
    http: HttpRequest
    session: Session
    args: Arguments
    parts: Parts

    @property
    def scope(self) -> Scope:
        """Who asks. Raises Unauthorized."""
        if self.session.scope is None:
            raise Unauthorized
        return self.session.scope

    @property
    def engine(self) -> Engine:
        """What all sessions share."""
        return self.session.engine

    @property
    def grantor(self) -> Grantor:
        """Who asks, as somebody who can grant no more than they hold."""
        return Grantor(self.scope, self.parts.registry.access)

    def path(self, name: str) -> str:
        """A part of the path."""
        value: str = self.http.path_params[name]
        return value

    def page(self, per_page: str = "per_page") -> Wanted:
        """The page that is asked for."""
        return Wanted(self.args.integer("page", 0), self.args.integer(per_page, PER_PAGE))


Action: TypeAlias = Callable[[Exchange], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What answers one verb on one path: the data of the reply, a `Page`, or a whole response.

    `handler` None: everybody may call it, and `run` looks at who it is. `access`: as `Handler.access`, where this verb
    is like another class of methods.
    """

    handler: Handler | None
    run: Action
    access: str | None = None
    changes: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """One path: an ASGI endpoint that finds the verb's `Endpoint` and wraps what comes of it."""

    door: Door
    parts: Parts
    verbs: Mapping[str, Endpoint] = field(default_factory=dict)

    async def serve(self, http: HttpRequest) -> Response:
        """Answer a request, whatever it is."""
        engine = self.door.engine
        now = engine.events.now()
        request_id = new_id(now)
        try:
            return await self._answer(http, request_id, now)
        except RpcError as error:
            return failure(request_id, now, error, self._headers(http, error))
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED)
        except Exception as error:  # noqa: BLE001  # the client is told no details
            name = http.url.path[:128]
            return failure(request_id, now, engine.fault(Request("core4", name, http.method, request_id, None), error))

    async def _answer(self, http: HttpRequest, request_id: str, now: float) -> Response:
        endpoint = self.verbs.get("GET" if http.method == "HEAD" else http.method)
        if endpoint is None:
            raise MethodNotAllowed(f"{http.method} is not offered; use {', '.join(self.verbs)}")
        self.door.engine.refuse_while_draining()
        self.door.refuse_pages(http)
        session = self.door.open(http)
        try:
            args = await self._arguments(http, session)
            value = await self._perform(endpoint, Exchange(request_id, now, http, session, args, self.parts))
            # A stream has a session of its own.
            return value if isinstance(value, Response) else reply(request_id, now, value)
        finally:
            session.close()

    async def _perform(self, endpoint: Endpoint, exchange: Exchange) -> Any:
        """Authorise, record, run, count."""
        engine, session, action = exchange.engine, exchange.session, ACTION_OF[exchange.http.method]
        handler = endpoint.handler
        key = "core4/login" if handler is None else handler.key(action)
        request = Request("core4", "" if handler is None else handler.name, action, exchange.id, None)
        noted = value = None
        try:
            if handler is not None and not handler.permits(exchange.scope, action, endpoint.access):
                raise Forbidden(f"{exchange.scope.account} may not call {key}")
            if endpoint.changes:
                args = {**redacted(exchange.args.values), **exchange.http.path_params}
                noted = engine.auditing.note(session, request, key, args)
            value = await endpoint.run(exchange)
            if noted is not None:
                await noted.durable()
        except Exception as error:
            if isinstance(value, EventStream):
                value.abandon()
            known = error if isinstance(error, RpcError) else InternalError()
            engine.count(key, code_of(known))
            if handler is not None:
                engine.auditing.refused(session, request, key, known, noted)
            raise
        engine.count(key, 200)
        return value

    async def _arguments(self, http: HttpRequest, session: Session) -> Arguments:
        """The arguments, once who brings them is known; those that only logged in are not among them."""
        depth = self.door.engine.limits.json_depth
        await self.door.identify(http, session)
        query = await self._logged_in(query_of(http.scope), session)
        body = decode(await self.door.body(http, session), http.headers.get("content-type", ""), depth)
        return Arguments(await self._logged_in({**query, **body}, session), depth)

    async def _logged_in(self, values: dict[str, Any], session: Session) -> dict[str, Any]:
        """Log in by a token, or by a name and a password, unless somebody is logged in already."""
        if session.scope is not None:
            return values
        args = Arguments(values)
        token, name, password = args.text("token"), args.text("username"), args.secret()
        if token is not None:
            await self.door.by_token(token, session)
        elif name is not None and password is not None:
            await self.door.by_password(name, password, session)
        else:
            return values
        return args.besides(CREDENTIALS)

    def _headers(self, http: HttpRequest, error: RpcError) -> Mapping[str, str] | None:
        if isinstance(error, MethodNotAllowed):
            return {"Allow": ", ".join(self.verbs)}
        if isinstance(error, Unauthorized):
            # Asked for Basic, a browser would prompt, and remember.
            scheme = "Bearer" if from_browser(http.headers.keys()) else "Basic"
            return {"WWW-Authenticate": f'{scheme} realm="sysadmd"'}
        return None
