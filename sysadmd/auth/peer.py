"""What a user of this machine may do, known by the uid that the kernel gives (executor/peer.py)."""

from __future__ import annotations

import os
import pwd

from sysadmd.auth.policy import Policy
from sysadmd.auth.scope import Scope

ADMIN = "admin"
"""The role of uid 0, and of the uid that the server runs as: whoever has that one can read its database anyway."""


def account_name(uid: int) -> str:
    """The system's name for `uid`, or `uid-<number>` when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def scope_of_uid(policy: Policy, uid: int, own_uid: int | None = None) -> Scope | None:
    """The scope of a caller with this uid: `admin` for root and for the server's own uid (`own_uid`, by default ours).

    Anybody else has what the account of the same name has; None when there is none, and the caller must log in.
    """
    name = account_name(uid)
    if uid in (0, os.geteuid() if own_uid is None else own_uid):
        return policy.with_roles(name, (ADMIN,))
    return policy.scope(name)
