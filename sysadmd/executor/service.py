"""The executor's server side: connections in, frames to `Attempts`, frames out.

One connection at a time has authority: the latest that said hello, for a server that was restarted comes back while the
kernel still holds its former connection. Attempts do not notice any of this; without a server they run on, and their
exits wait in `Records`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import time
from collections.abc import Callable

from sysadmd.errors import ExecutorError
from sysadmd.executor.attempts import Attempts
from sysadmd.executor.channel import Channel
from sysadmd.executor.frames import (
    PROTOCOL,
    Ack,
    Authenticate,
    Drain,
    ErrorFrame,
    ExecutorHello,
    Exit,
    Frame,
    FromExecutor,
    List,
    Listing,
    ServerHello,
    Signal,
    Start,
    ToExecutor,
)
from sysadmd.executor.pam import PamChecks, features
from sysadmd.executor.peer import peer_uid
from sysadmd.executor.records import RETRY_SECONDS, Records

ATTEMPTS_LIMIT = 4096
"""Attempts that run or wait for their acknowledgement; above the sum of all lanes, so only met without a server."""
STRANGERS_LIMIT = 8
"""Connections that have not said hello."""
HELLO_DEADLINE = 10.0
"""Seconds in which a connection says hello."""
FLUSH_DEADLINE = 1.0
"""Seconds for the last frames to leave, and for the last acknowledgements to come, before the executor ends."""
ACCEPT_PAUSE = 1.0
"""Seconds without accepting after accept(2) failed, which it does when descriptors ran out."""


class Service:
    """One executor, from its first connection to its end. Construct it on the running loop."""

    def __init__(
        self,
        listener: socket.socket,
        records: Records,
        *,
        peers: frozenset[int],
        instance: str,
        boot_id: str,
        log: Callable[[str], None],
    ) -> None:
        """`peers` are the uids whose connections are taken."""
        self._listener, self._records, self._peers, self._log = listener, records, peers, log
        self._hello = functools.partial(ExecutorHello, PROTOCOL, instance, boot_id, os.getpid())
        self._loop = asyncio.get_running_loop()
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.attempts = Attempts(records, null=self._null, log=log, clock=time.time, on_exit=self._exited)
        self._checks = PamChecks(watch=self.attempts.watch, answer=self._tell, log=log)
        self._strangers: set[Peer] = set()
        self._server: Peer | None = None
        self._draining = False
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Serve until drained."""
        self._loop.add_reader(self._listener, self._accept)
        retry = self._loop.create_task(self._retry_journal())
        try:
            await self._done.wait()
            if self._server is not None:
                await self._server.channel.drain(FLUSH_DEADLINE)
        finally:
            retry.cancel()
            self._loop.remove_reader(self._listener)
            self._checks.forget()
            for peer in [*self._strangers, *([self._server] if self._server else [])]:
                peer.channel.close()
            os.close(self._null)

    def drain(self, *, stop: bool = False) -> None:
        """Refuse new starts and end when nothing runs; with `stop`, end what runs (TERM, grace, KILL)."""
        if not self._draining:
            self._log(f"draining: {len(self.attempts)} attempt(s) run")
        self._draining = True
        if stop:
            self.attempts.end_all("the executor was stopped")
        self._check_done()

    # ---- connections

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError as error:
            self._log(f"cannot accept a connection: {error.strerror}")
            self._loop.remove_reader(self._listener)
            self._loop.call_later(ACCEPT_PAUSE, self._loop.add_reader, self._listener, self._accept)
            return
        if len(self._strangers) >= STRANGERS_LIMIT or not self._known(sock):
            sock.close()
            return
        self._strangers.add(Peer(sock, self))

    def _known(self, sock: socket.socket) -> bool:
        """Whether the kernel says that one of our peers has connected."""
        try:
            uid = peer_uid(sock)
        except OSError as error:
            self._log(f"refused a connection, since its user cannot be known: {error.strerror or error}")
            return False
        if uid not in self._peers:
            self._log(f"refused a connection of uid {uid}")
        return uid in self._peers

    def handle(self, peer: Peer, frame: ToExecutor | FromExecutor, descriptor: int | None) -> None:
        """One frame of a connection; a descriptor belongs to this call."""
        if isinstance(frame, ServerHello):
            self._welcome(peer, frame)
        elif peer is not self._server:
            if descriptor is not None:
                os.close(descriptor)
            raise ExecutorError("a frame came from a connection without authority")
        elif isinstance(frame, Start):
            assert descriptor is not None  # the channel promises one with each Start
            self._start(frame, descriptor)
        elif isinstance(frame, Ack):
            self._records.acknowledged(frame.attempt)
            self._check_done()
        elif isinstance(frame, Signal):
            self._signal(frame)
        elif isinstance(frame, List):
            self._tell(Listing(self.attempts.running(), list(self._records.exits.values())))
        elif isinstance(frame, Authenticate):
            self._checks.submit(frame)
        elif isinstance(frame, Drain):
            self.drain()

    def closed(self, peer: Peer, error: ExecutorError | None) -> None:
        """A connection is over."""
        self._strangers.discard(peer)
        if peer is self._server:
            self._server = None
            self._checks.forget()
            self._check_done()
        if error is not None or peer.name:
            self._log(f"connection of {peer.name or 'a stranger'} ended{f': {error}' if error else ''}")

    def _welcome(self, peer: Peer, hello: ServerHello) -> None:
        self._strangers.discard(peer)
        peer.welcome(hello)
        before, self._server = self._server, peer
        if before is not None and before is not peer:
            self._checks.forget()
            before.dismiss()
        self._log(f"server {peer.name} connected: {len(self.attempts)} run, {len(self._records.exits)} exit(s) wait")
        self._tell(self._hello(features()))
        for ended in self._records.exits.values():
            self._tell(ended)

    def _tell(self, frame: Frame) -> None:
        """Send to the server, if there is one; what matters is in the records and is told again to the next."""
        if self._server is not None:
            with contextlib.suppress(ExecutorError):
                self._server.channel.send(frame)

    # ---- frames

    def _start(self, start: Start, output: int) -> None:
        answer: Frame | None = self.attempts.get(start.attempt) or self._records.exits.get(start.attempt)
        answer = answer or self._refusal(start)
        if answer is None:
            answer = self.attempts.start(start, output)
        else:
            os.close(output)
        if answer is not None:
            self._tell(answer)

    def _refusal(self, start: Start) -> ErrorFrame | None:
        if self._server is not None and self._server.proto != PROTOCOL:
            text = f"this executor speaks protocol {PROTOCOL}, the server {self._server.proto}; drain it"
            return ErrorFrame("protocol", text, start.attempt)
        if self._draining:
            return ErrorFrame("draining", "the executor takes no new attempts", start.attempt)
        if len(self.attempts) + len(self._records.exits) >= ATTEMPTS_LIMIT:
            text = f"{ATTEMPTS_LIMIT} attempts run or wait for their acknowledgement"
            return ErrorFrame("full", text, start.attempt)
        return None

    def _signal(self, frame: Signal) -> None:
        if self.attempts.signal(frame.attempt, frame.signal, frame.grace):
            return
        ended = self._records.exits.get(frame.attempt)
        self._tell(ended or ErrorFrame("not_running", "no such attempt runs here", frame.attempt))

    def _exited(self, ended: Exit) -> None:
        self._tell(ended)
        self._check_done()

    def _check_done(self) -> None:
        if self._draining and not self.attempts:
            if self._records.exits and self._server is not None:
                self._loop.call_later(FLUSH_DEADLINE, self._done.set)
            else:
                self._done.set()

    async def _retry_journal(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            self._records.retry()


class Peer:
    """One connection, and how far it has come."""

    def __init__(self, sock: socket.socket, service: Service) -> None:
        self.name = ""
        self.proto = 0
        self.channel = Channel(
            sock,
            "executor",
            on_frame=lambda frame, descriptor: service.handle(self, frame, descriptor),
            on_close=lambda error: self._closed(service, error),
        )
        self._deadline = asyncio.get_running_loop().call_later(HELLO_DEADLINE, self.channel.close)

    def welcome(self, hello: ServerHello) -> None:
        """It is a server."""
        self._deadline.cancel()
        self.name = hello.server or "without a name"
        self.proto = hello.proto

    def dismiss(self) -> None:
        """Another server took over: say so, and close when that has left or will not leave."""
        with contextlib.suppress(ExecutorError):
            self.channel.send(ErrorFrame("replaced", "another server took over"))
        self._deadline = asyncio.get_running_loop().call_later(FLUSH_DEADLINE, self.channel.close)

    def _closed(self, service: Service, error: ExecutorError | None) -> None:
        self._deadline.cancel()
        service.closed(self, error)
