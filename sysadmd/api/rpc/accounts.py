"""`rpc/accounts`: the accounts of this server."""

from __future__ import annotations

from typing import Any

from sysadmd.api.rpc.granting import grantor, refuse_in_clear
from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/accounts/list")
async def listing(call: Call, services: Services) -> dict[str, Any]:
    """Every account with its roles."""
    return {"accounts": await services.accounts.list()}


@method("rpc/accounts/add")
async def add(call: Call, services: Services) -> dict[str, Any]:
    """Add an account."""
    refuse_in_clear(call)
    args = call.args
    await services.accounts.add(args["name"], args["password"], args.get("roles", []), by=grantor(call, services))
    return {}


@method("rpc/accounts/remove")
async def remove(call: Call, services: Services) -> dict[str, Any]:
    """Remove an account; its connections end."""
    await services.accounts.remove(call.args["name"], by=grantor(call, services))
    return {}


@method("rpc/accounts/passwd")
async def passwd(call: Call, services: Services) -> dict[str, Any]:
    """Set an account's password; its tokens are revoked."""
    refuse_in_clear(call)
    await services.accounts.passwd(call.args["name"], call.args["password"], by=grantor(call, services))
    return {}


@method("rpc/accounts/set_roles")
async def set_roles(call: Call, services: Services) -> dict[str, Any]:
    """Give an account other roles; its open connections have them at once."""
    await services.accounts.set_roles(call.args["name"], call.args["roles"], by=grantor(call, services))
    return {}


@method("rpc/accounts/set_disabled")
async def set_disabled(call: Call, services: Services) -> dict[str, Any]:
    """Close an account, or open it again."""
    name, disabled = call.args["name"], call.args["disabled"]
    await services.accounts.set_disabled(name, disabled=disabled, by=grantor(call, services))
    return {}
