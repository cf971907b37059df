"""Who grants, in a call that changes accounts or roles."""

from __future__ import annotations

from sysadmd.api.services import Services
from sysadmd.auth.granting import Grantor
from sysadmd.errors import Forbidden
from sysadmd.rpc.call import Call


def grantor(call: Call, services: Services) -> Grantor:
    """The caller, who can grant no more than they hold."""
    return Grantor(call.caller, services.registry.access)


def refuse_in_clear(call: Call) -> None:
    """Refuse what makes another way in, where a bridge could have asked for it or could read it: what it may do as the
    account ends with the session. The original servers refuse such calls through a bridge too (spec sysadm §3.5).
    Raises Forbidden.
    """
    if call.session.peer.insecure:
        raise Forbidden("not through a bridge that can read it, since it would outlast this session")
