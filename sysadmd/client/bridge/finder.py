"""Finding a server among the peers of a bridge.

A bridge of sysadmd tells the names of the peers together with their ids. An original one tells the ids alone, and does
not take back those of peers that have gone; so each of them is asked for its name, and those that answer are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from sysadmd.client.bridge.login import Bridge
from sysadmd.client.bridge.peers import PROBE, Identity, Peer, chosen, identity_in, is_id

GRACE = 1.0
"""Seconds for the others, once a server behind an original bridge has said that it has the name that is meant."""


class Finder:
    """Reads a bridge until the servers are known. Each wait is bounded by the caller."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._asked: set[str] = set()
        self._identities: dict[str, Identity] = {}

    def peers(self) -> list[Peer]:
        """The peers with what is known of their names: from the bridge, else from themselves."""
        every = []
        for peer in self._bridge.peers.values():
            identity = self._identities.get(peer.id)
            every.append(replace(peer, hostname=peer.hostname or identity.hostname) if identity else peer)
        return every

    def identity(self, peer: Peer) -> Identity | None:
        """What the peer has answered."""
        return self._identities.get(peer.id)

    async def find(self, wanted: str) -> list[Peer]:
        """Wait for a peer that `wanted` names, and return all that it names."""
        by_name = self._bridge.original and not is_id(wanted)
        while not (found := chosen(self.peers(), wanted)):
            await self._step(ask=by_name)
        if by_name:
            try:
                async with asyncio.timeout(GRACE):
                    await self.ask_all()
            except TimeoutError:
                pass
            found = chosen(self.peers(), wanted)
        return found

    async def ask_all(self) -> None:
        """Wait until every peer has answered who it is."""
        while not self._bridge.announced or self._unanswered(self._bridge.peers):
            await self._step(ask=True)

    async def _step(self, *, ask: bool) -> None:
        if ask:
            for peer in [peer for peer in self._bridge.peers if peer not in self._asked]:
                self._asked.add(peer)
                await self._bridge.relay(peer, PROBE)
        relayed = await self._bridge.receive()
        if relayed is not None and relayed[0] in self._asked:
            identity = identity_in(relayed[1])
            if identity is not None:
                self._identities[relayed[0]] = identity

    def _unanswered(self, peers: Iterable[str]) -> bool:
        return any(peer not in self._identities for peer in peers)
