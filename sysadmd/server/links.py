"""The links of one server to bridges: which there are, their tasks, and what is known of them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import anyio
import structlog

from sysadmd.auth.key_table import Registered
from sysadmd.auth.keys import Keys
from sysadmd.config import BridgeLink, Config
from sysadmd.rpc.engine import CLOSE_GOING_AWAY, Engine

if TYPE_CHECKING:
    from sysadmd.bridge.link import Link, LinkStatus
    from sysadmd.keys.sealing import Sealing

log = structlog.get_logger(__name__)

STOPPING = "the server is stopping"
CLOSE_NORMAL = 1000
"""RFC 6455 §7.4.1: the purpose of the connection is fulfilled."""

CLOSED_WITHIN = 2.0
"""Seconds for the closing handshake with a bridge: the peers are served no more, so that nothing is lost by less."""


class Links:
    """One link for each table `[bridges.NAME]`. Without any, nothing of the bridge is even imported."""

    def __init__(self, config: Config, keys: Keys, sealing: Sealing) -> None:
        self._config, self._keys, self._sealing = config, keys, sealing
        keys.on_change(self._keys_changed)
        self._engine: Engine | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._links: dict[str, tuple[Link, anyio.CancelScope]] = {}

    def start(self, engine: Engine, tasks: anyio.abc.TaskGroup) -> None:
        """Dial every bridge. What goes on in the background belongs to `tasks`."""
        self._engine, self._tasks = engine, tasks
        for name, link in self._config.bridges.items():
            self._begin(name, link)

    def reconfigure(self, config: Config) -> None:
        """Dial what is new, leave what is gone, and both for what changed."""
        old, self._config = self._config, config
        if self._tasks is None:
            return
        for name in [name for name in self._links if config.bridges.get(name) != old.bridges.get(name)]:
            self._tasks.start_soon(self._end, *self._links.pop(name), CLOSE_NORMAL, "the link was removed")
        for name, link in config.bridges.items():
            if name not in self._links:
                self._begin(name, link)
        for open_link, _ in self._links.values():
            open_link.allow(classic=config.bridge.allow_classic)

    async def stop(self) -> None:
        """End every link, at once."""
        links, self._links = self._links, {}
        self._tasks = None
        async with anyio.create_task_group() as tasks:
            for link, scope in links.values():
                tasks.start_soon(self._end, link, scope, CLOSE_GOING_AWAY, STOPPING)

    def listed(self) -> list[LinkStatus]:
        """How each link is, by name."""
        return [self._links[name][0].status() for name in sorted(self._links)]

    def dropped(self) -> Counter[tuple[str, str]]:
        """Frames that were not handed on, by link and reason."""
        return Counter({(name, why): n for name, (link, _) in self._links.items() for why, n in link.dropped.items()})

    def _keys_changed(self, revoked: tuple[Registered, ...]) -> None:
        """The bridges pair us with those who have a key that is registered."""
        for link, _ in self._links.values():
            link.keys_changed()

    def _checksums(self) -> list[str]:
        return [key.checksum for key in self._keys.of()]

    def _begin(self, name: str, configured: BridgeLink) -> None:
        from sysadmd.bridge.link import Link

        assert self._engine is not None
        assert self._tasks is not None
        config, scope = self._config, anyio.CancelScope()
        link = Link(
            name,
            configured,
            self._engine,
            node=config.node,
            state_dir=config.state_dir,
            checksums=self._checksums,
            sealing=self._sealing,
            allow_classic=config.bridge.allow_classic,
        )
        self._links[name] = (link, scope)
        self._tasks.start_soon(partial(_run, link, scope))

    async def _end(self, link: Link, scope: anyio.CancelScope, code: int, reason: str) -> None:
        with anyio.move_on_after(CLOSED_WITHIN):
            await link.stop(code, reason)
        scope.cancel()


async def _run(link: Link, scope: anyio.CancelScope) -> None:
    with scope:
        await link.run()
