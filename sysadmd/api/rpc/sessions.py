"""`rpc/sessions`: who is connected, and ending that."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc import roster
from sysadmd.rpc.call import Call, method


@method("rpc/sessions/list")
def listing(call: Call, services: Services) -> dict[str, Any]:
    """The caller's own sessions; everybody's for administrators."""
    return {"sessions": roster.listed(call.session.engine, _whose(call))}


@method("rpc/sessions/kill")
async def kill(call: Call, services: Services) -> dict[str, Any]:
    """End a session: its socket is closed now, and its log-in token is revoked."""
    engine = call.session.engine
    session = roster.find(engine, call.args["id"], _whose(call))
    token = session.token
    if token is not None and services.tokens.revoke(token):
        engine.end_token(token, session)
    roster.kill(engine, session, call.session)
    return {}


def _whose(call: Call) -> str | None:
    """Whose sessions the caller may see; None: everybody's."""
    return None if call.caller.administers else call.caller.account
