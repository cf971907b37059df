"""Log-in and log-out.

A log-in is one with whatever logs in: an Authorization header, a token, or a name and a password among the arguments.
It returns a token, which a log-out ends for good, wherever else it is in use. What core4 does with a token besides, to
set a password by it, is not offered: whoever found one would own the account.
"""

from __future__ import annotations

from typing import Any

from sysadmd.errors import BadRequest
from sysadmd.listen.core4.exchange import Exchange


async def login(exchange: Exchange) -> dict[str, Any]:
    """A token of the caller; one that came along is returned as it is, with all that it is confined to."""
    scope, session = exchange.scope, exchange.session
    return {"token": session.token or exchange.parts.tokens.issue(scope)}


async def reset(exchange: Exchange) -> Any:
    """Refuse to set a password without the old one."""
    raise BadRequest("a password is set by PUT profile, with the present one, or by an administrator: PUT roles/<id>")


async def logout(exchange: Exchange) -> str:
    """End the token that logged in, everywhere."""
    scope, session, tokens = exchange.scope, exchange.session, exchange.parts.tokens
    exchange.parts.audit.record("logout", account=scope.account, peer=session.peer, session=session.id)
    token = session.token
    if token is not None:
        if not tokens.revoke(token):
            raise BadRequest("an API token is no log-in: whoever made it revokes it")
        exchange.engine.end_token(token, session)
    return "OK"
