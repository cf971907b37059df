"""`rpc/cancel`: withdraw a call."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/cancel")
def cancel(call: Call, services: Services) -> dict[str, Any]:
    """Cancel the call with this id on the same connection; it is answered 499."""
    return {"cancelled": call.session.cancel(call.args["id"])}
