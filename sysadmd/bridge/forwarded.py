"""Where a peer really is, when reverse proxies stand before the bridge.

Each proxy appends the address that it was called from to `X-Forwarded-For`. What stands left of the last address that
no trusted proxy has is what that peer said itself, and may be anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network


class Proxies:
    """Addresses and networks (CIDR) whose header is believed. Raises ValueError for what is none."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._networks = [ip_network(one, strict=False) for one in trusted]

    def trusts(self, address: str) -> bool:
        """Whether this is the address of such a proxy."""
        if not self._networks:
            return False
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
        return any((mapped or found) in network for network in self._networks)

    def client(self, address: str, forwarded: Sequence[str]) -> str:
        """The peer's address: `address` where its header is not believed, or says nothing that is an address.

        `forwarded` are the values of all X-Forwarded-For headers in their order.
        """
        if not self.trusts(address):
            return address
        for entry in reversed([part.strip() for value in forwarded for part in value.split(",")]):
            found = _bare(entry)
            if found is None:
                return address
            address = found
            if not self.trusts(found):
                break
        return address


def _bare(entry: str) -> str | None:
    """An entry without its port; None when it is no address."""
    text = entry[1:].partition("]")[0] if entry.startswith("[") else entry
    if text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None
