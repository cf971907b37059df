"""The composition root: it makes every part once, hands each what it needs, and holds their tasks.

Start and stop are one list read in two directions. What others stand on starts first (store, log, executor link) and
stops last; the listeners start last, so that nobody is answered by half a server, and stop first.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import structlog

from sysadmd import __version__, api
from sysadmd.api.services import Services
from sysadmd.auth.accounts import Accounts
from sysadmd.auth.peer import peer_uid, scope_of_uid
from sysadmd.auth.tokens import Tokens
from sysadmd.config import Config, diff, reloaded
from sysadmd.dispatcher import Dispatcher
from sysadmd.errors import StateError, SysadmdError
from sysadmd.events.log import EventLog
from sysadmd.keys.certificate import CertificateFiles, check_certificate, ensure_certificate
from sysadmd.keys.tls import reload_certificate, server_context
from sysadmd.lifepreserver import LifePreserver
from sysadmd.listen.http import HttpListener, bind
from sysadmd.listen.rest import RestApi
from sysadmd.listen.websocket import Connection, WebSocketListener
from sysadmd.rpc.engine import CLOSE_GOING_AWAY, Engine
from sysadmd.rpc.registry import Registry
from sysadmd.rpc.session import Session
from sysadmd.schema import load_methods
from sysadmd.server.logs import configure
from sysadmd.server.metrics import Metrics
from sysadmd.store import Store
from sysadmd.store.database import DATABASE_FILE
from sysadmd.system.system_state import SystemState
from sysadmd.zfs import Zfs

log = structlog.get_logger(__name__)

STOPPING = "the server is stopping"
SECRET_KEYS = frozenset({"dispatcher.variables"})
"""Keys whose values may hold secrets; the log names the key alone."""
CERTIFICATE_CHECK = 86_400.0
"""Seconds between two looks at the certificate's end."""


