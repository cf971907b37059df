"""`rpc/auth_ssl`: logging in with a registered key, in two calls on one connection (spec sysadm §3.5)."""

from __future__ import annotations

import base64
from typing import Any

from sysadmd.api.rpc.auth import adopt, revoke_attached
from sysadmd.api.services import Services
from sysadmd.auth.challenge import Challenge
from sysadmd.rpc.call import Call, method

PROOFS = ("encrypted_string", "signature")


@method("rpc/auth_ssl")
async def auth_ssl(call: Call, services: Services) -> list[Any] | dict[str, str]:
    """A challenge, or `[token, seconds]` for the answer to it."""
    session, args = call.session, call.args if isinstance(call.args, dict) else {}
    challenge, session.challenge = session.challenge, None  # one answer, whatever comes of it
    revoke_attached(call, services)
    if not any(name in args for name in PROOFS):
        session.logout(pausing=True)  # the subscriptions of the one who answers stay
        return await _challenge(call, services, bilingual="md5_key" in args)
    if challenge is not None and session.engine.monotonic() >= challenge.expires:
        challenge = None
    try:
        scope, key = await services.keys.log_in(
            services.authenticator, challenge, args, session.peer, session.id, binding=session.binding
        )
    except BaseException:
        session.logout()
        raise
    return adopt(call, services, services.tokens.issue(scope, key=key), method="key")


async def _challenge(call: Call, services: Services, *, bilingual: bool) -> dict[str, str]:
    """The challenge; for clients that named their key as they do through a bridge, a public key too, which they take
    for a mark and never use (spec sysadm §6.6): so one of nobody's will do, the same one for everybody.
    """
    engine = call.session.engine
    fresh = Challenge.new(engine.monotonic() + engine.limits.challenge_life)
    mark = await services.keys.decoy("rsa") if bilingual else None
    call.session.challenge = fresh
    if mark is None:
        return {"test_string": fresh.text}
    return {"new_ssl_key": mark.registered, "test_string": base64.b64encode(fresh.text.encode()).decode()}
