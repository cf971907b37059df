"""The client: calls and event streams on a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sysadmd.backoff import Backoff
from sysadmd.client.address import FORMS, parse_address
from sysadmd.client.channel import Channel, Login, split_method
from sysadmd.client.connection import Connection, open_channel
from sysadmd.client.errors import BadAddress, ClientError
from sysadmd.client.events import EventStream, Interest
from sysadmd.client.pins import KnownServers
from sysadmd.client.registration import Pinned, Registration
from sysadmd.client.transport import Dial, Transport
from sysadmd.client.trust import read_key

DEFAULT_TIMEOUT = 30.0
"""Seconds for connecting with the log-in, and for a call that names no deadline."""


class AsyncClient:
    """A client of one server.

    `url` is `wss://host[:port]`, `ws://host[:port]`, `unix:///path` or `bridge://host[:port]/peer`. Log in by `token`,
    or by `username` and `password`, or by `key`, a file with the private half of a registered key; a Unix socket needs
    none. `certificate` is a file with a TLS client certificate and its private key, or with the certificate of `key`.
    `ca` is a file with the certificate to trust, `insecure` trusts any. `dial` replaces the transport, for tests and
    for other ways to a server. Use it with `async with`, which connects and logs in.

    Behind a bridge, `key` is also what the server is found by, and with a `username` nothing else; `bridge_key` opens
    the bridge (None: `key` does, too). `ca` is then about the bridge. The server shows a key of its own: `pin` is the
    fingerprint that it must have; without one it is looked up under the peer's name in `known_servers` (None: the file
    of this user). `insecure` trusts any bridge and any server, also one that cannot seal its sessions.

    A connection that is lost is made again by the next call; a call in flight gets `ConnectionLost` and is not
    repeated, since nobody knows whether it was carried out.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        key: str | Path | None = None,
        certificate: str | Path | None = None,
        ca: str | Path | None = None,
        insecure: bool = False,
        bridge_key: str | Path | None = None,
        pin: str | None = None,
        known_servers: str | Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        dial: Dial | None = None,
    ) -> None:
        self.address = parse_address(url)
        self._key = None if key is None else Path(key)
        private = None if self._key is None else read_key(self._key)
        behind_bridge = self.address.scheme == "bridge"
        self._login = Login(token, username, password, None if behind_bridge and username is not None else private)
        self._certificate = None if certificate is None else Path(certificate)
        if not (self._login.anonymous or self.address.private or insecure):
            raise BadAddress(f"{self.address}: a log-in over ws:// can be read on the way; use wss://")
        self._ca = None if ca is None else Path(ca)
        self._insecure, self._timeout = insecure, timeout
        self._dial: Dial = dial or self._websocket
        if behind_bridge and dial is None:
            from sysadmd.client.bridge import Route

            if not self.address.peer:
                raise BadAddress(f"{self.address} names no server behind the bridge; expected {FORMS}")
            route = Route(self.address, private, bridge_key, pin, known_servers, ca=self._ca, insecure=insecure)
            self._dial = route.transport
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._streams: set[EventStream] = set()
        self._closed = False

    async def call(self, method: str, args: Any = None, *, timeout: float | None = None) -> Any:
        """Call `namespace/name` or `namespace/name/action` and return the result.

        Raises `RemoteError` for an error reply, `CallTimeout` after `timeout` seconds (the call is then withdrawn on
        the server), `ConnectionLost`, `ConnectFailed` and `AuthFailed`; `ValueError` for a method that is none.
        """
        split_method(method)
        connection = await self._connected()
        deadline = self._timeout if timeout is None else timeout
        return await connection.call(method, {} if args is None else args, deadline)

    def events(
        self,
        topics: str | Sequence[str],
        since: tuple[str, int] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,
        policy: str | None = None,
        snapshot: bool = False,
        reconnect: bool = True,
        backoff: Backoff | None = None,
    ) -> EventStream:
        """The events of these topics, from now on or after `since`, an `(epoch, seq)` (events.py tells the whole
        story).

        `filter` maps dotted paths of the payload to a value or a list of values. `policy` is what the server does when
        the consumer is too slow: `gap` (its default), `close` or `coalesce`. With `snapshot`, the last event of each
        topic that has a state comes first.
        """
        names = (topics,) if isinstance(topics, str) else tuple(topics)
        if not names:
            raise ValueError("no topic to subscribe to")
        interest = Interest(names, since, filter, policy, snapshot)
        stream = EventStream(self._open_channel, interest, timeout=self._timeout, reconnect=reconnect, backoff=backoff)
        self._streams.add(stream)
        return stream

    async def register(
        self,
        key: str | Path,
        nickname: str = "",
        email: str = "",
        *,
        pin_as: str | None = None,
        replace: bool = False,
        servers: KnownServers | None = None,
    ) -> Pinned:
        """Let the private key in the file `key` log in as the account of this connection, and pin the server's sealing
        key, so that both know each other through a bridge; returns what was pinned.

        The server is pinned under its host name, or as `pin_as`, in `servers` (by default the user's file). Raises
        PinError when it is known by another key already and not to `replace` it, and BadAddress where somebody could
        stand between: the connection must be TLS that verifies the certificate, or a Unix socket. After either, no key
        was registered.
        """
        if self._insecure or self.address.scheme == "ws":
            raise BadAddress(f"{self.address}: keys are exchanged over wss:// that is not insecure, or a Unix socket")
        public = (await asyncio.to_thread(read_key, Path(key))).public
        registration = Registration(public, nickname, email, pin_as, replace)
        return await registration.carry_out(self.call, servers or KnownServers())

    async def aclose(self) -> None:
        """End the streams, log out where a password logged in, and disconnect. Idempotent."""
        self._closed = True
        streams, self._streams = self._streams, set()
        for stream in streams:
            await stream.aclose()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose(logout=self._login.session is not None)

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._closed:
                raise ClientError("the client is closed")
            if self._connection is not None and not self._connection.alive:
                await self._connection.aclose()
                self._connection = None
            if self._connection is None:
                self._connection = Connection(await self._open_channel())
            return self._connection

    async def _open_channel(self) -> Channel:
        return await open_channel(self._dial, self._login, self._timeout)

    def _websocket(self) -> Transport:
        # Imported when needed: a mock transport has no use for the WebSocket library, which costs 0.1 s.
        from sysadmd.client.websocket import WebSocketTransport

        own = None if self._certificate is None else (self._certificate, self._key)
        return WebSocketTransport(self.address, ca=self._ca, insecure=self._insecure, certificate=own)
