"""Clients of a sysadmd server: `AsyncClient` for asyncio, `Client` for everything else.

::

    with Client("wss://nas.example", username="admin", password=..., ca="nas.crt") as client:
        client.call("rpc/dispatcher/run", {"job-1": ["zpool scrub tank"]})
        for event in client.events(["dispatcher", "system_state"]):
            print(event.topic, event.args)
"""

from __future__ import annotations

from sysadmd.client.async_client import AsyncClient
from sysadmd.client.errors import (
    AuthFailed,
    BadAddress,
    CallTimeout,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    PinError,
    RemoteError,
    Untrusted,
)
from sysadmd.client.events import Event, EventStream
from sysadmd.client.pins import KnownServers
from sysadmd.client.registration import Pinned
from sysadmd.client.sync_client import Client

__all__ = [
    "AsyncClient",
    "AuthFailed",
    "BadAddress",
    "CallTimeout",
    "Client",
    "ClientError",
    "ConnectFailed",
    "ConnectionLost",
    "Event",
    "EventStream",
    "KnownServers",
    "PinError",
    "Pinned",
    "RemoteError",
    "Untrusted",
]
