"""Clients behind a bridge: both they and the servers dial it, and it relays between the two (spec sysadm §6).

The bridge sees who speaks with whom and how much, and can drop what it likes. It reads and alters nothing, because
client and server seal their sessions end to end (sysadmd.keys.seal). login.py speaks with the bridge, finder.py and
peers.py find the server, trust.py knows its key, session.py is the form of the conversation, transport.py puts them
together, and route.py is where a client begins.
"""

from __future__ import annotations

from sysadmd.client.bridge.login import Bridge, BridgeKeys
from sysadmd.client.bridge.reach import Reachable
from sysadmd.client.bridge.route import Route, reachable
from sysadmd.client.bridge.transport import BridgeTransport
from sysadmd.client.bridge.trust import ServerTrust

__all__ = ["Bridge", "BridgeKeys", "BridgeTransport", "Reachable", "Route", "ServerTrust", "reachable"]
