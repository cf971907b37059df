"""The server's listeners together: what they share, when they start, and how they stop."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import structlog

from sysadmd.auth.peer import scope_of_uid
from sysadmd.auth.policy import Policy
from sysadmd.config import Config
from sysadmd.errors import SysadmdError
from sysadmd.executor.peer import peer_uid
from sysadmd.listen.pending import Pending
from sysadmd.listen.websocket import Connection, WebSocketListener
from sysadmd.rpc.engine import CLOSE_GOING_AWAY, Engine
from sysadmd.rpc.session import Session
from sysadmd.server.certificate import ShownCertificate
from sysadmd.server.client_certificates import ClientCertificates
from sysadmd.server.unix_socket import clear_socket

if TYPE_CHECKING:
    from sysadmd.listen.http import HttpListener
    from sysadmd.listen.rest import RestApi

log = structlog.get_logger(__name__)

STOPPING = "the server is stopping"


class Listeners:
    """WebSocket over TCP, the same on the Unix socket, and HTTP, for which `make_rest` is asked if it is enabled."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        policy: Policy,
        certificates: ClientCertificates,
        make_rest: Callable[[], RestApi],
    ) -> None:
        self.config, self._engine, self._policy, self._make_rest = config, engine, policy, make_rest
        self._certificates = certificates
        self._rest: RestApi | None = None
        self.pending = Pending(lambda: engine.limits)
        self.websocket = WebSocketListener(
            engine,
            kind="tcp",
            origins=config.origins,
            classic=config.classic,
            identify=certificates.identify,
            pending=self.pending,
        )
        self.unix = WebSocketListener(engine, kind="unix", identify=self._identify)
        self.http: HttpListener | None = None
        self._certificate = ShownCertificate(config.state_dir, config.listen, table="listen")
        self._tls: ssl.SSLContext | None = None
        self._rest_tls: ssl.SSLContext | None = None

    async def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Take connections. What goes on in the background belongs to `tasks`."""
        config = self.config
        self._make_contexts()
        self.ask_clients()
        host = None if config.listen.host == "*" else config.listen.host
        await self.websocket.start(host=host, port=config.listen.port, ssl=self._tls)
        if config.socket.enabled:
            await self._start_unix(config.socket.path)
        if config.rest.enabled:
            self.http = self._http_listener()
            await tasks.start(self.http.run)
        tasks.start_soon(self._certificate.renew)

    async def stop(self) -> None:
        """No new connections or calls, what runs is drained, subscribers are told by the close reason."""
        for listener in (self.websocket, self.unix):
            listener.stop_accepting()
        await self._engine.drain(self.config.limits.drain)
        if self._rest is not None:
            self._rest.end_streams(STOPPING)
        async with anyio.create_task_group() as tasks:
            if self.http is not None:
                tasks.start_soon(self.http.stop)
            tasks.start_soon(self.websocket.stop, CLOSE_GOING_AWAY, STOPPING)
            tasks.start_soon(self.unix.stop, CLOSE_GOING_AWAY, STOPPING)
        if self.config.socket.enabled:
            self.config.socket.path.unlink(missing_ok=True)

    def reconfigure(self, config: Config) -> None:
        """Take the changed keys of a configuration. Raises SysadmdError for a certificate that cannot be used."""
        self.config = config
        self.websocket.origins, self.websocket.classic = tuple(config.origins), config.classic
        if self.http is not None and self._rest is not None:
            self.http.trust(config.rest.trusted_proxies)
            self._rest.door.origins = tuple(config.origins)
        self._certificate.configured = config.listen
        self._certificate.refresh()
        self.ask_clients()

    def ask_clients(self) -> None:
        """Ask new connections for the certificates that count now. Raises StateError (`client_ca`)."""
        if self._tls is not None:
            self._certificates.prepare(self._tls, self.config.listen)

    def keys_changed(self) -> None:
        """The keyring changed. A file of authorities that is gone by now keeps no key from being revoked."""
        try:
            self.ask_clients()
        except SysadmdError as error:
            log.warning("client certificates", reason=str(error))

    def _http_listener(self) -> HttpListener:
        from starlette.routing import WebSocketRoute

        from sysadmd.listen.http import HttpListener, bind
        from sysadmd.listen.upgrade import Upgrade

        rest, limits = self.config.rest, self.config.limits
        self._rest = self._make_rest()
        sockets = bind("" if rest.host == "*" else rest.host, rest.port)
        app = self._rest.app(WebSocketRoute("/ws", Upgrade(self._engine, self.websocket).serve))
        return HttpListener(app, sockets, self._rest_tls, trusted_proxies=rest.trusted_proxies, limits=limits)

    async def _start_unix(self, path: Path) -> None:
        """Everybody may connect; who they are, the kernel says."""
        clear_socket(path)
        await self.unix.start(unix=True, path=os.fspath(path))
        os.chmod(path, 0o666)  # noqa: PTH101, S103  # everybody may connect, and Path.chmod is taken for blocking

    async def _identify(self, session: Session, connection: Connection) -> None:
        uid, policy = peer_uid(connection.transport.get_extra_info("socket")), self._policy
        scope = scope_of_uid(policy, uid)
        if scope is not None:
            session.login(scope, None, None, lambda: scope_of_uid(policy, uid), method="socket")
            # Nobody waits for it: on a disk that is full, the administrator has to get in.
            self._engine.trail.record(
                "login", account=scope.account, peer=session.peer, session=session.id, method="socket", uid=uid
            )

    def _make_contexts(self) -> None:
        """One context for each listener: they show the same certificate, and only one asks for the client's."""
        config = self.config
        if config.listen.tls:
            self._tls = self._certificate.context()
        if config.rest.enabled and config.rest.tls:
            self._rest_tls = self._certificate.context()
