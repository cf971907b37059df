"""The address prefix that one party stands for: what is counted and bounded is counted for it.

An IPv4 address is one; of IPv6, whoever has an address has its whole /64 (RFC 4291 §2.5.1), so counting single ones
would bound nobody. An IPv4 address written as IPv6 is the IPv4 one.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

MAX_ADDRESS = 64
"""Characters of an address with its zone; what is longer is no address."""


@lru_cache(4096)
def prefix_of(address: str) -> str:
    """`192.0.2.1/32`, `2001:db8::/64`; what is no address (`unix`) is its own prefix, cut to 64 characters."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:MAX_ADDRESS]
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return str(IPv6Network((int(found) >> 64 << 64, 64)))
        found = found.ipv4_mapped
    return f"{found}/32"


@lru_cache(4096)
def is_loopback(address: str) -> bool:
    """Whether the peer is on this machine; the Unix socket's is."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address == "unix"
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback
