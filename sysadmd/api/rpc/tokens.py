"""`rpc/tokens`: API tokens, for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sysadmd.api.rpc.granting import refuse_in_clear
from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/tokens/create")
async def create(call: Call, services: Services) -> dict[str, Any]:
    """Make a token. It is shown in this answer and never again."""
    refuse_in_clear(call)
    args = call.args
    made = await services.api_tokens.create(
        call.caller,
        args.get("user", call.caller.account),
        args["name"],
        scopes=args.get("scopes"),
        life=args.get("expires"),
        access={one.key: one.access for one in services.registry.methods.values()},
    )
    return asdict(made)


@method("rpc/tokens/list")
def listing(call: Call, services: Services) -> dict[str, Any]:
    """The caller's own tokens; everybody's for administrators."""
    return {"tokens": [asdict(one) for one in services.api_tokens.list(_whose(call))]}


@method("rpc/tokens/revoke")
async def revoke(call: Call, services: Services) -> dict[str, Any]:
    """End a token, and the connections that use it."""
    await services.api_tokens.revoke(call.args["id"], _whose(call))
    return {}


def _whose(call: Call) -> str | None:
    """Whose tokens the caller may see; None: everybody's."""
    return None if call.caller.administers else call.caller.account
