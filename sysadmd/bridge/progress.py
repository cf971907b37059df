"""Whether a peer takes anything, as far as its kernel tells.

A transport says only whether its own buffer is above or below a mark, and between two of those a slow line may need
many seconds. TCP knows better: Linux counts the bytes that were acknowledged (tcp_info, since 4.1), FreeBSD tells how
many are not (FIONWRITE of filio.h). Elsewhere the transport's buffer has to do.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys

ACKED_AT = 120
"""Offset of tcpi_bytes_acked in Linux's struct tcp_info."""
FIONWRITE = 0x40046677
PLATFORM: str = sys.platform


def progress(transport: asyncio.WriteTransport) -> tuple[int, int]:
    """Two numbers, at least one of which changes while the peer takes data."""
    return transport.get_write_buffer_size(), _told(transport.get_extra_info("socket"))


def _told(sock: socket.socket | None) -> int:
    try:
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return 0
        if PLATFORM == "linux":
            known = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ACKED_AT + 8)
            return int(struct.unpack_from("=Q", known, ACKED_AT)[0]) if len(known) == ACKED_AT + 8 else 0
        if PLATFORM.startswith("freebsd"):
            return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), FIONWRITE, struct.pack("i", 0)))[0])
    except OSError:
        pass
    return 0
