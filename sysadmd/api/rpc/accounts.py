"""`rpc/accounts`: the accounts of this server."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/accounts/list")
async def listing(call: Call, services: Services) -> dict[str, Any]:
    """Every account with its roles."""
    return {"accounts": await services.accounts.list()}


@method("rpc/accounts/add")
async def add(call: Call, services: Services) -> dict[str, Any]:
    """Add an account."""
    await services.accounts.add(call.args["name"], call.args["password"], call.args.get("roles", []))
    return {}


@method("rpc/accounts/remove")
async def remove(call: Call, services: Services) -> dict[str, Any]:
    """Remove an account; its connections end."""
    await services.accounts.remove(call.args["name"])
    return {}


@method("rpc/accounts/passwd")
async def passwd(call: Call, services: Services) -> dict[str, Any]:
    """Set an account's password; its tokens are revoked."""
    await services.accounts.passwd(call.args["name"], call.args["password"])
    return {}
