"""One connection of this server to a bridge: who we are, the log-in, and what the bridge asks.

The order is that of the original server (spec sysadm §6.2): it asks for its challenge at once and answers the bridge's
questions as they come. Frames that begin with `{` are the bridge's own, all others are relayed. A bridge has no rights
here: besides who we are and, once it let us in, which keys are registered, it learns nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import structlog
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from sysadmd.bridge.dial import LinkConnection
from sysadmd.bridge.guests import Guests
from sysadmd.errors import Forbidden, SysadmdError, WireError
from sysadmd.events.subscription import PIECE
from sysadmd.keys.signing import AT_BRIDGE, CLASSIC_CHALLENGE, PrivateKey, answer_to
from sysadmd.limits import Limits
from sysadmd.wire import SYSADM, Request
from sysadmd.wire.relay import KEYS_ID, LOGIN_ID
from sysadmd.wire.text import encode, parse

log = structlog.get_logger(__name__)

MAX_WORDS = 16 * 1024 * 1024
"""Bytes of a frame of the bridge's own: the longest list of peers that counts (sysadmd.bridge.guests) has 14 MiB."""
TEXT = 200
"""Characters of a bridge's own words that are repeated."""


class LinkEnded(SysadmdError):
    """The connection is over. Its text is for people."""


class LinkRefused(LinkEnded):
    """The bridge does not let this server in. `original`: it is one of the original programs."""

    def __init__(self, reason: str, *, original: bool = False) -> None:
        self.original = original
        super().__init__(reason)


