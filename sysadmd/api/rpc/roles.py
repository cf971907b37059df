"""`rpc/roles`: what accounts may do, under names."""

from __future__ import annotations

from typing import Any

from sysadmd.api.rpc.granting import grantor
from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/roles/list")
async def listing(call: Call, services: Services) -> dict[str, Any]:
    """Every role with its patterns and inclusions."""
    return {"roles": await services.accounts.roles()}


@method("rpc/roles/set")
async def set_role(call: Call, services: Services) -> dict[str, Any]:
    """Make a role, or replace what it grants."""
    args, by = call.args, grantor(call, services)
    await services.accounts.set_role(args["name"], args.get("patterns", []), args.get("includes", []), by=by)
    return {}


@method("rpc/roles/remove")
async def remove(call: Call, services: Services) -> dict[str, Any]:
    """Remove a role that nothing uses."""
    await services.accounts.remove_role(call.args["name"], by=grantor(call, services))
    return {}
