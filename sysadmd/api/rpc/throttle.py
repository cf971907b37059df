"""`rpc/throttle`: who is locked out, and letting them in again."""

from __future__ import annotations

import dataclasses
from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/throttle/list")
def listing(call: Call, services: Services) -> dict[str, Any]:
    """Counts of failed log-ins, the latest first."""
    counts = services.throttle.list()
    return {"counts": [dataclasses.asdict(one) for one in counts[: call.args.get("limit", 100)]], "total": len(counts)}


@method("rpc/throttle/clear")
async def clear(call: Call, services: Services) -> dict[str, Any]:
    """Forget counts, and the lock-outs with them."""
    return {"cleared": services.throttle.clear(**call.args)}
