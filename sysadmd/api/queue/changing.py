"""`queue/enqueue`, `kill`, `remove` and `restart`."""

from __future__ import annotations

from typing import Any

from sysadmd.api.queue.caller import jobs_of
from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("queue/enqueue")
async def enqueue(call: Call, services: Services) -> dict[str, Any]:
    """Store a job; it runs when a worker takes it."""
    return {"job": await jobs_of(call, services).enqueue(**call.args)}


@method("queue/kill")
async def kill(call: Call, services: Services) -> dict[str, Any]:
    """End jobs, those that wait too."""
    return {"killed": await jobs_of(call, services).kill(call.args["jobs"])}


@method("queue/remove")
async def remove(call: Call, services: Services) -> dict[str, Any]:
    """Take jobs out of the queue."""
    return {"removed": await jobs_of(call, services).remove(call.args["jobs"])}


@method("queue/restart")
async def restart(call: Call, services: Services) -> dict[str, Any]:
    """Run a job now that waits, or once more one that was stopped."""
    previous, job = await jobs_of(call, services).restart(call.args["job"])
    return {"previous": previous, "job": job}
