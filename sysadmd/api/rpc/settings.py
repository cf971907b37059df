"""`rpc/settings`: the public keys that log in, in the words of the original (spec sysadm §3.9)."""

from __future__ import annotations

from typing import Any

from sysadmd.api.rpc.granting import grantor, refuse_in_clear
from sysadmd.api.services import Services
from sysadmd.auth.keys import described
from sysadmd.errors import BadRequest, NotFound
from sysadmd.rpc.call import Call, method


@method("rpc/settings/register_ssl_cert")
async def register_ssl_cert(call: Call, services: Services) -> dict[str, Any]:
    """Register a key for the caller's account, or another one."""
    refuse_in_clear(call)
    args = call.args
    await services.keys.register(
        grantor(call, services),
        args.get("user", call.caller.account),
        args["pub_key"],
        nickname=args.get("nickname", ""),
        email=args.get("email", ""),
        certificate=args.get("certificate"),
    )
    return {}


@method("rpc/settings/list_ssl_certs")
def list_ssl_certs(call: Call, services: Services) -> dict[str, Any]:
    """Account to keys to what is known of them."""
    found: dict[str, dict[str, str]] = {}
    for key in services.keys.of(_whose(call)):
        found.setdefault(key.account, {})[key.registered] = described(key)
    return found


@method("rpc/settings/list_ssl_checksums")
def list_ssl_checksums(call: Call, services: Services) -> dict[str, Any]:
    """The checksums by which the originals call the keys."""
    return {"md5_keys": [key.checksum for key in services.keys.of(_whose(call))]}


@method("rpc/settings/revoke_ssl_cert")
async def revoke_ssl_cert(call: Call, services: Services) -> dict[str, Any]:
    """Revoke a key. What is not there and what is not the caller's are the same 400, as in the original."""
    account = call.args.get("user", call.caller.account)
    if account != call.caller.account and not call.caller.administers:
        raise BadRequest("there is no such key of yours", path="args.user")
    try:
        await services.keys.revoke(account, call.args["pub_key"], by=grantor(call, services))
    except NotFound as error:
        raise BadRequest(error.message, path="args.pub_key") from None
    return {}


def _whose(call: Call) -> str | None:
    """Whose keys the caller may see; None: everybody's."""
    return None if call.caller.administers else call.caller.account
