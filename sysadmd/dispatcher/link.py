"""The server's end of the connection to the executor: one at a time, made again for as long as the server lives.

The hand-over, and why it loses nothing: the executor knows single attempts and keeps the exit of each on disk until we
have committed it and say so (`Ack`). We commit the lease of an attempt before we send its `Start`. So after any break,
of the connection, of this server or of the executor, the two lists together tell what became of every attempt:

    the executor says          we have it leased        then it
    running                    yes                      is adopted: we wait for its exit as if nothing had been
    exit                       yes                      has ended; we commit that and acknowledge
    nothing, same instance     yes                      was never started: we send the same Start again
    nothing, another instance  yes                      is lost: its executor is dead and took the result along
    running or exit            no                       belongs to a store that has forgotten it: left alone,
    acknowledged

The alternative, to let the server spawn and the children survive it, would have to find again by pid what it no longer
is the parent of, and could never learn an exit code. A connection counts as made once `Listing` has come; before that
`instance` is None and nothing is leased.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from sysadmd.dispatcher.password_checks import PasswordChecks
from sysadmd.errors import ExecutorError
from sysadmd.executor import protocol
from sysadmd.executor.peer import peer_uid
from sysadmd.executor.protocol import (
    Ack,
    Authenticated,
    Channel,
    ErrorFrame,
    ExecutorHello,
    Exit,
    Listing,
    Signal,
    Start,
    Started,
)

log = logging.getLogger(__name__)

HANDSHAKE = 10.0
"""Seconds from the connection to the listing."""
RETRY_FIRST = 0.02
RETRY_MAX = 1.0
"""Seconds between two tries to connect: short at first, since a launched executor answers in some 50 ms."""
RELAUNCH = 5.0
"""Seconds between two launches of an executor."""


class LinkHandler(Protocol):
    """Who is told what comes over the link. All are called from the loop and must not block."""

    def connected(self, instance: str, listing: Listing) -> None:
        """The link is up; the listing's exits were not given to `exited`."""
        ...

    def started(self, frame: Started) -> None:
        """An attempt runs."""
        ...

    def exited(self, frame: Exit) -> None:
        """An attempt has ended."""
        ...

    def refused(self, frame: ErrorFrame) -> None:
        """A frame was refused."""
        ...

    def disconnected(self) -> None:
        """The link is down; attempts go on."""
        ...


class Link(Protocol):
    """What the dispatcher needs of a link; `instance` names the executor while the link is up, `features` are its."""

    instance: str | None
    features: frozenset[str]

    async def run(self, handler: LinkHandler) -> None:
        """Keep the link up until cancelled."""
        ...

    def start(self, frame: Start, descriptor: int) -> bool:
        """Send a Start; False when the link is down. The descriptor is closed in any case.

        Raises ExecutorError for a frame that can never be sent.
        """
        ...

    def signal(self, attempt: str, name: protocol.SignalName) -> bool:
        """Signal an attempt; `kill` is TERM, then KILL after the grace. False when the link is down."""
        ...

    def acknowledge(self, attempts: Iterable[str]) -> None:
        """The exits of these are in the store."""
        ...

    async def authenticate(self, user: str, password: str) -> Authenticated:
        """What PAM says, where the executor has the feature. Raises Unavailable and TooManyRequests."""
        ...


