"""What a peer says to the bridge itself: who it is, its log-in, and the list of its keys (spec sysadm §6.2 and §6.3).

Before the log-in every frame is for the bridge; after it those are that begin with `{`. The original programs and ours
differ in what they are told when something is wrong, not in what they may do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from sysadmd.auth.challenge import Challenge
from sysadmd.auth.prefix import is_loopback
from sysadmd.bridge import speech
from sysadmd.bridge.allowance import FAILURE_RATE, FAILURES, Tries
from sysadmd.bridge.figures import Figures
from sysadmd.bridge.login import Desk, token
from sysadmd.bridge.peer import Peer, Proof
from sysadmd.bridge.roster import Roster
from sysadmd.bridge.speech import Said
from sysadmd.bridge.switch import Switch
from sysadmd.errors import (
    BadRequest,
    Conflict,
    NotFound,
    PayloadTooLarge,
    RpcError,
    TooManyRequests,
    Unauthorized,
    WireError,
)
from sysadmd.limits import Limits
from sysadmd.wire.relay import ASK_IDENTITY, ASK_KEYS, IDENTIFY_ID, KEYS_ID

log = structlog.get_logger(__name__)

CLOSE_POLICY = 1008
STRANGER_FRAMES = 64
"""Frames before the log-in: a log-in takes three, and an original client asks for a few things besides."""
CHECKSUM_CHARACTERS = 64
"""Characters of a checksum: base64 of MD5 has 24, of SHA-256 44."""
HOST_CHARACTERS = 255
WRONG = "the proof is wrong, or the key is not known to this bridge"


class Dialogue:
    """Answers peers. `hostname` is the bridge's own name; `exempt` says whose failures are not counted."""

    def __init__(
        self,
        limits: Callable[[], Limits],
        figures: Figures,
        desk: Desk,
        roster: Roster,
        switch: Switch,
        *,
        hostname: str,
        exempt: Callable[[str], bool] = is_loopback,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._figures, self._desk, self._roster = limits, figures, desk, roster
        self._switch, self._hostname, self.exempt, self._monotonic = switch, hostname, exempt, monotonic
        self._failures = Tries(FAILURES, FAILURE_RATE)

    def begin(self, peer: Peer) -> None:
        """The first word is the bridge's."""
        self._switch.say(peer, ASK_IDENTITY)

    def receive(self, peer: Peer, payload: bytes) -> None:
        """One frame to the bridge itself."""
        limits = self._limits()
        if not peer.key:
            peer.frames += 1
            if peer.frames > STRANGER_FRAMES:
                self._switch.end(peer, CLOSE_POLICY, "log in first", why="stranger")
                return
        if len(payload) > limits.frame_authenticated:
            self._figures.dropped["size"] += 1
            self._tell(peer, PayloadTooLarge(f"a frame to the bridge has at most {limits.frame_authenticated} bytes"))
            return
        try:
            read = speech.read_classic if peer.classic else speech.read
            said = read(payload, limits.json_depth)
        except WireError as error:
            self._figures.dropped["json"] += 1
            self._switch.say(peer, speech.failed(error, error.request_id or "", error.namespace))
            return
        if said is None:
            self._figures.dropped["json"] += 1
        else:
            self._answer(peer, said)

    def _answer(self, peer: Peer, said: Said) -> None:
        name = said.name.lower()
        if name == "response":
            self._response(peer, said)
        elif name == "error":
            return
        elif said.namespace.lower() == "rpc" and name == "identify":
            self._reply(peer, said, {"hostname": self._hostname, "type": "bridge"})
        elif said.namespace.lower() == "rpc" and name == "auth_ssl" and not peer.key:
            self._log_in(peer, said)
        elif not peer.classic:
            self._refuse(peer, said)
        elif peer.key:
            self._reply(peer, said, None)
        else:
            self._switch.say(peer, speech.unauthorized(said))

    def _refuse(self, peer: Peer, said: Said) -> None:
        error: RpcError
        if not peer.key:
            error = Unauthorized("log in first, with rpc/auth_ssl")
        elif (said.namespace.lower(), said.name.lower()) == ("rpc", "auth_ssl"):
            error = Conflict("this connection is logged in already")
        else:
            error = NotFound(f"a bridge knows no {said.namespace[:64]}/{said.name[:64]}")
        self._switch.say(peer, speech.failed(error, said.id, said.namespace))

    def _reply(self, peer: Peer, said: Said, args: Any) -> None:
        self._switch.say(peer, speech.answer(said, args, classic=peer.classic))

    def _tell(self, peer: Peer, error: RpcError) -> None:
        """Say what was wrong with something that nobody asked; the originals would not understand it."""
        if not peer.classic:
            self._switch.say(peer, speech.failed(error))

    # What was asked of the peer

    def _response(self, peer: Peer, said: Said) -> None:
        if said.id == IDENTIFY_ID:
            self._identified(peer, said.args if isinstance(said.args, dict) else {})
        elif said.id == KEYS_ID and peer.key:
            self._listed(peer, said.args)
        else:
            self._figures.dropped["foreign_reply"] += 1

    def _identified(self, peer: Peer, args: dict[str, Any]) -> None:
        if peer.identified:
            self._figures.dropped["identity"] += 1
            return
        peer.identified = True
        hostname = args.get("hostname")
        if isinstance(hostname, str):
            peer.hostname = "".join(letter for letter in hostname[:HOST_CHARACTERS] if letter.isprintable())
        peer.details = args.get("details") is True
        self._roster.role(peer, "server" if args.get("type") == "server" else "client")

    def _listed(self, peer: Peer, args: Any) -> None:
        keys = args.get("md5_keys") if isinstance(args, dict) else None
        if not isinstance(keys, list) or not all(
            isinstance(key, str) and 0 < len(key) <= CHECKSUM_CHARACTERS for key in keys
        ):
            self._figures.dropped["key_list"] += 1
            text = f"expected a list of checksums of at most {CHECKSUM_CHARACTERS} characters"
            self._tell(peer, BadRequest(text, path="args.md5_keys", rule="type"))
        elif not self._roster.listed(peer, keys):
            self._figures.dropped["key_list"] += 1
            self._tell(peer, PayloadTooLarge(f"a list has at most {self._limits().bridge_checksums} checksums"))

    # Log-in

    def _log_in(self, peer: Peer, said: Said) -> None:
        args = said.args if isinstance(said.args, dict) else {}
        now = self._monotonic()
        if "signature" not in args and "encrypted_string" not in args:
            peer.challenge = Challenge.new(now + self._limits().challenge_life)
            self._reply(peer, said, {"test_string": peer.challenge.text})
            return
        challenge, peer.challenge = peer.challenge, None
        if challenge is None or challenge.expires <= now or peer.proof is not None:
            self._failed(peer, said.id, "challenge", Unauthorized("there is no challenge; ask for one first"))
        elif not self._is_exempt(peer) and not self._failures.allows(peer.prefix, now):
            self._failed(peer, said.id, "rate", TooManyRequests("too many log-ins failed from this address; wait"))
        else:
            peer.proof = Proof(said.id, challenge.text, args)
            peer.wire.wake()

    async def check(self, peer: Peer, proof: Proof) -> None:
        """Look at a proof, and log the peer in if it is one."""
        try:
            found = await self._desk.check(proof)
        except TooManyRequests as error:
            peer.proof = None
            self._failed(peer, proof.id, "busy", error)
            return
        peer.proof = None
        if found is None:
            if not self._is_exempt(peer):
                self._failures.add(peer.prefix, self._monotonic())  # also of one that did not wait for the answer
            self._failed(peer, proof.id, "proof", Unauthorized(WRONG))
        elif peer.gone:
            return
        elif not self._roster.admit(peer, *found):
            self._failed(peer, proof.id, "connections", TooManyRequests("this key has too many connections"))
        else:
            self._admitted(peer, proof)

    def _admitted(self, peer: Peer, proof: Proof) -> None:
        self._figures.logins += 1
        peer.challenge = None
        peer.wire.admitted(self._limits().frame_bridge)
        switch, said = self._switch, Said("rpc", "auth_ssl", proof.id, None)
        switch.say(peer, speech.answer(said, token(), classic=peer.classic))
        switch.say(peer, ASK_KEYS)
        log.info("logged in", peer=peer.nick, role=peer.role, address=peer.address, id=peer.id)

    def _failed(self, peer: Peer, id: Any, why: str, error: RpcError) -> None:
        self._figures.refused[why] += 1
        peer.failures += why != "busy"  # which is the bridge's fault
        self._switch.say(peer, speech.login_refused(id, error, classic=peer.classic))
        if peer.failures >= self._limits().bridge_logins:
            self._switch.end(peer, CLOSE_POLICY, "too many log-ins failed", why="login")

    def _is_exempt(self, peer: Peer) -> bool:
        return self.exempt(peer.address)
