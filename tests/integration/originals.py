"""Simulators of the three original programs, as spec sysadm §3.5, §6, §9.1 and appendix A tell of them.

They speak real TLS and real WebSockets, write JSON as Qt does (keys in order, no blanks), and have the faults of the
originals, since it is those that ours have to live with. What they share with this project is nothing: their RSA, their
base64 and their parsing are their own, so that an error of ours cannot agree with itself.

Left out are the clocks that no test waits for (the 15 minutes of a token, the hour of a blocked address), the RSA-4096
key that an original server makes for each bridged log-in (seconds of work for a text that nobody reads on; here it is
one RSA-2048 key), and PAM (a local user of an original needs no password anyway, spec sysadm §3.3).
"""

from __future__ import annotations

from tests.integration.original_bridge import BridgePeer, OriginalBridge
from tests.integration.original_client import OriginalClient
from tests.integration.original_parts import (
    BRIDGE_IDENTIFY,
    BRIDGE_LIST,
    Pair,
    Remote,
    checksum,
    envelope,
    kept_pair,
    recovered,
    registered_form,
    server_tls,
    to_base64,
    tolerated,
    until,
)
from tests.integration.original_server import OriginalServer

__all__ = [
    "BRIDGE_IDENTIFY",
    "BRIDGE_LIST",
    "BridgePeer",
    "OriginalBridge",
    "OriginalClient",
    "OriginalServer",
    "Pair",
    "Remote",
    "checksum",
    "envelope",
    "kept_pair",
    "recovered",
    "registered_form",
    "server_tls",
    "to_base64",
    "tolerated",
    "until",
]
