"""A simulator of the original server (spec sysadm §3.5, §5.1, §6)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.integration.original_parts import (
    ENVELOPE,
    EVENTS,
    LINK_AUTH,
    MESSAGES,
    QT,
    Challenges,
    Dialler,
    Pair,
    Remote,
    Tokens,
    checksum,
    envelope,
    kept_pair,
    parsed,
    random_text,
    server_tls,
    text_of,
    to_base64,
)

Write = Callable[[str], Any]
Reply = Callable[[Any], Any]


class OriginalServer(Dialler):
    """The C++ server: `accounts` need no password on loopback, `keys` (account to PEM) are the registered ones, and
    `methods` ("rpc/query" to the args of its reply, or a function of the request's args) are what it can do.

    It dials a bridge (`dialling`), listens (`listening`), or both.
    """

    origin = "sysadm-server"

    def __init__(self, directory: Path, bridge_key: Pair | None = None, hostname: str = "h") -> None:
        super().__init__()
        self.bridge_key, self.hostname, self.port = bridge_key or kept_pair("server"), hostname, 0
        self._directory = directory
        self.accounts: set[str] = set()
        self.keys: dict[str, str] = {}
        self.methods: dict[str, Any] = {"rpc/query": {"rpc/dispatcher": "read/write"}}
        self.tokens, self.challenges = Tokens(), Challenges(20)
        self.new_token: Callable[[], str] = functools.partial(random_text, 20)
        self.link_token = ""
        self.remotes: dict[str, Remote] = {}
        self.last: dict[str, str] = {}
        self._direct: list[tuple[Remote, Write]] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        options = {"ssl": server_tls(self._directory, "wsserver"), "server_header": "sysadm-server", **QT}
        async with serve(self._serve, "127.0.0.1", 0, close_timeout=1, **options) as server:  # type: ignore[arg-type]
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self

    async def publish(self, name: str, args: Any) -> None:
        """An event, to each connection and each bridged peer that subscribed to it."""
        event = envelope("events", name, "", args)
        if name != "dispatcher":
            self.last[name] = event
        for remote, write in [*self._direct, *((one, self._writer(one)) for one in self.remotes.values())]:
            if name in remote.events:
                await write(remote.closed(event))

    async def _serve(self, connection: ServerConnection) -> None:
        remote = Remote()
        self._direct.append((remote, connection.send))
        try:
            async for frame in connection:
                await self._dispatch(remote, text_of(frame), connection.send)
        except ConnectionClosed:
            pass
        finally:
            self._direct.remove((remote, connection.send))

    async def _opened(self) -> None:
        await self._write(envelope("rpc", "auth_ssl", LINK_AUTH, ""))

    def _lost(self) -> None:
        self.link_token, self.remotes = "", {}

    def _writer(self, remote: Remote) -> Write:
        return lambda payload: self._write(f"{remote.id}\n{payload}")

    async def _receive(self, text: str) -> None:
        if not text.startswith("{"):
            sender, _, payload = text.partition("\n")
            remote = self.remotes.setdefault(sender, Remote(sender))
            await self._dispatch(remote, remote.opened(payload), self._writer(remote))
            return
        message = parsed(text)
        namespace, name, request_id, args = (message.get(key) for key in ENVELOPE)
        if (namespace, name) == ("events", "bridge") and isinstance(args, dict):
            listed = args["available_connections"]
            for gone in self.remotes.keys() - set(listed):
                self.tokens.drop(self.remotes[gone].token)
            self.remotes = {one: self.remotes.get(one) or Remote(one) for one in listed}
        elif (namespace, request_id) == ("rpc", LINK_AUTH):
            await self._linked(args)
        elif (namespace, name) == ("rpc", "identify"):
            await self._write(
                envelope("rpc", "response", str(request_id), {"hostname": self.hostname, "type": "server"})
            )
        elif (namespace, name) == ("rpc", "settings") and self.link_token:
            sums = [checksum(pem) for pem in self.keys.values()]
            await self._write(envelope("rpc", "response", str(request_id), {"md5_keys": sums}))

    async def _linked(self, args: Any) -> None:
        if isinstance(args, list) and len(args) == 2:
            self.link_token = args[0]
        elif isinstance(args, dict) and "test_string" in args:
            proof = {"encrypted_string": self.bridge_key.encrypted(args["test_string"])}
            await self._write(envelope("rpc", "auth_ssl", LINK_AUTH, proof))
        else:
            self.refused.append(str(args))

    async def _dispatch(self, remote: Remote, text: str, write: Write) -> None:
        """One request of a client, from a connection of its own or out of a relay frame."""
        message = parsed(text)
        namespace, name, request_id = (one if isinstance(one := message.get(key), str) else "" for key in ENVELOPE[:3])
        args = message.get("args", message)

        async def reply(args: Any) -> None:
            await write(remote.closed(envelope(namespace, "response" if request_id else name, request_id, args)))

        async def error(code: int) -> None:
            args = {"code": str(code), "message": MESSAGES[code]}
            await write(remote.closed(envelope("error", "error", request_id, args)))

        space = namespace.lower()
        method = self.methods.get(f"{space}/{name.lower()}")
        if not namespace or not name:
            await error(400)
        elif (space, name) == ("rpc", "identify"):
            await reply({"hostname": self.hostname, "type": "server"})
        elif space == "rpc" and name.startswith("auth"):
            await self._log_in(remote, name, args, reply, error)
        elif not self.tokens.valid(remote.token):
            await error(401)
        elif space == "events":
            await self._subscribe(remote, name, args, reply, write)
        elif method is None:
            await error(404)
        else:
            await reply(method(args) if callable(method) else method)

    async def _log_in(self, remote: Remote, name: str, args: Any, reply: Reply, error: Callable[[int], Any]) -> None:
        self.tokens.drop(remote.token)
        remote.token = ""
        owner: str | None = None
        given = args if isinstance(args, dict) else {}
        if name == "auth_clear":
            return
        if name == "auth" and not remote.id and given.get("username") in self.accounts:
            owner = given["username"]
        elif name == "auth_ssl" and "md5_key" in given:
            known = given["md5_key"] in {checksum(pem) for pem in self.keys.values()}
            values = {"new_ssl_key": kept_pair("relay").pem, "test_string": self.challenges.new()}
            await reply({key: to_base64(value) for key, value in values.items()} if known else values)
            remote.enc_key = kept_pair("relay").pem if known and remote.id else remote.enc_key
            return
        elif name == "auth_ssl" and "encrypted_string" not in given:
            await reply({"test_string": self.challenges.new()})
            return
        elif name == "auth_ssl":
            owner = self.challenges.answered_by(self.keys, given["encrypted_string"])
        if owner is not None:
            remote.token = self.tokens.add(self.new_token(), owner)
        bridged_password = remote.id and name in {"auth", "auth_token"}
        await (reply([remote.token, 0]) if self.tokens.valid(remote.token) and not bridged_password else error(401))

    async def _subscribe(self, remote: Remote, name: str, args: Any, reply: Reply, write: Write) -> None:
        """A replay comes before the reply; over a bridge those get it who had subscribed before (spec sysadm §5.1)."""
        wanted = [one for one in ([args] if isinstance(args, str) else args) if one in EVENTS]
        for topic in wanted:
            if name == "subscribe" and topic in self.last:
                if not remote.id:
                    await write(remote.closed(self.last[topic]))
                for other in self.remotes.values() if remote.id else ():
                    if topic in other.events:
                        await self._writer(other)(other.closed(self.last[topic]))
        kept = [one for one in remote.events if one not in wanted]
        remote.events = [*kept, *wanted] if name == "subscribe" else kept
        await reply({name: wanted[-1]} if wanted else {})
