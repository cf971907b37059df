"""A simulator of the core of the original client (spec sysadm §6, §9.1)."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection

from tests.integration.original_parts import (
    AUTH,
    ENVELOPE,
    EVENT,
    EVENTS,
    IDENTIFY,
    Dialler,
    Pair,
    Remote,
    envelope,
    from_base64,
    kept_pair,
    parsed,
)


class OriginalClient(Dialler):
    """The core of the Qt client: `main` is who it is connected to, `servers` are those behind it if that is a bridge.

    With a `username` it logs in so (directly, on loopback, without a password), else with a key. `overflows` counts
    the challenges whose answer is longer than the buffer that it makes for it: the real one crashes there, or not.
    """

    origin = "sysadm-client"
    keepalive = 90.0
    spacing = 0.02
    subscriptions: tuple[str, ...] = ("system-state", "life-preserver")

    def __init__(self, key: Pair | None = None, bridge_key: Pair | None = None, username: str = "") -> None:
        super().__init__()
        self.key, self.bridge_key, self.username = (
            key or kept_pair("client"),
            bridge_key or kept_pair("client to bridge"),
            username,
        )
        self.hostname = "c"
        self.main, self.kind = Remote(), ""
        self.servers: dict[str, Remote] = {}
        self.events: list[tuple[str, str, Any]] = []
        self.replies: dict[str, dict[str, Any]] = {}
        self.overflows = 0
        self._calls = 0
        self._outbox: asyncio.Queue[str] = asyncio.Queue()

    async def call(self, server: str, namespace: str, name: str, args: Any) -> dict[str, Any]:
        """The whole reply of a server, by its id of the bridge; "" is who this is connected to."""
        self._calls += 1
        request_id = f"page{self._calls}"
        self._say(self.servers[server] if server else self.main, namespace, name, request_id, args)
        return await self.until(lambda: self.replies.pop(request_id, None))

    def server(self, hostname: str = "") -> Remote | None:
        """A server behind the bridge that let this client in."""
        return next((one for one in self.servers.values() if one.token and hostname in ("", one.hostname)), None)

    def close(self) -> None:
        """Leave, as the window's close button does: unclean."""
        if self._connection is not None:
            self._connection.transport.abort()

    def _say(self, remote: Remote, namespace: str, name: str, id: str, args: Any) -> None:
        text = envelope(namespace, name, id, args)
        self._outbox.put_nowait(f"{remote.id}\n{remote.closed(text)}" if remote.id else text)

    async def _session(self, connection: ClientConnection) -> None:
        self._outbox = asyncio.Queue()
        pace = asyncio.create_task(self._pace())
        try:
            await super()._session(connection)
        finally:
            pace.cancel()

    async def _pace(self) -> None:
        """Write what waits, 20 ms apart; after 90 s without a word, ask everybody who they are and what they can."""
        while True:
            try:
                async with asyncio.timeout(self.keepalive):
                    text = await self._outbox.get()
            except TimeoutError:
                for remote in [self.main, *self.servers.values()]:
                    self._say(remote, "rpc", "identify", IDENTIFY, "")
                    self._say(remote, "rpc", "query", "sysadm_client_ping", "")
                continue
            await self._write(text)
            await asyncio.sleep(self.spacing)

    async def _opened(self) -> None:
        self._say(self.main, "rpc", "identify", IDENTIFY, "")

    def _lost(self) -> None:
        self.main, self.kind, self.servers = Remote(), "", {}

    async def _receive(self, text: str) -> None:
        sender, _, payload = ("", "", text) if text.startswith("{") else text.partition("\n")
        remote = self.servers.get(sender) if sender else self.main
        if remote is not None:
            message = parsed(remote.opened(payload))
            names = [str(message.get(key, "")) for key in ENVELOPE[:3]]
            self._handle(remote, names[0], names[1], names[2], message.get("args"))

    def _handle(self, remote: Remote, namespace: str, name: str, id: str, args: Any) -> None:
        if id == EVENT:
            return
        if (namespace, name) == ("rpc", "identify"):
            self._say(remote, "rpc", "response", id, {"hostname": self.hostname, "type": "client"})
        elif (namespace, name) == ("rpc", "settings") and dict(args or {}).get("action") == "list_ssl_checksums":
            self._say(remote, "rpc", "response", id, {"md5_keys": [self.key.checksum]})
        elif id == IDENTIFY:
            self._identified(remote, dict(args or {}))
        elif id == AUTH:
            self._authorising(remote, name, args)
        elif namespace == "events" and name == "bridge":
            self._available(list(args["available_connections"]))
        elif namespace == "events" and name in EVENTS:
            self.events.append((remote.id, name, args))
        elif name in {"response", "error"}:
            self.replies[id] = {"args": args, "id": id, "name": name, "namespace": namespace}

    def _identified(self, remote: Remote, args: dict[str, Any]) -> None:
        remote.hostname = args.get("hostname", "")
        if remote.id or self.kind:
            return
        if args.get("type") not in {"server", "bridge"}:
            self.refused.append(f"the type {args.get('type')}")
            self.close()
            return
        self.kind = args["type"]
        if self.username:
            self._say(remote, "rpc", "auth", AUTH, {"password": "", "username": self.username})
        else:
            self._say(remote, "rpc", "auth_ssl", AUTH, "")

    def _authorising(self, remote: Remote, name: str, args: Any) -> None:
        if name == "error":
            remote.enc_key = ""
            self.refused.append(remote.id or "unauthorized")
            if not remote.id:
                self.close()
        elif isinstance(args, list) and len(args) >= 2 and isinstance(args[0], str):
            remote.token = args[0]
            if not remote.id and self.kind == "server":
                self._say(remote, "rpc", "query", "cp_client_auto_query_id", "simple-query")
            for topic in self.subscriptions:
                self._say(remote, "events", "subscribe", EVENT, topic)
        elif isinstance(args, dict) and "test_string" in args:
            challenge = args["test_string"]
            if "new_ssl_key" in args:
                challenge, remote.enc_key = from_base64(challenge), from_base64(args["new_ssl_key"])
            key = self.bridge_key if self.kind == "bridge" and not remote.id else self.key
            self.overflows += 2 * len(challenge) < 256
            self._say(remote, "rpc", "auth_ssl", AUTH, {"encrypted_string": key.encrypted(challenge)})

    def _available(self, listed: list[str]) -> None:
        self.servers = {one: self.servers.get(one) or Remote(one) for one in listed}
        for remote in self.servers.values():
            if not remote.token and not remote.enc_key:
                self._say(remote, "rpc", "identify", IDENTIFY, "")
                self._say(remote, "rpc", "auth_ssl", AUTH, {"md5_key": self.key.checksum})
