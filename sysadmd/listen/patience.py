"""A WebSocket connection that does not wait for ever for a peer that stopped reading."""

from __future__ import annotations

import asyncio

from websockets.asyncio.connection import Connection

PATIENCE = 20.0
"""Seconds for a peer to read on, where pings have no deadline."""


class PatientConnection(Connection):
    """For a server's connections and for those that it dials."""

    async def drain(self) -> None:
        """Wait until the peer has read. The library waits here without a deadline, in its pings and its closing
        handshake too, so that a peer that stopped reading would never be found out. Raises ConnectionResetError.
        """
        patience = PATIENCE if self.ping_timeout is None else self.ping_timeout
        try:
            async with asyncio.timeout_at(self.close_deadline or self.loop.time() + patience):
                await super().drain()
        except TimeoutError:
            self.transport.abort()
            raise ConnectionResetError("the peer does not read") from None
