"""`rpc/identify`: who answers here."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/identify")
def identify(call: Call, services: Services) -> dict[str, Any]:
    """The node's host name and the type of this program."""
    return {"hostname": services.config.node, "type": "server"}
