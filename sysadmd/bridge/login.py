"""Log-ins at a bridge: a challenge, and the proof that a peer has one of the keys that the bridge knows.

The answer to the classic proof does not say whose it is, so that every RSA key is tried (25 µs each); ours names the
key. Either is checked in a worker thread, one at a time and with a bounded queue, like all that strangers can make
costly; each kind has a lane of its own, so that who sends classic nonsense keeps only originals waiting. The keyring is
read there too: it may have to look at thousands of files.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from sysadmd.auth.challenge import ALPHABET
from sysadmd.auth.lane import Lane
from sysadmd.bridge.peer import Proof
from sysadmd.keys import signing

TOKEN = 40
SECONDS = 900
QUEUED = 256
"""Proofs of one kind that wait: as many as there may be connections that are not logged in."""


class Key(Protocol):
    """A key that may log in, and what its owner is called."""

    @property
    def nick(self) -> str: ...  # noqa: D102

    @property
    def public(self) -> signing.PublicKey: ...  # noqa: D102


class Keys(Protocol):
    """The keys by fingerprint, as they are now."""

    def current(self) -> Mapping[str, Key]: ...  # noqa: D102


class Desk:
    """Where proofs are checked. Of each kind at most `queued` wait."""

    def __init__(self, keys: Keys, queued: int = QUEUED) -> None:
        self._keys, self._changes = keys, 0
        self._classic, self._modern = Lane(queued, "log-ins"), Lane(queued, "log-ins")

    def changed(self) -> Mapping[str, Key]:
        """The keys after a change; whoever is being checked meanwhile is checked against them."""
        self._changes += 1
        return self._keys.current()

    async def check(self, proof: Proof) -> tuple[str, str] | None:
        """Fingerprint and nickname of the key; None when it is nobody's. Raises TooManyRequests."""
        if proof.challenge is None:
            return None
        challenge, answer, changes = proof.challenge, proof.answer, self._changes
        lane = self._modern if "signature" in answer else self._classic
        found = await lane.run(lambda: _proven(self._keys.current(), challenge, answer))
        if found is not None and changes != self._changes:
            key = self._keys.current().get(found[0])
            return None if key is None else (found[0], key.nick)
        return found


def token() -> list[Any]:
    """What a log-in is answered with. Nothing is done with it: a bridge knows its peers by their connections."""
    return ["".join(secrets.choice(ALPHABET) for _ in range(TOKEN)), SECONDS]


def _proven(keys: Mapping[str, Key], challenge: str, answer: Mapping[str, Any]) -> tuple[str, str] | None:
    signature = signing.signature_in(answer.get("signature" if "signature" in answer else "encrypted_string"))
    if "signature" not in answer:
        return _signer(keys.items(), challenge.encode("ascii"), signature)
    claimed, algorithm = str(answer.get("key")).lower(), str(answer.get("algorithm"))
    key = keys.get(claimed)
    if key is None or not signing.verify(key.public.pem, algorithm, challenge, signature, signing.AT_BRIDGE):
        return None
    return claimed, key.nick


def _signer(keys: Iterable[tuple[str, Key]], wanted: bytes, signature: bytes) -> tuple[str, str] | None:
    for fingerprint, key in keys:
        if key.public.kind == "rsa" and key.public.size == len(signature):
            found = signing.recover(key.public.pem, signature)
            if found is not None and hmac.compare_digest(found, wanted):
                return fingerprint, key.nick
    return None
