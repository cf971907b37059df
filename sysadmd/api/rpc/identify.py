"""`rpc/identify`: who answers here, and for those who ask, by which key a sealed session knows it."""

from __future__ import annotations

from typing import Any

import structlog

from sysadmd.api.services import Services
from sysadmd.errors import StateError, Unavailable
from sysadmd.rpc.call import Call, method

log = structlog.get_logger(__name__)

SEAL_VERSION = 1
"""Of the sealed sessions that this program speaks (sysadmd.keys.seal)."""


@method("rpc/identify")
async def identify(call: Call, services: Services) -> dict[str, Any]:
    """The node's host name and the type of this program; with `"seal": 1`, how to seal a session with it."""
    answer: dict[str, Any] = {"hostname": services.config.node, "type": "server"}
    if isinstance(call.args, dict) and call.args.get("seal") == SEAL_VERSION:
        answer["seal"] = {"version": SEAL_VERSION, "key": await _sealing_key(services)}
    return answer


async def _sealing_key(services: Services) -> str:
    try:
        return (await services.sealing.context()).fingerprint
    except StateError as error:
        log.error("sessions cannot be sealed", reason=str(error))
        raise Unavailable("sessions cannot be sealed; the log of the server says why") from error
