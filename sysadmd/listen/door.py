"""Who calls over HTTP: what every surface of the HTTP listener asks of a request before it looks at what is wanted.

A request is a session that lives for one call. It has no cookie to be tricked with, but a browser sends it wherever a
page tells it to, so what other sites' pages send is refused first.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import anyio
from starlette.requests import HTTPConnection
from starlette.requests import Request as HttpRequest

from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.identity import Peer
from sysadmd.auth.tokens import Tokens
from sysadmd.errors import BadRequest, DeadlineExceeded, Forbidden, PayloadTooLarge, RpcError, Unauthorized
from sysadmd.listen.discard import DiscardOutlet
from sysadmd.listen.origin import FOREIGN_SITES, origin_allowed
from sysadmd.listen.websocket import SECRET_PARAMETERS
from sysadmd.rpc.engine import Engine
from sysadmd.rpc.session import Outlet, Session
from sysadmd.wire.messages import Request
from sysadmd.wire.sysadm import SYSADM


class Door:
    """Opens sessions for HTTP requests and logs them in. `origins` are the pages, besides our own, that may call."""

    def __init__(
        self, engine: Engine, authenticator: Authenticator, tokens: Tokens, *, origins: Sequence[str] = ()
    ) -> None:
        self.engine, self._authenticator, self._tokens = engine, authenticator, tokens
        self.origins = tuple(origins)

    def open(self, http: HttpRequest, outlet: Outlet | None = None) -> Session:
        """A session that is not logged in. It has to be closed."""
        return self.engine.open(outlet or DiscardOutlet(), peer_of(http))

    def refuse_foreign(self, http: HttpRequest) -> None:
        """Refuse what another site's page sends by its visitor's browser, and secrets in the URL."""
        self.refuse_pages(http)
        if SECRET_PARAMETERS & {name.lower() for name in http.query_params}:
            raise Forbidden("secrets do not belong into a URL; use the Authorization header")

    def refuse_pages(self, http: HttpRequest) -> None:
        """Refuse what another site's page sends by its visitor's browser."""
        headers = http.headers
        origins = headers.getlist("origin")
        if origins and not origin_allowed(origins, headers.getlist("host"), self.origins):
            raise Forbidden("this origin is not allowed; see the option `origins`")
        if not origins and headers.get("sec-fetch-site") in FOREIGN_SITES:
            raise Forbidden("links and images of other sites may not call")

    async def identify(self, http: HTTPConnection, session: Session) -> None:
        """Log the session in by the Authorization header (RFC 7617 Basic, RFC 6750 Bearer), if there is one.

        Raises Unauthorized, TooManyRequests, and BadRequest for a header that is neither.
        """
        header = http.headers.get("authorization")
        if header is None:
            return
        scheme, _, credentials = header.partition(" ")
        if scheme.lower() == "bearer":
            await self.by_token(credentials.strip(), session)
        elif scheme.lower() == "basic":
            name, password = _basic(credentials)
            await self.by_password(name, password, session)
        else:
            raise Unauthorized(f"the scheme {scheme[:20]!r} is not offered; use Basic or Bearer")

    async def by_token(self, token: str, session: Session) -> None:
        """Log the session in as the holder of a token. Raises Unauthorized."""
        scope = await self._authenticator.token(token, session.peer, session=session.id, recorded=False)
        expires = self.engine.monotonic() + self._tokens.remaining(token)
        session.login(scope, token, expires, self._tokens.voucher(token), method="token")

    async def by_password(self, name: str, password: str, session: Session) -> None:
        """Log the session in by name and password. Raises Unauthorized and TooManyRequests."""
        scope = await self._authenticator.password(name, password, session.peer, session=session.id)
        session.login(scope, None, None, method=self._authenticator.means(scope.account))

    async def body(self, http: HttpRequest, session: Session) -> bytes:
        """The body, without white space around it; who is logged in may send more. Raises PayloadTooLarge and
        DeadlineExceeded.
        """
        limits = self.engine.limits
        size = limits.frame_unauthenticated if session.scope is None else limits.frame_authenticated
        return await _read(http, size, limits.auth_timeout)


def peer_of(http: HttpRequest) -> Peer:
    """Where the request comes from."""
    return Peer(http.client.host if http.client else "unknown", "rest")


async def watch_client(http: HttpRequest, session: Session) -> None:
    """Close the session when its client goes away, so that nobody works for nobody; the body has been read."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
    session.close()


async def outcome(http: HttpRequest, session: Session, request: Request) -> Any:
    """The result of a call, which is withdrawn when its client goes away. Raises `RpcError`."""
    result: Any = None
    refused: RpcError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch_client, http, session)
        try:
            result = await session.perform(request, SYSADM)
        except RpcError as error:
            refused = error  # raised below: out of a task group it would come as a group
        tasks.cancel_scope.cancel()
    if refused is not None:
        raise refused
    return result


def _basic(credentials: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadRequest("Authorization: not base64 of <name>:<password>") from error
    name, colon, password = text.partition(":")
    if not colon:
        raise BadRequest("Authorization: not base64 of <name>:<password>")
    return name, password


async def _read(http: HttpRequest, limit: int, timeout: float) -> bytes:
    chunks, size = [], 0
    with anyio.move_on_after(timeout):
        async for chunk in http.stream():
            size += len(chunk)
            if size > limit:
                raise PayloadTooLarge(f"the body is longer than {limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks).strip()
    raise DeadlineExceeded(f"the body did not come within {timeout:g} s")
