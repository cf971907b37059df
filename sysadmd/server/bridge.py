"""The bridge process: keyring, certificate, relay, and what an administrator is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import structlog
from websockets.frames import CloseCode

from sysadmd import __version__
from sysadmd.bridge.keyring import DIRECTORY, BridgeKey, Keyring
from sysadmd.bridge.pages import Pages
from sysadmd.bridge.relay import Relay
from sysadmd.bridge.status import SOCKET, StatusSocket
from sysadmd.config import Config
from sysadmd.errors import StateError
from sysadmd.listen.pending import Pending
from sysadmd.server.certificate import ShownCertificate
from sysadmd.server.lifecycle import Service, deny_new_privileges, live, with_changes
from sysadmd.server.logs import configure
from sysadmd.server.unix_socket import clear_socket
from sysadmd.store import DATABASE_FILE

if TYPE_CHECKING:
    from sysadmd.bridge.metrics import Metrics

log = structlog.get_logger(__name__)

STOPPING = "the bridge is stopping"
TABLES = frozenset({"limits", "log", "node", "relay", "state_dir"})
"""What a bridge reads of the configuration."""
CLOSING = 5.0
"""Seconds beyond `limits.drain` after which a connection that is not closed ends with the process."""
KEYS_CHECK = 1.0
"""Seconds between two looks whether a key was taken away, which ends its connections."""


def run(config: Config, reload: Callable[[], Config]) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 2 with one line on standard error when it cannot
    start.
    """

    def make() -> Service:
        if (config.state_dir / DATABASE_FILE).exists():
            raise StateError(f"{config.state_dir} is the state directory of a server; a bridge needs one of its own")
        deny_new_privileges()  # it starts no program at all
        return Bridge(config, reload)

    return live(config, make)


class Bridge:
    """One bridge on one state directory, which the caller has locked."""

    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self.config, self._reload = config, reload
        self.started = time.time()
        self.draining = False
        self.keyring = Keyring(config.state_dir / DIRECTORY)
        self.pending = Pending(lambda: self.config.limits)
        self.relay = Relay(
            self.keyring,
            hostname=config.node,
            limits=lambda: self.config.limits,
            pending=self.pending,
            trusted_proxies=config.relay.trusted_proxies,
            answer=Pages(health=self.health, metrics=self._render_metrics).answer,
        )
        self._certificate = ShownCertificate(config.state_dir, config.relay, table="relay")
        self._status = StatusSocket(config.state_dir / SOCKET, self.status)

    async def run(self, stop: anyio.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set; `ready` is called once peers and administrators can connect."""
        async with anyio.create_task_group() as tasks:
            clear_socket(self._status.path)
            await tasks.start(self._status.serve)
            tls = None
            if self.config.relay.tls:
                tls = self._certificate.context()
                tasks.start_soon(self._certificate.renew)
            host = None if self.config.relay.host == "*" else self.config.relay.host
            await self.relay.start(host=host, port=self.config.relay.port, ssl=tls)
            tasks.start_soon(self._watch_keys)
            ready()
            await stop.wait()
            self.draining = True
            self.relay.stop_accepting()
            with anyio.move_on_after(self.config.limits.drain + CLOSING):
                await self.relay.stop(CloseCode.GOING_AWAY, STOPPING)
            tasks.cancel_scope.cancel()

    def reload(self) -> None:
        """SIGHUP: read the configuration again and take what may change; the rest is named in the log."""
        self.config = with_changes(self.config, self._reload(), TABLES)
        configure(self.config.log)
        self.relay.trust(self.config.relay.trusted_proxies)
        self._certificate.configured = self.config.relay
        self._certificate.refresh()

    def announced(self) -> dict[str, Any]:
        """What the log says of it when it is ready."""
        return {
            "node": self.config.node,
            "listen": self.relay.addresses,
            "socket": str(self._status.path),
            "keys": len(self.keyring.current()),
        }

    def health(self) -> dict[str, Any]:
        """What `/healthz` answers."""
        return {
            "healthy": not self.draining,
            "version": __version__,
            "node": self.config.node,
            "uptime": round(time.time() - self.started, 1),
            "stopping": self.draining,
        }

    def status(self) -> dict[str, Any]:
        """What the Unix socket tells: the state of health, the peers, and what was counted since the start."""
        return {
            **self.health(),
            "listen": [list(address[:2]) for address in self.relay.addresses],
            "pending": self.pending.waiting,
            "figures": self.relay.figures,
            "peers": self.relay.peers(),
        }

    def _render_metrics(self) -> bytes:
        return self._metrics.render()

    @cached_property
    def _metrics(self) -> Metrics:
        """Made by the first scrape: many bridges are never asked."""
        from sysadmd.bridge.metrics import Metrics

        return Metrics(self.relay, self.keyring, self.pending)

    async def _watch_keys(self) -> None:
        """Look after the keyring, which other processes change. Does not return."""
        known = self.keyring.current()
        while True:
            await anyio.sleep(KEYS_CHECK)
            # In a thread: it looks at every file, and a bridge must not wait for its disk.
            before, known = known, await anyio.to_thread.run_sync(self.keyring.current)
            if known is not before:
                _tell_changes(before, known)
                self.relay.keys_changed()


def _tell_changes(before: Mapping[str, BridgeKey], after: Mapping[str, BridgeKey]) -> None:
    old, new = ({(key.nick, fingerprint) for fingerprint, key in keys.items()} for keys in (before, after))
    for text, changed in (("key removed", old - new), ("key added", new - old)):
        for nick, fingerprint in sorted(changed):
            log.info(text, nick=nick, fingerprint=fingerprint)
