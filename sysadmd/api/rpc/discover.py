"""`rpc/discover`: the API that this caller may use, as OpenRPC."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method
from sysadmd.schema import openrpc


@method("rpc/discover")
def discover(call: Call, services: Services) -> dict[str, Any]:
    """An OpenRPC 1.3 document."""
    return openrpc.document(list(services.registry.allowed(call.caller)))
