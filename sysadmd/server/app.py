"""The composition root: it makes every part once, hands each what it needs, and holds their tasks.

Start and stop are one list read in two directions. What others stand on starts first (store, log, executor link) and
stops last; the listeners start last, so that nobody is answered by half a server, and stop first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from sysadmd import __version__, api
from sysadmd.api.services import Services
from sysadmd.config import Config
from sysadmd.dispatcher import Dispatcher
from sysadmd.dispatcher.service import OUTPUT_DIRECTORY
from sysadmd.events.log import EventLog
from sysadmd.jobs.permitted import PermittedJobs
from sysadmd.jobs.queue import Queue
from sysadmd.jobs.workqueue.service import Workqueue
from sysadmd.keys.sealing import Sealing
from sysadmd.lifepreserver import LifePreserver
from sysadmd.rpc.engine import Engine
from sysadmd.rpc.registry import Registry
from sysadmd.schema import load_methods
from sysadmd.server.auth import Auth
from sysadmd.server.client_certificates import ClientCertificates
from sysadmd.server.lifecycle import with_changes
from sysadmd.server.links import Links
from sysadmd.server.listeners import Listeners
from sysadmd.server.logs import configure
from sysadmd.server.workers import Workers
from sysadmd.store import Store
from sysadmd.store.database import DATABASE_FILE
from sysadmd.system.system_state import SystemState
from sysadmd.zfs import Zfs

if TYPE_CHECKING:
    from sysadmd.listen.rest import RestApi
    from sysadmd.server.metrics import Metrics

log = structlog.get_logger(__name__)


class App:
    """One server on one state directory, which the caller has locked."""

    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self.config, self._reload = config, reload
        self.started = time.time()
        limits = config.limits
        self.store = Store.open(config.state_dir / DATABASE_FILE)
        self.events = EventLog(self.store, node=config.node, limits=limits)
        self.dispatcher = Dispatcher(self.store, self.events, config, launch_executor=config.dispatcher.launch_executor)
        auth = self.auth = Auth(self.store, self.events, config, system_check=self.dispatcher)
        self.dispatcher.record_in(auth.audit)
        self.queue = Queue(self.store, self.events, config)
        self.workers = Workers(config, self.queue)
        self.workqueue = self._workqueue()
        self.system_state = _system_state(config, self.events)
        logs = config.lifepreserver
        self.life_preserver = LifePreserver(self.events, self.store, logs.logs, interval=logs.interval)
        self.sealing = Sealing(config.state_dir)
        self.links = Links(config, auth.keys, self.sealing)
        self.services = self._services()
        self.engine = Engine(
            self.services.registry,
            self.services,
            self.events,
            limits,
            trail=auth.audit,
            keep_token=auth.token_holds,
        )
        auth.tie(self.engine)
        certificates = ClientCertificates(auth.keys, auth.authenticator)
        self.listeners = Listeners(config, self.engine, auth.policy, certificates, self._rest_api)
        auth.keys.on_change(lambda revoked: self.listeners.keys_changed())

    def _workqueue(self) -> Workqueue:
        return Workqueue(
            self.queue,
            self.store,
            self.events,
            self.config.state_dir / "output",
            knows_site=lambda number: number in self.config.sites,
            limits=lambda: self.config.limits,
        )

    def _services(self) -> Services:
        auth = self.auth
        return Services(
            config=self.config,
            registry=Registry(load_methods(), api.handlers()),
            events=self.events,
            accounts=auth.accounts,
            tokens=auth.tokens,
            api_tokens=auth.api_tokens,
            keys=auth.keys,
            authenticator=auth.authenticator,
            throttle=auth.throttle,
            audit=auth.audit,
            dispatcher=self.dispatcher,
            queue=self.queue,
            tasks=self.workers.catalogue,
            workqueue=self.workqueue,
            system_state=self.system_state,
            life_preserver=self.life_preserver,
            sealing=self.sealing,
            bridges=self.links,
        )

    async def run(self, stop: anyio.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set; `ready` is called once every listener takes connections."""
        try:
            async with anyio.create_task_group() as log_task:
                await log_task.start(self.events.run)
                await self._run_services(stop, ready)
                # Last of all: what the others wrote while they ended is in it.
                log_task.cancel_scope.cancel()
        finally:
            self.store.close()

    async def _run_services(self, stop: anyio.Event, ready: Callable[[], None]) -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(partial(self.auth.audit.run, version=__version__))
            await tasks.start(self.engine.run)
            await tasks.start(self.dispatcher.run)
            await tasks.start(self.queue.run)
            await tasks.start(self.workers.run)
            tasks.start_soon(self.system_state.run)
            await tasks.start(self.life_preserver.run)
            tasks.start_soon(self.auth.tokens.run)
            tasks.start_soon(self.auth.throttle.run)
            await self.listeners.start(tasks)
            self.links.start(self.engine, tasks)
            ready()
            await stop.wait()
            async with anyio.create_task_group() as ends:
                ends.start_soon(self.workers.drain)
                await self.listeners.stop()
                await self.links.stop()
            await self.dispatcher.close()
            tasks.cancel_scope.cancel()

    def _rest_api(self) -> RestApi:
        """The HTTP surface, imported only where it is served."""
        from sysadmd.listen.core4.mount import Core4
        from sysadmd.listen.jobs.facade import JobsApi
        from sysadmd.listen.rest import RestApi
        from sysadmd.listen.workqueue.facade import WorkqueueApi

        rest = RestApi(
            self.engine,
            self.auth.authenticator,
            self.auth.tokens,
            metrics=self._render_metrics,
            healthy=self.health,
            snapshot=self.dispatcher.snapshot,
            origins=self.config.origins,
        )
        rest.mount(Core4(rest.door, self.services, self.listeners.websocket))
        rest.mount(WorkqueueApi(rest.door, self.workqueue))
        outputs = self.config.state_dir / OUTPUT_DIRECTORY
        rest.mount(
            JobsApi(
                rest.door,
                lambda caller: PermittedJobs(self.queue, self.workers.catalogue, caller, outputs),
                outputs,
            )
        )
        return rest

    def _render_metrics(self) -> bytes:
        return self._metrics.render()

    @cached_property
    def _metrics(self) -> Metrics:
        """Made by the first scrape: a start need not wait for an import that many servers never use."""
        from sysadmd.server.metrics import Metrics

        return Metrics(self.engine, self.events, self.dispatcher, self.queue, self.links)

    # Control

    def reload(self) -> None:
        """SIGHUP: read the configuration again and take what may change; the rest is named in the log."""
        self.config = with_changes(self.config, self._reload())
        configure(self.config.log)
        self.engine.limits = self.events.limits = self.config.limits
        self.auth.reconfigure(self.config)
        self.dispatcher.reconfigure(self.config)
        self.queue.reconfigure(self.config)
        self.workers.reconfigure(self.config)
        self.listeners.reconfigure(self.config)
        self.links.reconfigure(self.config)

    def announced(self) -> dict[str, Any]:
        """What the log says of it when it is ready."""
        socket, http = self.config.socket, self.listeners.http
        return {
            "node": self.config.node,
            "listen": self.listeners.websocket.addresses,
            "rest": http.addresses if http else [],
            "socket": str(socket.path) if socket.enabled else None,
        }

    def health(self) -> dict[str, Any]:
        """What `/healthz` answers: `healthy`, and the state of each part that can fail."""
        executor = self.dispatcher.connected
        return {
            "healthy": not self.engine.draining,
            "version": __version__,
            "node": self.config.node,
            "uptime": round(time.time() - self.started, 1),
            "executor": "connected" if executor else "unreachable",
            **self._bridges_health(),
            "stopping": self.engine.draining,
        }

    def _bridges_health(self) -> dict[str, Any]:
        """Numbers only: anybody may ask."""
        links = self.links.listed()
        connected = sum(link.state == "connected" for link in links)
        return {"bridges": {"links": len(links), "connected": connected}} if links else {}


def _system_state(config: Config, events: EventLog) -> SystemState:
    options = config.system_state
    return SystemState(events, Zfs(options.zpool, options.zfs), interval=options.interval, check=options.check)
