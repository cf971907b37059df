"""The readiness protocol of systemd (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names. Nothing
elsewhere.
"""

from __future__ import annotations

import os
import socket

import structlog

log = structlog.get_logger(__name__)


def notify(message: str) -> None:
    """Send a state such as `READY=1`; without a NOTIFY_SOCKET do nothing. That nobody listens is no reason to end."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(1.0)
        try:
            sock.sendto(message.encode(), address)
        except OSError as error:
            log.warning("the service manager was not told", message=message, reason=str(error))
