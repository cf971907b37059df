"""`queue/workers`, `pause`, `resume` and `halt`: who works, and whether."""

from __future__ import annotations

from typing import Any

import msgspec

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("queue/workers")
def listing(call: Call, services: Services) -> dict[str, Any]:
    """The workers that take jobs from this server."""
    return {"workers": msgspec.to_builtins(services.queue.workers())}


@method("queue/pause")
async def pause(call: Call, services: Services) -> dict[str, Any]:
    """Start nothing new in a lane, or in all."""
    return {"lanes": await services.queue.pause(call.args.get("lane"), call.caller.account)}


@method("queue/resume")
async def resume(call: Call, services: Services) -> dict[str, Any]:
    """Undo a pause."""
    return {"lanes": await services.queue.resume(call.args.get("lane"), call.caller.account)}


@method("queue/halt")
async def halt(call: Call, services: Services) -> dict[str, Any]:
    """Ask the workers that are there now to leave."""
    await services.queue.halt(call.caller.account)
    return {}
