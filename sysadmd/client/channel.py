"""Messages over a transport: requests out, replies and events in, and the log-in.

A channel has no task and no state but a counter: whoever owns it decides who reads. `Connection` reads in a task of
its own, `EventStream` in its consumer's.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from typing import Any

from sysadmd.client.errors import AuthFailed, ConnectionLost, RemoteError
from sysadmd.client.transport import Transport
from sysadmd.errors import WireError
from sysadmd.keys.signing import CLASSIC_CHALLENGE, PrivateKey, answer_to
from sysadmd.wire.messages import ErrorReply, EventMessage, Incoming, Reply, Request
from sysadmd.wire.sysadm import decode_incoming, encode_request


class Channel:
    """One connection, seen as messages."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ids = itertools.count(1)

    @property
    def binding(self) -> str:
        """What a proof is signed along with (`Transport`)."""
        return self._transport.binding

    @property
    def in_clear(self) -> bool:
        """Whether somebody between the two ends can read and forge what is said."""
        return self._transport.in_clear

    async def send(self, method: str, args: Any, timeout: float | None = None) -> str:
        """Send a request of `namespace/name[/action]` and return its id. `timeout` is the server's deadline in
        seconds.
        """
        namespace, name, action = split_method(method)
        request_id = f"c{next(self._ids)}"
        request = Request(namespace, name, action, request_id, args, timeout=timeout)
        await self._transport.send(encode_request(request))
        return request_id

    async def receive(self) -> Incoming:
        """The next reply or event. A peer that does not speak the protocol has lost the connection."""
        try:
            return decode_incoming(await self._transport.receive())
        except WireError as error:
            raise ConnectionLost(f"the server sent what is no message: {error}") from error

    async def ask(self, method: str, args: Any) -> Any:
        """One request and its reply, while nobody else reads this channel and nothing is subscribed."""
        request_id = await self.send(method, args)
        while True:
            message = await self.receive()
            if isinstance(message, EventMessage) or message.id != request_id:
                continue
            return result_of(message)

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()


class Login:
    """Who the client is. It is shared by all connections of a client, so that a password is checked once.

    A token is tried first, then a key, then a password. The token that one of those gave is used for every further
    connection, until the server no longer knows it.
    """

    def __init__(
        self, token: str | None, username: str | None, password: str | None, key: PrivateKey | None = None
    ) -> None:
        if (username is None) != (password is None):
            raise ValueError("a user name and a password come together")
        self._token, self._username, self._password, self._key = token, username, password, key
        self._session: str | None = None

    @property
    def anonymous(self) -> bool:
        """Whether there is nothing to log in with (a Unix socket needs nothing)."""
        return self._token is None and self._password is None and self._key is None

    @property
    def session(self) -> str | None:
        """The token that the password or the key gave, to be cleared at the end."""
        return self._session

    async def authenticate(self, channel: Channel) -> None:
        """Log in on a fresh channel. Raises `AuthFailed`."""
        if channel.in_clear:
            await self._authenticate_in_clear(channel)
            return
        for token in filter(None, (self._session, self._token)):
            if await self._try(channel, "rpc/auth_token", {"token": token}) is not None:
                return
        self._session = None
        if self._key is not None and await self._prove(channel, self._key):
            return
        if self._password is not None:
            args = {"username": self._username, "password": self._password}
            reply = await self._try(channel, "rpc/auth", args)
            if reply is not None:
                self._session = _token_in(reply)
                return
        if not self.anonymous:
            raise AuthFailed("the server refused the log-in")

    async def _prove(self, channel: Channel, key: PrivateKey) -> bool:
        """Sign the server's challenge; whether it was taken. Old servers, whose challenges are short, know the classic
        proof only, and have no sealed sessions.
        """
        asked = await self._try(channel, "rpc/auth_ssl", {})
        challenge = asked.get("test_string") if isinstance(asked, dict) else None
        if not isinstance(challenge, str) or not challenge:
            raise AuthFailed("the server answered with something else than a challenge")
        reply = await self._try(
            channel, "rpc/auth_ssl", await asyncio.to_thread(proof, key, challenge, channel.binding)
        )
        if reply is None:
            return False
        self._session = _token_in(reply)
        return True

    async def _authenticate_in_clear(self, channel: Channel) -> None:
        """Whoever listens may learn that somebody logs in, and nothing that opens another connection: so a proof it is,
        in the form that original servers take from a peer of a bridge (spec sysadm §3.5), and no token is kept.
        """
        if self._key is None:
            if self.anonymous:
                return
            raise AuthFailed("the bridge could read a password or a token on its way to this server; log in with a key")
        asked = await self._try(channel, "rpc/auth_ssl", {"md5_key": self._key.public.checksum})
        answer = await asyncio.to_thread(_proof_in_clear, self._key, asked)
        if await self._try(channel, "rpc/auth_ssl", answer) is None:
            raise AuthFailed("the server refused the log-in")

    async def _try(self, channel: Channel, method: str, args: dict[str, Any]) -> Any:
        try:
            return await channel.ask(method, args)
        except RemoteError as error:
            if error.code == 401:
                return None
            raise AuthFailed(f"the server refused the log-in: {error}") from error


def _proof_in_clear(key: PrivateKey, asked: Any) -> dict[str, str]:
    """The answer to the challenge of an original server behind a bridge. To a key that it does not know it sends the
    text without base64.
    """
    if key.public.kind != "rsa":
        raise AuthFailed("an original server knows RSA keys only")
    try:
        challenge = base64.b64decode(asked["test_string"], validate=True).decode("ascii")
        if len(challenge) >= CLASSIC_CHALLENGE:
            raise AuthFailed("the challenge is as long as one of a server that could seal the session")
        return {"encrypted_string": base64.b64encode(key.sign_classic(challenge)).decode("ascii")}
    except (KeyError, TypeError, ValueError):
        raise AuthFailed(f"the server does not know the key with the checksum {key.public.checksum}") from None


def proof(key: PrivateKey, challenge: str, binding: str = "") -> dict[str, str]:
    """The args that answer a challenge. Raises `AuthFailed`."""
    try:
        return answer_to(challenge, key, binding)
    except ValueError as error:
        raise AuthFailed(f"the server asks for a proof that this key does not give: {error}") from None


def split_method(method: str) -> tuple[str, str, str | None]:
    """`namespace/name[/action]` in its parts. Raises `ValueError`."""
    parts = method.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError(f"{method!r} is no method; expected NAMESPACE/NAME or NAMESPACE/NAME/ACTION")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def result_of(message: Reply | ErrorReply) -> Any:
    """The result of a reply. Raises `RemoteError` for an error reply."""
    if isinstance(message, ErrorReply):
        raise RemoteError(message.code, message.message, message.data)
    return message.result


def _token_in(reply: Any) -> str:
    if isinstance(reply, list) and reply and isinstance(reply[0], str):
        return reply[0]
    raise AuthFailed("the server answered the log-in with something else than a token")
