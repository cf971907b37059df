"""`rpc/auth`, `rpc/auth_token`, `rpc/auth_clear`: taking an identity and giving it back.

Every attempt takes the identity that the connection had (spec sysadm §3.1), so a failed one leaves a stranger. Only
subscriptions outlive a good one.
"""

from __future__ import annotations

from typing import Any

import structlog

from sysadmd.api.services import Services
from sysadmd.auth.token_table import new_token
from sysadmd.errors import Unauthorized
from sysadmd.rpc.call import Call, method

log = structlog.get_logger(__name__)


@method("rpc/auth")
async def auth(call: Call, services: Services) -> list[Any]:
    """Log in with a password: `[token, seconds]`."""
    revoke_attached(call, services)
    _keep_secret(call, services, "password")
    try:
        scope = await services.authenticator.password(
            call.args["username"], call.args["password"], call.session.peer, session=call.session.id
        )
    except BaseException:
        call.session.logout()
        raise
    method = services.authenticator.means(scope.account)
    return adopt(call, services, services.tokens.issue(scope), method=method)


@method("rpc/auth_token")
async def auth_token(call: Call, services: Services) -> list[Any]:
    """Log in with a token that an earlier log-in returned, or with an API token: `[token, seconds]`.

    A log-in token that is attached to the connection is not among them: it is revoked first (spec sysadm §3.4).
    """
    revoke_attached(call, services)
    _keep_secret(call, services, "token")
    try:
        await services.authenticator.token(call.args["token"], call.session.peer, session=call.session.id)
    except BaseException:
        call.session.logout()
        raise
    return adopt(call, services, call.args["token"], method="token")


@method("rpc/auth_clear")
def auth_clear(call: Call, services: Services) -> dict[str, Any]:
    """Log out: the log-in token is revoked, subscriptions end."""
    session = call.session
    if session.scope is not None:
        services.audit.record("logout", account=session.scope.account, peer=session.peer, session=session.id)
    revoke_attached(call, services)
    session.logout()
    return {}


def revoke_attached(call: Call, services: Services) -> None:
    """End the log-in token that is attached to the connection; other connections that use it end too. An API token
    was not given to this connection, so it cannot be given back on it.
    """
    token, call.session.token = call.session.token, None
    if token is not None and services.tokens.revoke(token):
        call.session.engine.end_token(token, call.session)


def adopt(call: Call, services: Services, token: str, *, method: str) -> list[Any]:
    """Log the connection in with this token, and answer as the originals do. Raises Unauthorized.

    Where a bridge can read the answer there is another text in it, good for nothing: the token would open a connection
    of the bridge's own.
    """
    session = call.session
    scope = services.tokens.resolve(token)
    if scope is None:
        session.logout()
        raise Unauthorized
    expires = session.engine.monotonic() + services.tokens.remaining(token)
    session.login(scope, token, expires, services.tokens.voucher(token), method=method)
    if session.peer.insecure:
        where = {"link": session.peer.link, "peer": session.peer.address}
        log.warning("insecure log-in", account=scope.account, method=method, session=session.id, **where)
        token = new_token()
    return [token, int(session.engine.limits.token_idle)]


def _keep_secret(call: Call, services: Services, method: str) -> None:
    """Refuse what a bridge could read and use itself, whatever it is: a good one would be told apart by the answer.
    A proof by key is good once only. Raises Unauthorized.
    """
    session = call.session
    if session.peer.insecure:
        session.logout()
        services.audit.record("login_failed", peer=session.peer, session=session.id, method=method)
        raise Unauthorized("through a bridge that can read it only `rpc/auth_ssl` logs in")
