"""`workqueue/jobs`, `job`, `elements`, `element`, `status` and `output`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method

PAGE = 100
"""Rows of one answer, where the call does not say."""


@method("workqueue/jobs")
async def jobs(call: Call, services: Services) -> dict[str, Any]:
    """A page of transfers, newest first."""
    args = {"limit": PAGE, **call.args}
    shown = await _all(services.workqueue.jobs(call.caller, **args))
    return {"jobs": shown, "next": _following(shown, args["limit"])}


@method("workqueue/job")
async def job(call: Call, services: Services) -> dict[str, Any]:
    """One transfer."""
    return {"job": await services.workqueue.job(call.caller, call.args["job"])}


@method("workqueue/elements")
async def elements(call: Call, services: Services) -> dict[str, Any]:
    """A page of a transfer's elements, in order."""
    args = {"limit": PAGE, **call.args}
    seq, limit = args.pop("job"), args["limit"]
    shown = await _all(services.workqueue.elements(call.caller, seq, **args))
    return {"elements": shown, "next": _following(shown, limit)}


@method("workqueue/element")
async def element(call: Call, services: Services) -> dict[str, Any]:
    """One element."""
    args, full = call.args, call.args.get("full", False)
    return {"element": await services.workqueue.element(call.caller, args["job"], args["element"], full=full)}


@method("workqueue/status")
async def status(call: Call, services: Services) -> dict[str, Any]:
    """Where a transfer or an element stands; with `wait`, when that is over or another than `known`."""
    args = call.args
    patience = {"wait": args.get("wait", 0.0), "known": args.get("known")}
    if "element" in args:
        return await services.workqueue.element_status(call.caller, args["job"], args["element"], **patience)
    return await services.workqueue.status(call.caller, args["job"], **patience)


@method("workqueue/output")
async def output(call: Call, services: Services) -> dict[str, Any]:
    """The latest output of each element, or of one: the latest, all, or that of one attempt."""
    args, full, caller = call.args, call.args.get("full", False), call.caller
    seq, service = args["job"], services.workqueue
    if "element" not in args:
        return {"output": await service.output(caller, seq, full=full)}
    if args.get("all", False):
        return {"output": await service.all_element_output(caller, seq, args["element"], full=full)}
    shown = await service.element_output(caller, seq, args["element"], args.get("attempt", -1), full=full)
    return {"output": [shown]}


async def _all(pages: AsyncIterator[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [one async for page in pages for one in page]


def _following(shown: list[dict[str, Any]], limit: int) -> int | None:
    """What the next page comes after; None when this one is not full."""
    return shown[-1]["id"] if len(shown) >= limit else None