class ExecutorLink:
    """Connects to the socket at `path`, and connects again. `launch` starts an executor where none answers (None:
    somebody else does).
    """

    def __init__(self, path: Path, *, server: str = "", launch: Callable[[], None] | None = None) -> None:
        self._path = path
        self._server = server
        self._launch = launch
        self._channel: Channel | None = None
        self._pending_instance: str | None = None
        self._closed = asyncio.Event()
        self._listed = asyncio.Event()
        self._handler: LinkHandler | None = None
        self._was_up = False
        """Whether this connection, or the one before, got to its listing."""
        self._told = ""
        """Why the last connection was not made, as logged."""
        self.instance: str | None = None
        self.features: frozenset[str] = frozenset()
        self._checks = PasswordChecks(self._ask)

    async def run(self, handler: LinkHandler) -> None:
        """Keep the link up until cancelled."""
        self._handler = handler
        delay, launched = RETRY_FIRST, -RELAUNCH
        try:
            while True:
                try:
                    sock = self._trusted(await anyio.to_thread.run_sync(protocol.connect, self._path))
                except ExecutorError as error:
                    if self._launch is not None and anyio.current_time() - launched >= RELAUNCH:
                        log.info("%s; starting one", error)
                        await self._start_executor(self._launch)
                        launched, delay = anyio.current_time(), RETRY_FIRST
                    await anyio.sleep(delay)
                    delay = min(delay * 2, RETRY_MAX)
                    continue
                self._open(Channel(sock, "server", on_frame=self._frame, on_close=self._close))
                # One that takes connections and drops them is asked more and more seldom, as one that does not answer.
                delay = RETRY_FIRST if await self._stay() else min(delay * 2, RETRY_MAX)
                await anyio.sleep(delay)
        finally:
            if self._channel is not None:
                self._channel.close()
            self.instance = None

    def _trusted(self, sock: socket.socket) -> socket.socket:
        """`sock`, when root or our own user listens at its other end: an executor is told commands and passwords.

        Raises ExecutorError otherwise; the socket is closed then.
        """
        try:
            if (uid := peer_uid(sock)) in (0, os.geteuid()):
                return sock
            text = f"uid {uid} listens at {self._path}, and neither root nor this server's own user"
        except OSError as error:
            text = f"it cannot be known who listens at {self._path}: {error.strerror or error}"
        sock.close()
        if text != self._told:
            self._told = text
            log.error("no link to the executor is made: %s", text)
        raise ExecutorError(text)

    def start(self, frame: Start, descriptor: int) -> bool:
        """Send a Start; False when the link is down. The descriptor is closed in any case.

        Raises ExecutorError for a frame that can never be sent.
        """
        return self._send(frame, descriptor)

    def signal(self, attempt: str, name: protocol.SignalName) -> bool:
        """Signal an attempt; `kill` is TERM, then KILL after the grace. False when the link is down."""
        return self._send(Signal(attempt=attempt, signal=name))

    def acknowledge(self, attempts: Iterable[str]) -> None:
        """The exits of these are in the store. When the link is down they come again, and are acknowledged then."""
        for attempt in attempts:
            if not self._send(Ack(attempt=attempt)):
                return

    async def authenticate(self, user: str, password: str) -> Authenticated:
        """What PAM says, where the executor has the feature. Raises Unavailable and TooManyRequests."""
        return await self._checks.ask(user, password)

    def _ask(self, frame: protocol.Authenticate) -> bool:
        return self.instance is not None and protocol.PAM in self.features and self._send(frame)

    def _send(self, frame: protocol.ToExecutor, descriptor: int | None = None) -> bool:
        channel = self._channel
        if channel is None or channel.closed:
            if descriptor is not None:
                os.close(descriptor)
            return False
        channel.send(frame, descriptor)  # what it raises here is the frame's fault, not the link's
        return True

    async def _start_executor(self, launch: Callable[[], None]) -> None:
        try:
            await anyio.to_thread.run_sync(launch)
        except (ExecutorError, OSError) as error:
            log.error("cannot start an executor: %s", error)  # the reason is in the text

    def _open(self, channel: Channel) -> None:
        self._channel = channel
        self._closed.clear()
        self._listed.clear()
        self._pending_instance = None
        self._was_up = False
        self._send(protocol.ServerHello(proto=protocol.PROTOCOL, server=self._server))
        self._send(protocol.List())

    async def _stay(self) -> bool:
        """Wait for the end of the connection; one without a listing in time is ended. Says whether there was one."""
        with anyio.move_on_after(HANDSHAKE):
            await self._listed.wait()
        if not self._listed.is_set() and self._channel is not None:
            log.warning("the executor did not say what runs within %.0f s; connecting again", HANDSHAKE)
            self._channel.close()
        await self._closed.wait()
        return self._was_up

    def _frame(self, frame: protocol.ToExecutor | protocol.FromExecutor, _descriptor: int | None) -> None:
        assert self._handler is not None
        match frame:
            case Exit():
                self._handler.exited(frame)
            case Started():
                self._handler.started(frame)
            case ExecutorHello():
                self._hello(frame)
            case Listing():
                self._listing(frame)
            case Authenticated():
                self._checks.answered(frame)
            case ErrorFrame():
                self._handler.refused(frame)
            case _:
                raise ExecutorError("the executor sent a frame that only servers send")

    def _hello(self, frame: ExecutorHello) -> None:
        if frame.proto != protocol.PROTOCOL:
            raise ExecutorError(f"the executor speaks protocol {frame.proto}, this server {protocol.PROTOCOL}")
        self._pending_instance = frame.instance
        self.features = frozenset(frame.features)

    def _listing(self, frame: Listing) -> None:
        if self._pending_instance is None:
            raise ExecutorError("the executor listed before it said who it is")
        assert self._handler is not None
        self.instance = self._pending_instance
        self._was_up, self._told = True, ""
        self._handler.connected(self.instance, frame)
        self._listed.set()

    def _close(self, error: ExecutorError | None) -> None:
        if self.instance is not None:
            log.warning("the link to the executor ended: %s", error or "it closed the connection")
        elif error is not None and str(error) != self._told:
            # Once for each reason: it is tried again and again.
            self._told = str(error)
            log.error("no link to the executor can be made: %s", error)
        self.instance = None
        self._channel = None
        self._checks.lost()
        self._listed.set()
        self._closed.set()
        assert self._handler is not None
        self._handler.disconnected()
