"""The WebSocket transport: over TCP, TLS, or a Unix socket."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from sysadmd.client.address import Address
from sysadmd.client.errors import ConnectFailed, ConnectionLost, Untrusted
from sysadmd.client.trust import client_context, read_fingerprint
from sysadmd.limits import Limits

MAX_MESSAGE = Limits().frame_bridge
"""Replies are larger than requests: a package listing has several MiB (spec sysadm §1.3)."""
MAX_QUEUE = 16
"""Messages read ahead of the caller. Behind them TCP holds the server back, whose own queue is bounded and tells of
gaps.
"""
CLOSE_TIMEOUT = 2.0
"""Seconds that a closing handshake may take."""
PING_INTERVAL = 20.0
"""Seconds between pings: a server that vanished without a word is noticed within this and the ping's own timeout."""


class _Connect(connect):
    """`connect` without redirects: whoever answers for a server does not get to choose where the password goes."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class WebSocketTransport:
    """One WebSocket connection to `address`. `ca` and `insecure` as in trust.py, `certificate` the client's own with
    its key (None: in the same file); they matter for `wss` only.
    """

    binding: str = ""
    in_clear = False

    def __init__(
        self,
        address: Address,
        *,
        ca: Path | None = None,
        insecure: bool = False,
        certificate: tuple[Path, Path | None] | None = None,
    ) -> None:
        self.address, self.ca, self.insecure, self.certificate = address, ca, insecure, certificate
        self._connection: ClientConnection | None = None

    async def open(self, timeout: float) -> None:
        """Connect and finish the handshakes within `timeout` seconds."""
        where = self.address
        try:
            self._connection = await _Connect(self._uri(), open_timeout=timeout, **self._options())
        except ssl.SSLCertVerificationError as error:
            raise await self._untrusted(error) from error
        except ssl.SSLError as error:
            raise ConnectFailed(f"{where}: TLS failed ({error.reason or error}); is this a TLS port?") from error
        except TimeoutError as error:
            raise ConnectFailed(f"{where}: no answer within {timeout:g} s") from error
        except OSError as error:
            raise ConnectFailed(f"{where}: {self._os_reason(error)}") from error
        except InvalidStatus as error:
            status = error.response.status_code
            raise ConnectFailed(f"{where}: the server refused the connection with HTTP status {status}") from error
        except (InvalidHandshake, EOFError) as error:
            hint = "; a TLS port needs wss://" if where.scheme == "ws" else ""
            raise ConnectFailed(f"{where}: no WebSocket server answers there{hint}") from error

    async def send(self, message: bytes) -> None:
        """Send one text message."""
        try:
            await self._opened().send(message, text=True)
        except ConnectionClosed as error:
            raise ConnectionLost(self._ended(error)) from error

    async def receive(self) -> bytes:
        """The next message."""
        try:
            return await self._opened().recv(decode=False)
        except ConnectionClosed as error:
            raise ConnectionLost(self._ended(error)) from error

    async def aclose(self) -> None:
        """Close with a closing handshake of at most `CLOSE_TIMEOUT` seconds."""
        if self._connection is not None:
            await self._connection.close()

    def _opened(self) -> ClientConnection:
        if self._connection is None:
            raise AssertionError("the transport is not open")
        return self._connection

    def _uri(self) -> str:
        if self.address.scheme == "unix":
            return "ws://localhost/"
        return str(replace(self.address, scheme="wss")) if self.address.scheme == "bridge" else str(self.address)

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "compression": None,
            "max_size": MAX_MESSAGE,
            "max_queue": MAX_QUEUE,
            "ping_interval": PING_INTERVAL,
            "close_timeout": CLOSE_TIMEOUT,
            "user_agent_header": "sysadmd-client",
            # A proxy of the environment is meant for browsing; a control connection goes where its address says.
            "proxy": None,
        }
        if self.address.scheme == "unix":
            options |= {"unix": True, "path": self.address.path}
        elif self.address.encrypted:
            options["ssl"] = client_context(self.ca, insecure=self.insecure, certificate=self.certificate)
        return options

    async def _untrusted(self, error: ssl.SSLCertVerificationError) -> Untrusted:
        fingerprint = await read_fingerprint(self.address.host, self.address.port)
        who = "bridge" if self.address.scheme == "bridge" else "server"
        text = f"{self.address}: the {who}'s certificate is not trusted ({error.verify_message.rstrip('.')})"
        if fingerprint:
            text += (
                f". Its fingerprint is {fingerprint}; if the {who} printed the same one, "
                "copy its certificate file here and name it with --ca FILE"
            )
        return Untrusted(text, fingerprint)

    def _ended(self, error: ConnectionClosed) -> str:
        received = error.rcvd
        if received is None:
            return f"{self.address}: the connection broke"
        reason = f": {received.reason}" if received.reason else ""
        return f"{self.address}: the server closed the connection ({received.code}{reason})"

    def _os_reason(self, error: OSError) -> str:
        if isinstance(error, FileNotFoundError):
            return "no server (the socket does not exist)"
        # A connection that ends inside the TLS handshake, and the failures of several addresses that asyncio joined
        # into one, have no errno and so no strerror.
        if isinstance(error, ConnectionError) and self.address.encrypted and not error.errno:
            return "the connection ended during the TLS handshake; is this a TLS port?"
        return error.strerror or str(error)
