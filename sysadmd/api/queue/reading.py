"""`queue/list`, `detail`, `output`, `counts`, `summary`, `history` and `tasks`."""

from __future__ import annotations

from typing import Any

import msgspec

from sysadmd.api.queue.caller import jobs_of
from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("queue/list")
async def listing(call: Call, services: Services) -> dict[str, Any]:
    """A page of jobs, newest first."""
    jobs, following = await jobs_of(call, services).listing(**call.args)
    return {"jobs": jobs, "next": following}


@method("queue/detail")
async def detail(call: Call, services: Services) -> dict[str, Any]:
    """All that is known of a job."""
    job, attempts = await jobs_of(call, services).detail(call.args["job"])
    return {"job": job, "attempts": attempts}


@method("queue/output")
async def output(call: Call, services: Services) -> dict[str, Any]:
    """A part of what an execution wrote."""
    args = dict(call.args)
    return await jobs_of(call, services).output(args.pop("job"), **args)


@method("queue/counts")
def counts(call: Call, services: Services) -> dict[str, Any]:
    """Jobs in the queue by state."""
    return {"counts": services.queue.counts()}


@method("queue/summary")
def summary(call: Call, services: Services) -> dict[str, Any]:
    """Jobs in the queue by name, state and flags."""
    return {"rows": jobs_of(call, services).summary()}


@method("queue/history")
async def history(call: Call, services: Services) -> dict[str, Any]:
    """Jobs in the queue after each of its changes."""
    args = call.args
    page = await jobs_of(call, services).history(
        args.get("page", 0),
        args.get("per_page", 10),
        newest_first=args.get("order", "newest") == "newest",
        start=args.get("start"),
        end=args.get("end"),
    )
    return {"rows": msgspec.to_builtins(page.rows), "total": page.total}


@method("queue/tasks")
def tasks(call: Call, services: Services) -> dict[str, Any]:
    """The names of tasks that the caller may enqueue."""
    return {"tasks": jobs_of(call, services).tasks()}
