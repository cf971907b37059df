"""The peers that one bridge announces to this server, and their sessions.

The bridge says who is there (spec sysadm §6.5), and relays frames that name who sent them. Only an announced peer is
heard, and once it is no longer announced its session ends. A session begins with the first frame that needs one and not
before: a bridge with a thousand clients costs a thousand ids.

A bridge is a stranger that carries letters. What it says about a peer is used to keep peers apart (where they come
from, for the lock-outs), never to let anybody in.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog

from sysadmd.auth.identity import Peer
from sysadmd.auth.prefix import MAX_ADDRESS
from sysadmd.bridge.allowance import HANDSHAKE_RATE, HANDSHAKES, Tries
from sysadmd.bridge.conversation import Conversation, OpenConversation, SealedConversation
from sysadmd.errors import PayloadTooLarge, RpcError, TooManyRequests, Unauthorized, WireError
from sysadmd.keys.seal import SealingContext
from sysadmd.rpc.engine import CLOSE_POLICY, Engine
from sysadmd.wire import CLASSIC, Request, decode
from sysadmd.wire.relay import is_sealed, relayed, sealed_close, split, unwrapped

log = structlog.get_logger(__name__)

MAX_ANNOUNCED = 65_536
"""Peers of one bridge that are known at once; what is announced beyond them is ignored."""
NAME_IN_ADDRESS = 16
"""Characters of a link's name in the address of a peer, whose id has 40 of the 64."""
HELLO = b"~FgM"
"""What a sealed session begins with: base64 of a handshake record of TLS (RFC 8446 §5.1), any other byte goes on."""
_PEER_ID = re.compile(r"[!-~]{1,64}", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Guests:
    """The peers behind one connection to a bridge. `link` is its name; `send` writes one frame to it, `writable` says
    whether it takes more. `dropped` counts what was not handed on, by reason.
    """

    def __init__(
        self,
        engine: Engine,
        link: str,
        *,
        seal: SealingContext,
        send: Callable[[bytes], None],
        writable: Callable[[], bool],
        dropped: Counter[str],
        allow_classic: bool = True,
    ) -> None:
        self._engine, self._link, self._seal, self._send, self.writable = engine, link, seal, send, writable
        self._dropped, self._allow_classic = dropped, allow_classic
        self.peers: dict[str, str] = {}
        """Announced ids and the address that each stands for."""
        self._conversations: dict[str, Conversation] = {}
        self._unsent: Counter[str] = Counter()
        """Bytes for each peer since the link takes no more, and of all of them."""
        self._unsent_all = 0
        self._handshakes = Tries(HANDSHAKES, HANDSHAKE_RATE)

    @property
    def sessions(self) -> int:
        """Sessions that are open."""
        return len(self._conversations)

    # What the bridge says

    def announce(self, args: Any) -> None:
        """Take the list of peers that are there (`args` of the bridge's event); whoever is not in it is gone."""
        listed = args.get("available_connections") if isinstance(args, dict) else None
        if not isinstance(listed, list):
            self.drop("malformed announcement")
            return
        details = args.get("connections")
        details = details if isinstance(details, dict) else {}
        found: dict[str, str] = {}
        if len(listed) > MAX_ANNOUNCED:
            self.drop("malformed announcement")  # once for all that is not looked at
        for one in listed[:MAX_ANNOUNCED]:
            if not isinstance(one, str) or not _PEER_ID.fullmatch(one):
                self.drop("malformed announcement")
            else:
                # Whoever is known stays who they are: an address that changes would be a way around lock-outs.
                found[one] = self.peers.get(one) or self._address(one, details.get(one))
        gone = [conversation for peer, conversation in self._conversations.items() if peer not in found]
        self.peers = found
        for conversation in gone:
            conversation.vanish()

    def unreachable(self, peer: str) -> None:
        """The bridge could not relay to this peer."""
        if (conversation := self._conversations.get(peer)) is not None:
            conversation.vanish()

    def receive(self, frame: bytes) -> None:
        """Take one relayed frame. Nothing in it is a reason to raise."""
        parts = split(frame)
        peer = None if parts is None else parts[0].decode("latin-1")
        if parts is None or peer is None:
            self.drop("malformed frame")
        elif peer not in self.peers:
            self.drop("unannounced peer")
        elif is_sealed(parts[1]):
            self._receive_sealed(peer, parts[1])
        else:
            self._receive_open(peer, parts[1])

    # The link

    def resume(self) -> None:
        """The link takes frames again."""
        self._unsent.clear()
        self._unsent_all = 0
        for conversation in list(self._conversations.values()):
            conversation.resume()

    def allow(self, *, classic: bool) -> None:
        """Whether the original clients may come in from now on; those who are in leave."""
        self._allow_classic = classic
        if not classic:
            for conversation in list(self._conversations.values()):
                if isinstance(conversation, OpenConversation):
                    conversation.close(CLOSE_POLICY, "classic sessions are not allowed")

    def close(self) -> None:
        """The link is gone, and everybody with it."""
        self.peers = {}
        for conversation in list(self._conversations.values()):
            conversation.vanish()

    # The way of a conversation

    def relay(self, peer: str, payload: bytes) -> None:
        """Send a payload to a peer, unless too much waits for it, or the bridge would refuse it for its size."""
        frame, limits = relayed(peer, payload), self._engine.limits
        if len(frame) > limits.frame_bridge:
            self._cut_off(peer, "oversize answer", f"an answer of {len(frame)} bytes cannot be relayed")
            return
        if not self.writable():
            if self._unsent[peer] > limits.bridge_output or self._unsent_all > limits.frame_bridge:
                self._cut_off(peer, "overflow", f"{self._unsent[peer]} bytes of {self._unsent_all} are unsent")
                return
            self._unsent[peer] += len(frame)
            self._unsent_all += len(frame)
        self._send(frame)

    def drop(self, reason: str) -> None:
        """Count something that was not handed on."""
        self._dropped[reason] += 1

    def forget(self, conversation: Conversation) -> None:
        """A conversation is over."""
        if self._conversations.get(conversation.peer_id) is conversation:
            del self._conversations[conversation.peer_id]

    def _cut_off(self, peer: str, counted: str, reason: str) -> None:
        self.drop(counted)
        if (conversation := self._conversations.get(peer)) is not None:
            log.warning("a peer behind a bridge is cut off", link=self._link, peer=self.peers.get(peer), reason=reason)
            conversation.vanish()

    # Payloads

    def _receive_sealed(self, peer: str, payload: bytes) -> None:
        conversation = self._conversations.get(peer)
        if not isinstance(conversation, SealedConversation):
            if not payload.startswith(HELLO):
                self.drop("no sealed session")  # what was on its way when the session ended
                return
            if conversation is not None:
                conversation.vanish()
            if self._is_full():
                self.relay(peer, sealed_close("too many sessions"))
                return
            if not self._may_begin(self.peers[peer]):
                self.relay(peer, sealed_close("too many sessions in a short time"))
                return
            found = Peer(self.peers[peer], "bridge", self._link)
            conversation = SealedConversation(self, self._engine, peer, found, self._seal)
            self._conversations[peer] = conversation
        conversation.receive(payload)

    def _receive_open(self, peer: str, payload: bytes) -> None:
        conversation = self._conversations.get(peer)
        if isinstance(conversation, SealedConversation):
            if not _asks_identity(payload, sealing=True):
                self.drop("downgrade")
                return
            conversation.vanish()
            conversation = None
        assert conversation is None or isinstance(conversation, OpenConversation)
        limit = self._engine.limits.frame_unauthenticated if conversation is None else conversation.limit
        try:
            message = _checked(payload, limit)
        except RpcError as error:
            self.drop("oversize message" if isinstance(error, PayloadTooLarge) else "neither JSON nor base64")
            self._refuse(peer, None, error)
            return
        if conversation is None or conversation.asks_only:
            conversation = self._admit(peer, message, conversation)
            if conversation is None:
                return
        conversation.in_base64 = not payload.startswith(b"{")
        conversation.receive(message)

    def _admit(self, peer: str, message: bytes, present: OpenConversation | None) -> OpenConversation | None:
        """The conversation for the first message of a peer, if it may have one, or for the first that asks more than
        who is here.
        """
        asks_only = _asks_identity(message)
        if not (self._allow_classic or asks_only):
            self.drop("classic not allowed")
            self._refuse(peer, message, Unauthorized())
            return None
        if present is None:
            if self._is_full():
                self._refuse(peer, message, TooManyRequests())
                return None
            found = Peer(self.peers[peer], "bridge", self._link, insecure=True)
            present = self._conversations[peer] = OpenConversation(self, self._engine, peer, found, classic=True)
        present.asks_only = asks_only
        return present

    def _may_begin(self, address: str) -> bool:
        """Whether this peer may have one more handshake of TLS now: it need not prove anything for that."""
        now = self._engine.monotonic()
        if self._handshakes.allows(address, now):
            self._handshakes.add(address, now)
            return True
        self.drop("too many handshakes")
        return False

    def _is_full(self) -> bool:
        full = len(self._conversations) >= self._engine.limits.bridge_sessions
        if full:
            self.drop("too many sessions")
        return full

    def _refuse(self, peer: str, message: bytes | None, error: RpcError) -> None:
        """Answer without a session, in plain JSON."""
        frame = None if message is None else decode(message, classic=True)
        entry = None if frame is None else frame.entries[0]
        request = entry if isinstance(entry, Request) else None
        dialect = CLASSIC if frame is None else frame.dialect
        self.relay(peer, dialect.error(request, error))

    def _address(self, peer: str, details: Any) -> str:
        """What stands for a peer where others have an address: the key that it logged in to the bridge with, if the
        bridge tells, or else its id there.
        """
        key = details.get("key") if isinstance(details, dict) else None
        if isinstance(key, str) and _FINGERPRINT.fullmatch(key):
            return f"key:{key[:32]}"
        where = f"{self._link[:NAME_IN_ADDRESS]}/"
        if len(where) + len(peer) > MAX_ADDRESS:
            peer = hashlib.sha256(peer.encode("ascii")).hexdigest()[:32]
        return where + peer


def _checked(payload: bytes, limit: int) -> bytes:
    """The message in a payload. Raises PayloadTooLarge and WireError."""
    if len(payload) > limit * 4 // 3 + 4:
        raise PayloadTooLarge
    message = unwrapped(payload)
    if len(message) > limit:
        raise PayloadTooLarge
    return message


def _asks_identity(message: bytes, *, sealing: bool = False) -> bool:
    """Whether a message is a plain `rpc/identify` and nothing besides; `sealing`: one that asks for a seal."""
    if b"identify" not in message or not message.startswith(b"{"):
        return False
    for entry in decode(message, classic=True).entries:
        if isinstance(entry, WireError) or (entry.namespace.lower(), entry.name) != ("rpc", "identify"):
            return False
        if sealing and not (isinstance(entry.args, dict) and "seal" in entry.args):
            return False
    return True
