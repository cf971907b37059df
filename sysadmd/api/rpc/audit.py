"""`rpc/audit`: who did what, and whether the record of it is what was written."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/audit/list")
async def listing(call: Call, services: Services) -> dict[str, Any]:
    """Records, in the order in which they were written."""
    return await services.audit.list(**call.args)


@method("rpc/audit/verify")
async def verify(call: Call, services: Services) -> dict[str, Any]:
    """Look at the whole trail."""
    verdict = await services.audit.verify()
    return {
        "ok": verdict.ok,
        "records": verdict.records,
        "checkpoints": verdict.checkpoints,
        "first_bad": verdict.first_bad,
        "reason": verdict.reason,
    }
