"""Who can be reached through a bridge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from sysadmd.client.bridge.finder import Finder
from sysadmd.client.bridge.login import Bridge
from sysadmd.client.errors import ConnectFailed, ConnectionLost

PATIENCE = 3.0
"""Seconds for the answers of all servers, and for an original bridge to announce any."""


@dataclass(frozen=True, slots=True)
class Reachable:
    """A server behind a bridge.

    `key` is the fingerprint of its sealing key, or the one by which the bridge knows it; "" where nobody told.
    `sealed`: whether it can seal its sessions; None where it did not answer. `pinned`: whether its key is known here.
    """

    id: str
    hostname: str
    nick: str
    key: str
    sealed: bool | None
    pinned: bool


async def reach(
    bridge: Bridge, known: Collection[str], *, where: str, timeout: float, patience: float = PATIENCE
) -> list[Reachable]:
    """The servers that have this client's key, sorted by name. `bridge` is not open yet and is closed at the end.

    `known` are the fingerprints of servers' keys that are kept here, `where` names the bridge in error texts. Raises
    `ConnectFailed` and `AuthFailed`.
    """
    finder = Finder(bridge)
    try:
        async with asyncio.timeout(timeout):
            await bridge.open(timeout)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await finder.ask()
    except TimeoutError as error:
        raise ConnectFailed(f"{where}: no answer of the bridge within {timeout:g} s") from error
    except ConnectionLost as error:
        raise ConnectFailed(str(error)) from error
    finally:
        await bridge.aclose()
    found = []
    for peer in finder.peers():
        identity = finder.identity(peer)
        key = (identity.seal if identity else None) or peer.key
        sealed = None if identity is None else identity.seal is not None
        found.append(Reachable(peer.id, peer.hostname, peer.nick, key, sealed, key in known))
    return sorted(found, key=lambda each: (each.hostname, each.nick, each.id))
