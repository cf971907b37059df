"""The methods of a stopped server: the same handlers, schemas and audit trail on a state directory that is locked.

What administers identities needs no listener, no executor and no pool, so that a command on a stopped server is one
call through the ordinary pipeline. A method that needs a part which is not there is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import anyio

from sysadmd import api
from sysadmd.api.services import Services
from sysadmd.auth.identity import Peer
from sysadmd.auth.peer import account_name, scope_of_uid
from sysadmd.config import Log, load
from sysadmd.errors import RpcError, Unavailable
from sysadmd.events.log import EventLog
from sysadmd.keys.sealing import Sealing
from sysadmd.listen.discard import DiscardOutlet
from sysadmd.rpc.engine import Engine
from sysadmd.rpc.registry import Registry
from sysadmd.schema import load_methods
from sysadmd.server.auth import Auth
from sysadmd.server.logs import configure
from sysadmd.store import DATABASE_FILE, Store
from sysadmd.wire.messages import Request
from sysadmd.wire.sysadm import SYSADM

CONNECTED = "rpc/sessions/"
"""Methods about the connections of a server; the one of this call would be no answer."""


class Offline:
    """A stopped server, whose state directory the caller has locked."""

    def __init__(self, state_dir: Path) -> None:
        self._config = load(None, {"state_dir": str(state_dir)})
        configure(Log(level="warning"))  # standard output is the command's

    def call(self, method: str, args: dict[str, Any] | None = None) -> Any:
        """The result of one method, called as the user of this process. Raises RpcError."""
        return anyio.run(self._call, method, {} if args is None else args)

    async def _call(self, method: str, args: dict[str, Any]) -> Any:
        store = Store.open(self._config.state_dir / DATABASE_FILE)
        try:
            events = EventLog(store, node=self._config.node, limits=self._config.limits)
            auth = Auth(store, events, self._config)
            async with anyio.create_task_group() as tasks:
                await tasks.start(events.run)
                outcome = await self._outcome(events, auth, method, args)
                await auth.audit.checkpoint()
                tasks.cancel_scope.cancel()
        finally:
            store.close()
        if isinstance(outcome, RpcError):
            raise outcome
        return outcome

    async def _outcome(self, events: EventLog, auth: Auth, method: str, args: dict[str, Any]) -> Any:
        """The result or the refusal: raised within the task group it would come out as a group."""
        try:
            return await self._perform(events, auth, method, args)
        except RpcError as error:
            return error

    async def _perform(self, events: EventLog, auth: Auth, method: str, args: dict[str, Any]) -> Any:
        if method.startswith(CONNECTED):
            raise Unavailable("no server runs on this state directory, and only a running one has sessions")
        registry = Registry(load_methods(), api.handlers())
        services = Services(
            config=self._config,
            registry=registry,
            events=events,
            accounts=auth.accounts,
            tokens=auth.tokens,
            api_tokens=auth.api_tokens,
            keys=auth.keys,
            authenticator=auth.authenticator,
            throttle=auth.throttle,
            audit=auth.audit,
            dispatcher=cast("Any", _Absent("dispatcher")),
            queue=cast("Any", _Absent("job queue")),
            tasks=cast("Any", _Absent("worker")),
            workqueue=cast("Any", _Absent("job queue")),
            system_state=cast("Any", _Absent("system state")),
            life_preserver=cast("Any", _Absent("life preserver")),
            sealing=Sealing(self._config.state_dir),
            bridges=cast("Any", _Absent("link to a bridge")),
        )
        engine = Engine(registry, services, events, self._config.limits, trail=auth.audit, keep_token=auth.token_holds)
        auth.tie(engine)
        session = engine.open(DiscardOutlet(), Peer(f"offline:{account_name(os.geteuid())}", "offline"))
        scope = scope_of_uid(auth.policy, os.geteuid())
        assert scope is not None  # of our own uid, which administers
        session.login(scope, None, None, lambda: scope_of_uid(auth.policy, os.geteuid()), method="socket")
        namespace, name, *action = method.split("/")
        try:
            return await session.perform(Request(namespace, name, action[0] if action else None, "", args), SYSADM)
        finally:
            session.close()


class _Absent:
    """Stands for a part that only a running server has."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise Unavailable(f"no server runs on this state directory, and only a running one has a {self._name}")
