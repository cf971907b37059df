"""The way to the servers behind a bridge: its address, the keys, and what is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from sysadmd.client.address import Address, parse_address
from sysadmd.client.bridge.login import Bridge, BridgeKeys
from sysadmd.client.bridge.peers import is_id
from sysadmd.client.bridge.reach import Reachable, reach
from sysadmd.client.bridge.transport import BridgeTransport
from sysadmd.client.bridge.trust import ServerTrust
from sysadmd.client.errors import BadAddress
from sysadmd.client.pins import KnownServers
from sysadmd.client.trust import read_key
from sysadmd.keys.signing import PrivateKey

FINGERPRINT = re.compile(r"[0-9a-f]{64}")
TIMEOUT = 30.0


class Route:
    """What every connection through one bridge is made of; arguments as those of `AsyncClient`, but for the key, which
    is read already. Raises `BadAddress` where something is missing, `ConnectFailed` for a key that cannot be read.
    """

    def __init__(
        self,
        address: Address,
        key: PrivateKey | None,
        bridge_key: str | Path | None = None,
        pin: str | None = None,
        known_servers: str | Path | None = None,
        *,
        ca: Path | None = None,
        insecure: bool = False,
    ) -> None:
        self.address, self._ca, self._insecure = address, ca, insecure
        own = key if bridge_key is None else read_key(Path(bridge_key))
        if own is None:
            raise BadAddress(f"{address}: a bridge needs a key to log in with: --bridge-key FILE, or --key FILE")
        self._keys = BridgeKeys(own, key or own)
        self._pin = None if pin is None else _fingerprint(pin)
        self._known_file = None if known_servers is None else Path(known_servers)

    def transport(self) -> BridgeTransport:
        """A transport to the server of the address, not open yet."""
        return BridgeTransport(self.bridge(), self.address.peer, self.trust, str(self.address))

    def bridge(self) -> Bridge:
        """A connection to the bridge, not open yet."""
        # Imported when needed, as by AsyncClient.
        from sysadmd.client.websocket import WebSocketTransport

        where = self.address.bridge
        return Bridge(WebSocketTransport(where, ca=self._ca, insecure=self._insecure), self._keys, str(where))

    def trust(self) -> ServerTrust:
        """The keys that the server may have. A pin that was given counts also where everything else is trusted."""
        if self._pin is not None:
            return ServerTrust(frozenset({self._pin}))
        if self._insecure:
            return ServerTrust(None)
        return ServerTrust(self._known(None if is_id(self.address.peer) else self.address.peer))

    async def reachable(self, timeout: float) -> list[Reachable]:
        """The servers that can be reached, within `timeout` seconds for the bridge's log-in and a few for theirs."""
        return await reach(self.bridge(), self._known(None), where=str(self.address.bridge), timeout=timeout)

    def _known(self, name: str | None) -> frozenset[str]:
        """The keys that are kept under a name; under any, where it is None."""
        servers = KnownServers(self._known_file)
        return servers.all() if name is None else servers.pins(_known_as(servers.names(), name))


async def reachable(
    url: str,
    *,
    key: str | Path | None = None,
    bridge_key: str | Path | None = None,
    known_servers: str | Path | None = None,
    ca: str | Path | None = None,
    insecure: bool = False,
    timeout: float = TIMEOUT,
) -> list[Reachable]:
    """The servers behind the bridge at `url`, `bridge://host[:port]`, that have this client's key registered.

    Arguments and errors are those of `AsyncClient`. What a server tells of its key is not verified here; a session
    does that.
    """
    address = parse_address(url)
    if address.scheme != "bridge" or address.peer:
        raise BadAddress(f"{address} is not a bridge; expected bridge://HOST[:PORT]")
    private = None if key is None else read_key(Path(key))
    authority = None if ca is None else Path(ca)
    route = Route(address, private, bridge_key, None, known_servers, ca=authority, insecure=insecure)
    return await route.reachable(timeout)


def _known_as(names: Iterable[str], typed: str) -> str:
    """The name under which a server is kept that somebody calls `typed`: that, or the one host name that begins so.

    What the bridge says is not asked: it could call any server by the name of another that is known, too.
    """
    every, wanted = list(names), typed.casefold()
    if typed in every:
        return typed
    for found in (
        [name for name in every if name.casefold() == wanted],
        [name for name in every if name.casefold().partition(".")[0] == wanted],
    ):
        if len(found) == 1:
            return found[0]
    return typed


def _fingerprint(pin: str) -> str:
    text = pin.strip().lower()
    if not FINGERPRINT.fullmatch(text):
        raise BadAddress("a pin is the fingerprint of a server's key: 64 hexadecimal digits")
    return text
