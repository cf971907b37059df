"""Finding a server among the peers of a bridge.

A bridge of sysadmd tells the names of the peers together with their ids. An original one tells the ids alone, and does
not take back those of peers that have gone; so each of them is asked for its name, and those that answer are there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import replace

from sysadmd.client.bridge.login import Bridge
from sysadmd.client.bridge.peers import PROBE, Identity, Peer, chosen, identity_in, is_id

GRACE = 1.0
"""Seconds for all who may be meant to say that they are there, once one is known."""


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

    def matching(self, wanted: str) -> list[Peer]:
        """The peers that `wanted` names now. Of several, those that answered count: a server whose connection broke may
        have come again before the bridge noticed.
        """
        found = chosen(self.peers(), wanted)
        return [peer for peer in found if peer.id in self._identities] or found

    async def find(self, wanted: str) -> list[Peer]:
        """Wait for a peer that `wanted` names, and return all that it names."""
        nameless = self._bridge.original and not is_id(wanted)
        while not (found := self.matching(wanted)):
            await self._step(self._bridge.peers if nameless else ())
        if nameless or len(found) > 1:
            asked = None if nameless else [peer.id for peer in found]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await self.ask(asked)
        return self.matching(wanted)

    async def ask(self, peers: Iterable[str] | None = None) -> None:
        """Wait until these peers, or all, have answered who they are, or have gone."""
        only = None if peers is None else set(peers)
        while not self._bridge.announced or self._missing(only):
            await self._step(self._missing(only))

    async def _step(self, asking: Iterable[str]) -> None:
        for peer in [peer for peer in asking if peer not in self._asked]:
            self._asked.add(peer)
            await self._bridge.relay(peer, PROBE)
        relayed = await self._bridge.receive()
        if relayed is not None and relayed[0] in self._asked:
            identity = identity_in(relayed[1])
            if identity is not None:
                self._identities[relayed[0]] = identity

    def _missing(self, only: set[str] | None) -> list[str]:
        return [peer for peer in self._bridge.peers if peer not in self._identities and (only is None or peer in only)]
