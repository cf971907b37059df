"""core4's handlers by their class names: what its permission strings are about (auth.core4_permissions).

A handler that its documents call otherwise than its programs has both names; a permission for either will do.
"""

from __future__ import annotations

from dataclasses import dataclass

from sysadmd.auth.core4_permissions import ACTIONS, NAMESPACE
from sysadmd.auth.scope import Scope

ACTION_OF = {
    "GET": ACTIONS["r"],
    "HEAD": ACTIONS["r"],
    "POST": ACTIONS["c"],
    "PUT": ACTIONS["u"],
    "PATCH": ACTIONS["u"],
    "DELETE": ACTIONS["d"],
}
"""What an HTTP verb does, to its permissions."""
_REQUEST = "core4.api.v1.request"


@dataclass(frozen=True, slots=True)
class Handler:
    """One of core4's handler classes. `access` is the class of our methods that it is like: who has that one, by our
    own roles, may call it too.
    """

    name: str
    access: str = "read"
    also: str | None = None

    def key(self, action: str) -> str:
        """`core4/<class>/<action>`: what the audit trail and the permissions call it."""
        return f"{NAMESPACE}/{self.name}/{action}"

    def permits(self, scope: Scope, action: str, access: str | None = None) -> bool:
        """Whether the scope may call it."""
        names = (self.name,) if self.also is None else (self.name, self.also)
        return any(scope.may_call(f"{NAMESPACE}/{name}/{action}", access or self.access) for name in names)


EVENT = Handler(f"{_REQUEST}.standard.event.EventHandler")
EVENT_HISTORY = Handler(f"{_REQUEST}.standard.event.EventHistoryHandler")
PROFILE = Handler(f"{_REQUEST}.standard.profile.ProfileHandler")
SYSTEM = Handler(f"{_REQUEST}.standard.system.SystemHandler")
ROLES = Handler(f"{_REQUEST}.role.main.RoleHandler", access="admin", also=f"{_REQUEST}.role.RoleHandler")
JOB_HISTORY = Handler(f"{_REQUEST}.queue.history.JobHistoryHandler", also=f"{_REQUEST}.queue.history.JobHistory")
QUEUE_HISTORY = Handler(f"{_REQUEST}.queue.history.QueueHistoryHandler", also=f"{_REQUEST}.queue.history.QueueHistory")
JOBS = Handler(f"{_REQUEST}.queue.job.JobHandler")
JOB_POST = Handler(f"{_REQUEST}.queue.job.JobPost")
JOB = Handler(f"{_REQUEST}.job.JobRequest", also=f"{_REQUEST}.job.JobHandler")
