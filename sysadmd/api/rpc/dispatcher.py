"""`rpc/dispatcher`: run commands as processes that outlive the server."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method
from sysadmd.wire import CLASSIC
from sysadmd.wire.topics import documented_log


@method("rpc/dispatcher/run")
async def run(call: Call, services: Services) -> dict[str, Any] | list[str]:
    """Queue one process for each id; the reply names them, events tell the rest."""
    if not call.args and call.dialect is CLASSIC:
        return []  # what the originals answer where no value is a job (spec sysadm §4.1)
    return {"started": await services.dispatcher.start(call.args, owner=call.caller.account)}


@method("rpc/dispatcher/exec")
async def execute(call: Call, services: Services) -> dict[str, Any]:
    """Run one process to its end and return its log; withdrawing the call kills it."""
    return documented_log(await services.dispatcher.execute(call.args, owner=call.caller.account))


@method("rpc/dispatcher/list")
async def listing(call: Call, services: Services) -> dict[str, Any]:
    """The live processes of each lane, with `history` also the finished ones."""
    history, lane = call.args.get("history", False), call.args.get("lane")
    return {"jobs": await services.dispatcher.listing(call.caller, lane=lane, history=history)}


@method("rpc/dispatcher/kill")
async def kill(call: Call, services: Services) -> dict[str, Any]:
    """End processes, pending ones too."""
    ids = call.args["job_id"]
    return {"killed": {"jobs": await services.dispatcher.kill([ids] if isinstance(ids, str) else ids)}}


@method("rpc/dispatcher/read_log")
async def read_log(call: Call, services: Services) -> dict[str, Any]:
    """A part of one command's output."""
    return await services.dispatcher.read_log(call.caller, **call.args)
