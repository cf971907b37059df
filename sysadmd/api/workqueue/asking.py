"""`workqueue/list`, `copy`, `remove`, `rename`, `mkdir`, `cancel` and `retry`: what changes something."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.jobs.transfers.pdm import JobType
from sysadmd.rpc.call import Call, method


async def _submit(call: Call, services: Services, kind: JobType) -> dict[str, Any]:
    args = dict(call.args)
    key = args.pop("request_key", None)
    return {"job": await services.workqueue.submit(call.caller, args, kind, request_key=key)}


@method("workqueue/list")
async def list_(call: Call, services: Services) -> dict[str, Any]:
    """Ask what is in a directory, and in those below it."""
    return await _submit(call, services, JobType.LIST)


@method("workqueue/copy")
async def copy(call: Call, services: Services) -> dict[str, Any]:
    """Ask for a copy of a file or a tree."""
    return await _submit(call, services, JobType.COPY)


@method("workqueue/remove")
async def remove(call: Call, services: Services) -> dict[str, Any]:
    """Ask for a file or a tree to be removed."""
    return await _submit(call, services, JobType.REMOVE)


@method("workqueue/rename")
async def rename(call: Call, services: Services) -> dict[str, Any]:
    """Ask for a new name."""
    return await _submit(call, services, JobType.RENAME)


@method("workqueue/mkdir")
async def mkdir(call: Call, services: Services) -> dict[str, Any]:
    """Ask for a directory."""
    return await _submit(call, services, JobType.MKDIR)


@method("workqueue/cancel")
async def cancel(call: Call, services: Services) -> dict[str, Any]:
    """End a transfer."""
    return await services.workqueue.cancel(call.caller, call.args["job"])


@method("workqueue/retry")
async def retry(call: Call, services: Services) -> dict[str, Any]:
    """Try again what failed of a transfer."""
    return {"job": await services.workqueue.retry(call.caller, call.args["job"])}
