"""Registering: the client's key at the server, and the server's key at the client, over a connection that both trust.

It is what a sealed session through a bridge stands on later: the server then knows the client by its key, and the
client the server by the pin. So both have to come over a connection on which nobody stands between: TLS with a verified
certificate, or the Unix socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sysadmd.client.errors import ClientError, PinError
from sysadmd.client.pins import KnownServers, checked, refuse_change
from sysadmd.keys.signing import PublicKey

Call = Callable[[str, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Pinned:
    """What was pinned: the name of the server and the fingerprint of its sealing key."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Registration:
    """A key to be registered, and how the server is to be pinned: `pin_as` instead of its host name, and `replace`
    where it is known by another key.
    """

    key: PublicKey
    nickname: str = ""
    email: str = ""
    pin_as: str | None = None
    replace: bool = False

    async def carry_out(self, call: Call, servers: KnownServers) -> Pinned:
        """Register and pin. A pin that must not be changed is found before the key is sent.

        Raises PinError, ClientError for a server without sealed sessions, and what `call` raises.
        """
        pinned = _shown(await call("rpc/identify", {"seal": 1}), self.pin_as)
        known = await asyncio.to_thread(servers.pins, pinned.name)
        refuse_change(pinned.name, known, pinned.fingerprint, replace=self.replace)
        args = {"pub_key": self.key.registered, "nickname": self.nickname, "email": self.email}
        await call("rpc/settings/register_ssl_cert", args)
        await asyncio.to_thread(servers.pin, pinned.name, pinned.fingerprint, replace=self.replace)
        return pinned


def _shown(answer: Any, pin_as: str | None) -> Pinned:
    """Name and key in an answer of `rpc/identify`."""
    seal = answer.get("seal") if isinstance(answer, dict) else None
    if not isinstance(seal, dict):
        raise ClientError("the server has no sealed sessions, so there is nothing to pin")
    try:
        name, fingerprint = checked(pin_as or str(answer.get("hostname", "")), str(seal.get("key", "")))
    except PinError as error:
        raise PinError(f"the server cannot be pinned: {error}") from None
    return Pinned(name, fingerprint)
