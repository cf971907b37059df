"""`queue/work`: what a worker of its own process asks of the queue, over the Unix socket (jobs/remote_queue.py)."""

from __future__ import annotations

from typing import Any

import msgspec

from sysadmd.api.services import Services
from sysadmd.jobs.views import End, Worker
from sysadmd.rpc.call import Call, method


@method("queue/work/claim")
async def claim(call: Call, services: Services) -> dict[str, Any]:
    """Lease due steps to a worker."""
    args, worker, seen = call.args, msgspec.convert(call.args["worker"], Worker), services.queue.wakes
    claims = await services.queue.claim(worker, args["limit"], frozenset(args["kinds"]))
    return {"claims": msgspec.to_builtins(claims), "halted": services.queue.halted(worker), "seen": seen}


@method("queue/work/wait")
async def wait(call: Call, services: Services) -> dict[str, Any]:
    """Wait until something may be claimable that was not at the claim which saw `seen`."""
    args = call.args
    return {"work": await services.queue.wait_work(frozenset(args["kinds"]), args["timeout"], seen=args["seen"])}


@method("queue/work/started")
async def started(call: Call, services: Services) -> dict[str, Any]:
    """The process of an attempt is there."""
    args = call.args
    return {"held": await services.queue.started(args["lease"], pid=args.get("pid"), pid_start=args.get("pid_start"))}


@method("queue/work/renew")
async def renew(call: Call, services: Services) -> dict[str, Any]:
    """Hold leases for longer."""
    return {"held": sorted(await services.queue.renew(call.args["leases"]))}


@method("queue/work/progress")
async def progress(call: Call, services: Services) -> dict[str, Any]:
    """How far an attempt is."""
    args = call.args
    held = await services.queue.progress(args["lease"], args.get("value"), args.get("message"), args.get("data"))
    return {"held": held}


@method("queue/work/finish")
async def finish(call: Call, services: Services) -> dict[str, Any]:
    """How an attempt ended."""
    end = msgspec.convert(call.args["end"], End)
    return {"held": await services.queue.finish(call.args["lease"], end)}
