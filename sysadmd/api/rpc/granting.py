"""Who grants, in a call that changes accounts or roles."""

from __future__ import annotations

from sysadmd.api.services import Services
from sysadmd.auth.granting import Grantor
from sysadmd.rpc.call import Call


def grantor(call: Call, services: Services) -> Grantor:
    """The caller, who can grant no more than they hold."""
    return Grantor(call.caller, services.registry.access)
