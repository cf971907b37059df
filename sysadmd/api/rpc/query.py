"""`rpc/query`: the subsystems that this caller may use."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/query")
def query(call: Call, services: Services) -> dict[str, Any]:
    """`"<namespace>/<name>": "read/write"|"read"`, without the methods that every peer has (spec sysadm §4.0)."""
    return services.registry.subsystems(call.caller)
