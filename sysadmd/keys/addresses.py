"""The names and addresses under which this machine can be reached, for the certificate that it makes for itself.

No resolver is asked: a start must not wait for DNS, and what DNS says is not what the interfaces have. getifaddrs(3)
is called through ctypes, because the standard library has interface names only.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

BSD = not sys.platform.startswith("linux")
LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


class _Interface(ctypes.Structure):
    """The head of struct ifaddrs, alike on Linux and FreeBSD."""


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(ctypes.c_uint8)),
]


def host_names() -> tuple[str, ...]:
    """The host name, its part before the first dot, and `localhost`."""
    full = os.uname().nodename
    return tuple(dict.fromkeys(name for name in (full, full.partition(".")[0], "localhost") if name))


def host_addresses() -> tuple[Address, ...]:
    """Every address of every interface except link-local ones, which mean nothing without their interface."""
    found = dict.fromkeys(LOOPBACK)
    try:
        found |= dict.fromkeys(_interface_addresses())
    except (OSError, AttributeError):  # a C library without getifaddrs: loopback still works
        return LOOPBACK
    return tuple(found)


def _interface_addresses() -> Iterator[Address]:
    library = ctypes.CDLL(None, use_errno=True)  # what this process has loaded: libc is in it
    head = ctypes.POINTER(_Interface)()
    if library.getifaddrs(ctypes.byref(head)) != 0:
        raise OSError(ctypes.get_errno(), "getifaddrs")
    try:
        interface = head
        while interface:  # type: ignore[truthy-bool]  # NULL is false, typeshed does not say so
            address = _address(interface.contents.address)
            if address is not None and not address.is_link_local:
                yield address
            interface = interface.contents.next
    finally:
        library.freeifaddrs(head)


def _address(pointer: ctypes._Pointer[ctypes.c_uint8]) -> Address | None:
    """The address in a struct sockaddr: BSD has a length byte before the family, Linux a family of two bytes."""
    if not pointer:  # type: ignore[truthy-bool]  # as above
        return None
    family = pointer[1] if BSD else int.from_bytes(bytes(pointer[0:2]), sys.byteorder)
    if family == socket.AF_INET:
        return IPv4Address(bytes(pointer[4:8]))
    if family == socket.AF_INET6:
        return IPv6Address(bytes(pointer[8:24]))
    return None
