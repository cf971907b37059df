"""What handlers stand on. The composition root (`sysadmd.server`) fills it once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sysadmd.auth.accounts import Accounts
    from sysadmd.auth.api_tokens import ApiTokens
    from sysadmd.auth.audit import Audit
    from sysadmd.auth.authenticator import Authenticator
    from sysadmd.auth.keys import Keys
    from sysadmd.auth.throttle import Throttle
    from sysadmd.auth.tokens import Tokens
    from sysadmd.config import Config
    from sysadmd.dispatcher import Dispatcher
    from sysadmd.events.log import EventLog
    from sysadmd.jobs.queue import Queue
    from sysadmd.jobs.tasks.catalogue import Catalogue
    from sysadmd.jobs.workqueue.service import Workqueue
    from sysadmd.keys.sealing import Sealing
    from sysadmd.lifepreserver import LifePreserver
    from sysadmd.rpc.registry import Registry
    from sysadmd.system.system_state import SystemState


class Bridges(Protocol):
    """The links to bridges, which are made above the handlers."""

    def listed(self) -> Sequence[Any]:
        """How each link is: name, url, state, since, peers, sessions, error."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one server."""

    config: Config
    registry: Registry
    events: EventLog
    accounts: Accounts
    tokens: Tokens
    api_tokens: ApiTokens
    keys: Keys
    authenticator: Authenticator
    throttle: Throttle
    audit: Audit
    dispatcher: Dispatcher
    queue: Queue
    tasks: Catalogue
    workqueue: Workqueue
    system_state: SystemState
    life_preserver: LifePreserver
    sealing: Sealing
    bridges: Bridges