class App:
    """One server on one state directory, which the caller has locked."""

    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self.config, self._reload = config, reload
        self.started = time.time()
        limits = config.limits
        self.store = Store.open(config.state_dir / DATABASE_FILE)
        self.events = EventLog(self.store, node=config.node, limits=limits)
        self.accounts = Accounts(self.store, self.events, limits=limits)
        self.tokens = Tokens(self.store, self.events, self.accounts.policy, limits=limits)
        self.dispatcher = Dispatcher(self.store, self.events, config)
        zfs = Zfs(config.system_state.zpool, config.system_state.zfs)
        state, logs = config.system_state, config.lifepreserver
        self.system_state = SystemState(self.events, zfs, interval=state.interval, check=state.check)
        self.life_preserver = LifePreserver(self.events, self.store, logs.logs, interval=logs.interval)
        self.services = Services(
            config=config,
            registry=Registry(load_methods(), api.handlers()),
            events=self.events,
            accounts=self.accounts,
            tokens=self.tokens,
            dispatcher=self.dispatcher,
            system_state=self.system_state,
            life_preserver=self.life_preserver,
        )
        self.engine = Engine(
            self.services.registry,
            self.services,
            self.events,
            limits,
            keep_token=lambda token: self.tokens.resolve(token) is not None,
        )
        policy = self.accounts.policy
        policy.on_change(lambda change: self.engine.apply_policy(change, policy.scope))
        self.metrics = Metrics(self.engine, self.events, self.dispatcher)
        self.websocket = WebSocketListener(self.engine, kind="tcp", origins=config.origins, classic=config.classic)
        self.unix = WebSocketListener(self.engine, kind="unix", identify=self._identify)
        self.rest = RestApi(
            self.engine,
            self.accounts,
            self.tokens,
            metrics=self.metrics.render,
            healthy=self.health,
            snapshot=self.dispatcher.snapshot,
        )
        self.http: HttpListener | None = None
        self.tls: ssl.SSLContext | None = None

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
            await tasks.start(self.engine.run)
            await tasks.start(self.dispatcher.run)
            tasks.start_soon(self.system_state.run)
            await tasks.start(self.life_preserver.run)
            tasks.start_soon(self.tokens.run)
            tasks.start_soon(self._renew_certificate)
            await self._listen(tasks)
            ready()
            await stop.wait()
            await self._stop_listening()
            await self.dispatcher.close()
            tasks.cancel_scope.cancel()

    # Listeners

    async def _listen(self, tasks: anyio.abc.TaskGroup) -> None:
        config = self.config
        self.tls = self._tls_context()
        host = None if config.listen.host == "*" else config.listen.host
        await self.websocket.start(host=host, port=config.listen.port, ssl=self.tls if config.listen.tls else None)
        if config.socket.enabled:
            await self._listen_unix(config.socket.path)
        if config.rest.enabled:
            sockets = bind("" if config.rest.host == "*" else config.rest.host, config.rest.port)
            tls = self.tls if config.rest.tls else None
            proxies = config.rest.trusted_proxies
            self.http = HttpListener(self.rest.app(), sockets, tls, trusted_proxies=proxies, limits=config.limits)
            await tasks.start(self.http.run)

    async def _listen_unix(self, path: Path) -> None:
        """Everybody may connect; who they are, the kernel says."""
        _clear_socket(path)
        await self.unix.start(unix=True, path=os.fspath(path))
        os.chmod(path, 0o666)  # noqa: PTH101, S103  # everybody may connect, and Path.chmod is taken for blocking

    def _identify(self, session: Session, connection: Connection) -> None:
        uid, policy = peer_uid(connection.transport.get_extra_info("socket")), self.accounts.policy
        scope = scope_of_uid(policy, uid)
        if scope is not None:
            session.login(scope, None, None, lambda: scope_of_uid(policy, uid))

    def _tls_context(self) -> ssl.SSLContext | None:
        config = self.config
        if not config.listen.tls and not (config.rest.enabled and config.rest.tls):
            return None
        files = self._certificate()
        log.info("certificate", file=str(files.cert), fingerprint=files.fingerprint)
        return server_context(files.cert, files.key)

    def _certificate(self) -> CertificateFiles:
        """The configured pair, checked, or our own, made or renewed where that is due."""
        listen = self.config.listen
        if listen.certificate is not None and listen.key is not None:
            return check_certificate(listen.certificate, listen.key)
        return ensure_certificate(self.config.state_dir)

    def _use_certificate(self) -> None:
        """New connections get the pair as it is now."""
        if self.tls is not None:
            files = self._certificate()
            reload_certificate(self.tls, files.cert, files.key)

    async def _renew_certificate(self) -> None:
        """A self-signed certificate is renewed before its end; new connections get the new one."""
        while True:
            await anyio.sleep(CERTIFICATE_CHECK)
            try:
                self._use_certificate()
            except SysadmdError as error:
                log.warning("certificate", reason=str(error))

    async def _stop_listening(self) -> None:
        """No new connections or calls, what runs is drained, subscribers are told by the close reason."""
        for listener in (self.websocket, self.unix):
            listener.stop_accepting()
        await self.engine.drain(self.config.limits.drain)
        self.rest.end_streams(STOPPING)
        async with anyio.create_task_group() as tasks:
            if self.http is not None:
                tasks.start_soon(self.http.stop)
            tasks.start_soon(self.websocket.stop, CLOSE_GOING_AWAY, STOPPING)
            tasks.start_soon(self.unix.stop, CLOSE_GOING_AWAY, STOPPING)
        if self.config.socket.enabled:
            self.config.socket.path.unlink(missing_ok=True)

    # Control

    def reload(self) -> None:
        """SIGHUP: read the configuration again and take what may change; the rest is named in the log."""
        new = self._reload()
        for change in diff(self.config, new):
            level = log.info if change.reloadable else log.warning
            values = {} if change.key in SECRET_KEYS else {"old": str(change.old), "new": str(change.new)}
            level("configuration", key=change.key, **values, applied=change.reloadable)
        self.config = reloaded(self.config, new)
        configure(self.config.log)
        self.engine.limits = self.events.limits = self.tokens.limits = self.config.limits
        self.accounts.reconfigure(self.config.limits)
        self.websocket.origins, self.websocket.classic = tuple(self.config.origins), self.config.classic
        if self.http is not None:
            self.http.trust(self.config.rest.trusted_proxies)
        self.dispatcher.reconfigure(self.config)
        self._use_certificate()

    def health(self) -> dict[str, Any]:
        """What `/healthz` answers: `healthy`, and the state of each part that can fail."""
        executor = self.dispatcher.connected
        return {
            "healthy": not self.engine.draining,
            "version": __version__,
            "node": self.config.node,
            "uptime": round(time.time() - self.started, 1),
            "executor": "connected" if executor else "unreachable",
            "stopping": self.engine.draining,
        }


def _clear_socket(path: Path) -> None:
    """Make room for the socket: one that nobody answers is removed. Raises `StateError` for anything else there."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not path.is_symlink() and not path.exists():
        return
    if not path.is_socket():
        raise StateError(f"socket {path}: there is something that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise StateError(f"socket {path} is in use by another server")
