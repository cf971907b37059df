"""The conversation with the bridge itself: who we are, the log-in, and who can be reached (spec sysadm §6.2).

The bridge asks at any time, so everything that it sends passes `receive`, which answers it and keeps the list of peers;
what it relays is given to the caller. Nothing here runs by itself: whoever owns a `Bridge` reads it.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Any

from sysadmd.client.bridge.peers import DEPTH, Peer, announced
from sysadmd.client.channel import proof
from sysadmd.client.errors import AuthFailed, ConnectFailed, ConnectionLost
from sysadmd.client.transport import Transport
from sysadmd.errors import WireError
from sysadmd.keys.signing import AT_BRIDGE, CLASSIC_CHALLENGE, PrivateKey
from sysadmd.wire.relay import relayed, split
from sysadmd.wire.text import encode, parse

IDENTIFY_ID = "sysadmd-client-bridge"
LOGIN_ID = "sysadmd-client-login"


@dataclass(frozen=True, slots=True)
class BridgeKeys:
    """`bridge` logs in at the bridge. `servers` is the one that servers have registered: its checksum makes the bridge
    announce them. They may be the same.
    """

    bridge: PrivateKey
    servers: PrivateKey


class Bridge:
    """A connection to a bridge. `where` names it in error texts."""

    def __init__(self, transport: Transport, keys: BridgeKeys, where: str) -> None:
        self._transport, self._keys, self._where = transport, keys, where
        self.original = False
        """Whether it is the original program, which tells ids only, and nothing at all while there is no peer."""
        self.peers: dict[str, Peer] = {}
        """Who can be reached, by id, as last announced."""
        self.announced = False
        """Whether a list came."""
        self.dropped = 0
        """Frames that were neither the bridge's nor relayed."""

    async def open(self, timeout: float) -> None:
        """Connect within `timeout` seconds, and log in, for which the caller has a deadline. Raises `ConnectFailed` and
        `AuthFailed`.
        """
        await self._transport.open(timeout)
        answer = await self._ask(IDENTIFY_ID, "identify", "")
        kind = _field(answer, "type")
        if kind != "bridge":
            what = f"a {kind}" if isinstance(kind, str) else "something else"
            raise ConnectFailed(f"{self._where}: {what[:40]} answers there, not a bridge; a server needs wss://")
        asked = await self._ask(LOGIN_ID, "auth_ssl", "")
        challenge = _field(asked, "test_string")
        if not isinstance(challenge, str) or not challenge:
            if asked.get("name") == "error":
                raise self._refused(asked)
            raise AuthFailed(f"{self._where}: the bridge answered with something else than a challenge")
        self.original = len(challenge) < CLASSIC_CHALLENGE
        binding = "" if self.original else AT_BRIDGE
        answer = await asyncio.to_thread(proof, self._keys.bridge, challenge, binding)
        reply = await self._ask(LOGIN_ID, "auth_ssl", answer)
        if reply.get("name") != "response" or not isinstance(reply.get("args"), list):
            raise self._refused(reply)

    async def receive(self) -> tuple[str, bytes] | None:
        """The next relayed frame, as the sender's id and the payload; None after a frame of the bridge's own. Raises
        `ConnectionLost`.
        """
        frame = await self._frame()
        return frame if isinstance(frame, tuple) else None

    async def relay(self, peer: str, payload: bytes) -> None:
        """Send a payload to a peer. Raises `ConnectionLost`."""
        await self._transport.send(relayed(peer, payload))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._transport.aclose()

    async def _ask(self, request_id: str, name: str, args: Any) -> dict[str, Any]:
        """A request to the bridge and the reply of that id, whatever it says."""
        await self._say({"namespace": "rpc", "name": name, "id": request_id, "args": args})
        while True:
            frame = await self._frame()
            if isinstance(frame, dict) and frame.get("id") == request_id and frame.get("name") in ("response", "error"):
                return frame

    async def _frame(self) -> tuple[str, bytes] | dict[str, Any]:
        """A relayed frame, or a message of the bridge that was dealt with."""
        while True:
            frame = await self._transport.receive()
            if frame.startswith(b"{"):
                message = self._message(frame)
                await self._handle(message)
                return message
            parts = split(frame)
            if parts is not None:
                return parts[0].decode("ascii", "replace"), parts[1]
            self.dropped += 1

    async def _handle(self, message: dict[str, Any]) -> None:
        namespace, name = message.get("namespace"), message.get("name")
        if name == "error":
            departed = _field(message, "connection")
            if isinstance(departed, str):
                self.peers.pop(departed, None)
        elif name == "response":
            return
        elif (namespace, name) == ("events", "bridge"):
            self.peers, self.announced = announced(message.get("args")), True
        elif (namespace, name) == ("rpc", "identify"):
            # An original bridge ignores what it does not know.
            own = {"hostname": socket.gethostname().partition(".")[0], "type": "client", "details": True}
            await self._answer(message, own)
        elif (namespace, name) == ("rpc", "settings"):
            await self._answer(message, {"md5_keys": [self._keys.servers.public.checksum]})

    async def _answer(self, request: dict[str, Any], args: Any) -> None:
        await self._say({"args": args, "id": request.get("id"), "name": "response", "namespace": "rpc"})

    async def _say(self, message: dict[str, Any]) -> None:
        await self._transport.send(encode(message))

    def _message(self, frame: bytes) -> dict[str, Any]:
        try:
            found: dict[str, Any] = parse(frame, DEPTH)  # it begins with a brace
        except WireError as error:
            raise ConnectionLost(f"{self._where}: the bridge sent what is no message: {error}") from error
        return found

    def _refused(self, reply: dict[str, Any]) -> AuthFailed | ConnectFailed:
        code = _field(reply, "code")
        if code is not None and str(code) != "401":
            reason = str(_field(reply, "message"))[:200]
            return ConnectFailed(f"{self._where}: the bridge refused the log-in: {reason} ({str(code)[:10]})")
        public = self._keys.bridge.public
        return AuthFailed(
            f"{self._where}: the bridge does not know the key {public.fingerprint}; "
            "whoever runs it imports its public half with: sysadmd bridge key import NICK FILE"
        )


def _field(message: dict[str, Any], key: str) -> Any:
    args = message.get("args")
    return args.get(key) if isinstance(args, dict) else None