class Line:
    """One connection that is open. `checksums` gives those of all registered keys; `logged_in` is called once."""

    def __init__(
        self,
        connection: LinkConnection,
        *,
        node: str,
        key: PrivateKey,
        limits: Callable[[], Limits],
        checksums: Callable[[], list[str]],
        dropped: Counter[str],
        logged_in: Callable[[], None],
    ) -> None:
        self._connection, self._node, self._key, self._limits = connection, node, key, limits
        self._checksums, self._dropped, self._tell = checksums, dropped, logged_in
        self.logged_in = False
        self._challenged = self._original = False
        self._frames: list[bytes] = []
        self._size = 0
        self._deadline: asyncio.Timeout | None = None

    async def run(self, guests: Guests) -> None:
        """Log in and serve, until the connection ends. Raises LinkEnded, always."""
        limits = self._limits()
        self._connection.on_writable = guests.resume
        try:
            async with asyncio.timeout(limits.auth_timeout) as self._deadline:
                self._say("auth_ssl", "", LOGIN_ID)
                await self._read(guests)
        except TimeoutError:
            raise LinkEnded(f"no log-in within {limits.auth_timeout:g} s") from None
        except ConnectionClosed as error:
            raise LinkEnded(_ending(error)) from error
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise LinkEnded(str(error) or "the connection broke") from error
        finally:
            self._connection.on_writable = None
            guests.close()

    def send(self, frame: bytes) -> None:
        """Write a frame at the end of this turn of the loop, with the others that come until then."""
        if not self._frames:
            asyncio.get_running_loop().call_soon(self.flush)
        self._frames.append(frame)
        self._size += len(frame)
        if self._size >= PIECE:
            self.flush()  # so that the transport can say when it is full

    def flush(self) -> None:
        """Hand over what was written to the transport. What is written to a connection that ends is lost."""
        frames, self._frames, self._size = self._frames, [], 0
        protocol = self._connection.protocol
        if not frames or protocol.state is not State.OPEN:
            return
        for frame in frames:
            protocol.send_text(frame)
        self._connection.transport.write(b"".join(protocol.data_to_send()))

    def writable(self) -> bool:
        """Whether the connection takes more without piling up."""
        return not self._connection.paused and self._connection.protocol.state is State.OPEN

    def tell_keys(self, request_id: Any = KEYS_ID) -> None:
        """Tell the bridge which keys are registered, as it asked once: it pairs us with the clients that have one."""
        if self.logged_in:
            self._say("response", {"md5_keys": list(dict.fromkeys(self._checksums()))}, request_id)

    # Frames of the bridge

    async def _read(self, guests: Guests) -> None:
        connection = self._connection
        while True:
            frame = await connection.recv(decode=False)
            if frame.startswith(b"{"):
                if len(frame) > MAX_WORDS:
                    self._dropped["oversize frame"] += 1
                else:
                    await self._receive(frame, guests)
            elif self.logged_in:
                guests.receive(frame)
            else:
                self._dropped["before the log-in"] += 1
            if connection.paused:
                # What cannot be written is the bridge's fault as a whole, so that nobody is read meanwhile.
                await connection.drain()

    async def _receive(self, frame: bytes, guests: Guests) -> None:
        try:
            message = parse(frame, self._limits().json_depth)
        except WireError:
            self._dropped["malformed frame"] += 1
            return
        namespace, name, args = message.get("namespace"), message.get("name"), message.get("args")
        if message.get("id") == LOGIN_ID and not self.logged_in and name in ("response", "error"):
            await self._log_in(name, args)
        elif name == "error":
            peer = args.get("connection") if isinstance(args, dict) else None
            if isinstance(peer, str):
                guests.unreachable(peer)
        elif (namespace, name) == ("events", "bridge"):
            if self.logged_in:
                guests.announce(args)
        elif name != "response" and isinstance(namespace, str) and isinstance(name, str):
            self._answer(Request(namespace, name, None, message.get("id", ""), args))

    def _answer(self, request: Request) -> None:
        """Answer a request of the bridge: two of them, and 403 to all others."""
        args, known = request.args, (request.namespace, request.name)
        if known == ("rpc", "identify"):
            identity = {"hostname": self._node, "type": "server", "details": True}
            self._say("response", identity, request.id)
        elif known == ("rpc", "settings") and isinstance(args, dict) and args.get("action") == "list_ssl_checksums":
            self.tell_keys(request.id)
        else:
            self._dropped["request of the bridge"] += 1
            self.send(SYSADM.error(request, Forbidden("a bridge may call nothing here")))

    async def _log_in(self, name: str, args: Any) -> None:
        """The next step of the log-in. Raises LinkRefused."""
        if name == "error":
            raise LinkRefused(f"the bridge refuses this server's key ({_words(args)})", original=self._original)
        if isinstance(args, dict) and isinstance(args.get("test_string"), str) and not self._challenged:
            self._challenged, self._original = True, len(args["test_string"]) < CLASSIC_CHALLENGE
            try:
                proof = await anyio.to_thread.run_sync(self._proof, args["test_string"])
            except ValueError as error:
                raise LinkRefused(f"the challenge of the bridge cannot be signed: {error}") from error
            self._say("auth_ssl", proof, LOGIN_ID)
        elif isinstance(args, list) and len(args) == 2 and self._challenged:
            self.logged_in = True
            self._connection.protocol.max_message_size = self._limits().frame_bridge
            if self._deadline is not None:
                self._deadline.reschedule(None)
            self._tell()
        else:
            raise LinkRefused(f"the bridge answers the log-in with {_words(args)}")

    def _proof(self, challenge: str) -> dict[str, str]:
        """In a worker thread: the answer to a challenge. Raises ValueError."""
        return answer_to(challenge, self._key, "" if self._original else AT_BRIDGE)

    def _say(self, name: str, args: Any, request_id: Any) -> None:
        self.send(encode({"args": args, "id": request_id, "name": name, "namespace": "rpc"}))


def _words(args: Any) -> str:
    """What a bridge said, in a line of ours."""
    message = args.get("message") if isinstance(args, dict) else args
    text = message if isinstance(message, str) else encode(args).decode()
    return text[:TEXT].encode("unicode_escape").decode("ascii")


def _ending(error: ConnectionClosed) -> str:
    received = error.rcvd
    if received is None:
        return "the connection broke"
    reason = f": {_words(received.reason)}" if received.reason else ""
    return f"the bridge closed the connection ({received.code}{reason})"
