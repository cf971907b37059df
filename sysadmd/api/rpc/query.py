"""`rpc/query`: the subsystems that this caller may use."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method

UNLISTED = frozenset({"rpc/identify", "rpc/query", "rpc/discover", "rpc/cancel"})


@method("rpc/query")
def query(call: Call, services: Services) -> dict[str, Any]:
    """`"<namespace>/<name>": "read/write"|"read"`, without the methods that every peer has (spec sysadm §4.0)."""
    found: dict[str, Any] = {}
    for allowed in services.registry.allowed(call.caller):
        subsystem = f"{allowed.namespace}/{allowed.name}"
        if subsystem in UNLISTED or allowed.namespace == "events" or allowed.name.startswith("auth"):
            continue
        if allowed.mutates:
            found[subsystem] = "read/write"
        else:
            found.setdefault(subsystem, "read")
    return found
