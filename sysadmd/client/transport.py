"""What the client needs of a connection: four methods, and what a log-in has to know of it.

`WebSocketTransport` (TCP, TLS and Unix sockets), `BridgeTransport` and `MockTransport` (memory) implement it.
Implementations map every failure of their library to `ConnectFailed` or `ConnectionLost`, once, here at the boundary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Transport(Protocol):
    """One connection, opened once. Messages are whole WebSocket text messages in UTF-8."""

    binding: str = ""
    """What a proof by key has to be signed along with: of a sealed session, once it is open, the SHA-256 of the
    server's certificate in hexadecimal (sysadmd.keys.signing); other connections have none.
    """

    @property
    def in_clear(self) -> bool:
        """Whether somebody between the two ends can read and forge messages: the bridge before an original server."""
        ...

    async def open(self, timeout: float) -> None:
        """Connect. Raises `ConnectFailed`."""
        ...

    async def send(self, message: bytes) -> None:
        """Send one message. Waits while the peer does not read. Raises `ConnectionLost`."""
        ...

    async def receive(self) -> bytes:
        """The next message. Cancelling it loses none. Raises `ConnectionLost`."""
        ...

    async def aclose(self) -> None:
        """Close; never raises. Idempotent."""
        ...


Dial = Callable[[], Transport]
"""Makes a transport that is not yet open. A client calls it for each connection it needs."""
