"""A link: this server dials one bridge, and dials it again whenever the connection has ended.

Attempts follow each other at growing intervals, up to a minute, which is what the original servers wait (spec sysadm
§6.7); a connection that lived for a minute starts them anew. A bridge that does not know our key yet is tried again as
well, since its administrator imports it when they find the time; an original one at the longest interval from the
beginning, because it bans for an hour whoever fails twice, and a minute is more than a second to import a key in.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import msgspec
import structlog

from sysadmd.backoff import Backoff
from sysadmd.bridge.dial import CLOSE_TIMEOUT, Dialler, LinkConnection, Untrusted
from sysadmd.bridge.guests import Guests
from sysadmd.bridge.known import KnownBridges
from sysadmd.bridge.line import Line, LinkEnded, LinkRefused
from sysadmd.config import BridgeLink
from sysadmd.errors import SysadmdError
from sysadmd.keys.bridge import bridge_key
from sysadmd.keys.sealing import Sealing
from sysadmd.listen.websocket import close_reason
from sysadmd.rpc.engine import Engine

log = structlog.get_logger(__name__)

State = Literal["connecting", "connected", "refused", "waiting"]

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second attempt, and before any."""
LATE = 6
"""The first attempt that is waited for as long as any."""
STEADY = 60.0
"""Seconds of a connection after which the next attempt comes as soon as the first one did."""
TELL_KEYS_AFTER = 0.1
"""Seconds in which several changes of the keyring become one list."""


class LinkStatus(msgspec.Struct, frozen=True, gc=False):
    """How a link is. `since` is Unix seconds of its state; `peers` are announced, `sessions` of them open; `error` says
    why it is not connected.
    """

    name: str
    url: str
    state: State
    since: float
    peers: int
    sessions: int
    error: str | None = None


class Link:
    """The way to one bridge. `checksums` gives those of all registered keys."""

    def __init__(
        self,
        name: str,
        link: BridgeLink,
        engine: Engine,
        *,
        node: str,
        state_dir: Path,
        checksums: Callable[[], list[str]],
        sealing: Sealing,
        allow_classic: bool,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.link, self._engine, self._node, self._state_dir = name, link, engine, node, state_dir
        self._checksums, self._sealing, self._allow_classic = checksums, sealing, allow_classic
        self._backoff, self._clock = backoff or Backoff(FIRST_WAIT, LONGEST_WAIT), clock
        self._dialler = Dialler(name, link, KnownBridges(state_dir), lambda: engine.limits)
        self.dropped: Counter[str] = Counter()
        """Frames that were not handed on, by reason, of all connections."""
        self._state: State = "connecting"
        self._since = clock()
        self._error: str | None = None
        self._told: str | None = None
        self._connection: LinkConnection | None = None
        self._line: Line | None = None
        self._guests: Guests | None = None
        self._keys_due: asyncio.TimerHandle | None = None
        self._stopping = asyncio.Event()

    def status(self) -> LinkStatus:
        """How it is now."""
        guests = self._guests
        peers, sessions = (0, 0) if guests is None else (len(guests.peers), guests.sessions)
        return LinkStatus(self.name, self._dialler.url, self._state, self._since, peers, sessions, self._error)

    async def run(self) -> None:
        """Keep the link up, until `stop` or cancelled."""
        attempt = 0
        while not self._stopping.is_set():
            if self._state != "connecting":
                self._become("connecting")
            try:
                error = await self._attempt()
            except Exception:
                # A fault of ours ends this connection, which may have brought it on, and nothing else.
                log.exception("bridge link failed", link=self.name)
                error = LinkEnded("a fault of this server's; the log has it")
            if self._state == "connected" and self._clock() - self._since >= STEADY:
                attempt = 0
            if self._stopping.is_set():
                return
            self._lost(error)
            if isinstance(error, LinkRefused) and error.original:
                attempt = max(attempt, LATE)
            await anyio.sleep(self._backoff.delay(attempt))
            attempt += 1

    async def stop(self, code: int, reason: str) -> None:
        """End the connection, with what was written before, and dial no more. The peers learn from the bridge."""
        self._stopping.set()
        if self._connection is not None and self._line is not None:
            self._line.flush()
            await self._connection.close(code, close_reason(reason))

    def allow(self, *, classic: bool) -> None:
        """Whether the original clients may come in from now on."""
        self._allow_classic = classic
        if self._guests is not None:
            self._guests.allow(classic=classic)

    def keys_changed(self) -> None:
        """The keyring changed; the bridge is told soon."""
        if self._keys_due is None and self._line is not None:
            self._keys_due = asyncio.get_running_loop().call_later(TELL_KEYS_AFTER, self._tell_keys)

    def _tell_keys(self) -> None:
        self._keys_due = None
        if self._line is not None:
            self._line.tell_keys()

    async def _attempt(self) -> SysadmdError:
        """One connection, from dialling to its end, and why it ended."""
        try:
            key = await anyio.to_thread.run_sync(bridge_key, self._state_dir)
            seal = await self._sealing.context()
            self._connection = connection = await self._dialler.dial()
        except SysadmdError as error:
            return error
        line = self._line = Line(
            connection,
            node=self._node,
            key=key,
            limits=lambda: self._engine.limits,
            checksums=self._checksums,
            dropped=self.dropped,
            logged_in=self._connected,
        )
        guests = self._guests = Guests(
            self._engine,
            self.name,
            seal=seal,
            send=line.send,
            writable=line.writable,
            dropped=self.dropped,
            allow_classic=self._allow_classic,
        )
        try:
            await line.run(guests)
        except LinkEnded as error:
            return error
        finally:
            self._connection = self._line = self._guests = None
            with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await connection.close()
            connection.transport.abort()
        raise AssertionError("a line ends by an exception")

    def _connected(self) -> None:
        self._become("connected")
        self._error = self._told = None
        log.info("bridge link up", link=self.name, url=self._dialler.url)

    def _lost(self, error: SysadmdError) -> None:
        refused = isinstance(error, LinkRefused | Untrusted)
        self._become("refused" if refused else "waiting")
        self._error = str(error)
        # Once for each reason: a bridge that is away for a week would fill the log.
        if self._error != self._told:
            self._told = self._error
            log.warning("bridge link down", link=self.name, reason=self._error)

    def _become(self, state: State) -> None:
        self._state, self._since = state, self._clock()
