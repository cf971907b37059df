"""Which key a proof is of."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from sysadmd.bridge.login import Desk, token
from sysadmd.bridge.peer import Proof
from sysadmd.errors import TooManyRequests
from sysadmd.keys.signing import AT_BRIDGE, PrivateKey, parse
from tests.unit.bridge.wires import Entry, Ring

CHALLENGE = "x" * 200
A1 = (
    "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUlJQklqQU5CZ2txaGtpRzl3MEJBUUVGQUFPQ0FROEFNSUlCQ2dLQ0FRRUF3S2gxeVVGR2pJbFpL"
    "UGJ6MGtvdQoyOWUzWEpRaWRQT0dRRkJueU9sUVplRlMxWXhmNStQZ2Q5WTkxV1BIUVZyQ25lYzJoWVBUbjV2bGhHVEdibkt6CkNPa20yTDF2OTdr"
    "MTRWOWhSRDVuZnEwb1lFdGttT0NvdWtOYUI3ME5jaXA2TjJnK01HSm9lcEFNNzRROWkvMW8KWGxrL2JvT0NsdWwrQzhZM2ozdjdLTGxEM01TNHAz"
    "Q01WZ0JMK0ZNbFZNVUEweHVMZnhuV1B4U2lzNnBoNTJIMgpNQXo1WndUNi9pNzh0RWxaS0NLYVd4cktRZ1V1REY1dkZIQTVSK3k4WXQ0cEpsZlEz"
    "djdLQWZ5MkdLcWJWNTg2CktGOHhDQ3pEdGZMS0ExSEZEMHNFRktoZzVPUG94cmVKZUtYWUU4SkJoU3A0d3ZaTHhTNzk3dXZsU3pobjNIVWgKK3dJ"
    "REFRQUIKLS0tLS1FTkQgUFVCTElDIEtFWS0tLS0tCg=="
)
A3 = "bVHNHA0u4F8MEr4NbnwlU0QHu4P9KV5MJlzTm43m"
A4 = (
    "u01wcSJK1no+NpRgan/dogVnk1xC6OOWdbrGNjNN+UV6xJIRCTNjZJqsmT2uxLVOJNci2UV4vbozwBSVoVYn6iKEpWPa42FPW7xZU5zW9ciMQgT3"
    "6wSz7q/ELrdnD6PdwAPDy/ZGOqZ/caDyWmtjbg1Ido1Ir+zDTYIXu3+nHhm7yA1l2gsGVrCb6RO6TzXTTc8tORTTjztjCBKA7b3Lw4aIkrDaBo1Z"
    "h355Eh4rG5EU0HB+ihUHH+bsRZSuGHmjhRbjIrl/ckrXFJX2GBPFOpXV+V0QYdj1IyTo6c/6BuZbnJnXc6Y8gMkXcA1V5hcTeLkUWIuI7LFbc8Ba"
    "IXXulg=="
)
"""Appendix A1, A3 and A4: a key, a challenge and the answer of the original client."""


@cache
def _made(name: str, kind: Any) -> PrivateKey:
    return PrivateKey.generate(kind)


def key(name: str, kind: Any = "ed25519") -> PrivateKey:
    """One for each name and kind."""
    return _made(name, kind)


def ring(**keys: PrivateKey) -> Ring:
    return Ring({one.public.fingerprint: Entry(nick, one.public) for nick, one in keys.items()})


def modern(one: PrivateKey, challenge: str = CHALLENGE, binding: str = AT_BRIDGE) -> dict[str, Any]:
    algorithm, signature = one.sign(challenge, binding)
    encoded = base64.b64encode(signature).decode()
    return {"key": one.public.fingerprint, "algorithm": algorithm, "signature": encoded}


def classic(one: PrivateKey, challenge: str = CHALLENGE) -> dict[str, Any]:
    return {"encrypted_string": base64.b64encode(one.sign_classic(challenge)).decode()}


async def check(keys: Ring, answer: dict[str, Any], challenge: str | None = CHALLENGE) -> str | None:
    """The nickname of the key."""
    found = await Desk(keys).check(Proof("x", challenge, answer))
    return None if found is None else found[1]


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
async def test_a_modern_proof_is_of_the_key_that_it_names(kind: str) -> None:
    keys = ring(olga=key("olga", kind), ivan=key("ivan"))
    assert await check(keys, modern(key("olga", kind))) == "olga"


async def test_a_classic_proof_is_of_the_key_that_made_it() -> None:
    keys = ring(ivan=key("ivan"), eva=key("eva", "rsa"), olga=key("olga", "rsa"))
    assert await check(keys, classic(key("olga", "rsa"))) == "olga"


async def test_the_answer_of_the_original_client_is_good() -> None:
    public = parse(A1)
    keys = Ring({public.fingerprint: Entry("original", public)})
    assert await check(keys, {"encrypted_string": A4}, A3) == "original"
    assert await check(keys, {"encrypted_string": A4}, A3[:-1] + "n") is None


async def test_a_key_that_is_not_known_proves_nothing() -> None:
    keys = ring(ivan=key("ivan"), eva=key("eva", "rsa"))
    assert await check(keys, modern(key("olga"))) is None
    assert await check(keys, classic(key("olga", "rsa"))) is None


async def test_another_challenge_s_proof_proves_nothing() -> None:
    keys = ring(olga=key("olga"))
    assert await check(keys, modern(key("olga"), "y" * 200)) is None


async def test_a_proof_that_a_server_would_take_is_not_taken() -> None:
    keys = ring(olga=key("olga"))
    assert await check(keys, modern(key("olga"), binding="")) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"encrypted_string": None},
        {"encrypted_string": "not base64"},
        {"encrypted_string": "A" * 100_000},
        {"signature": "AAAA"},
        {"signature": 1, "key": [], "algorithm": {}},
        {"signature": "AAAA", "key": "x", "algorithm": "none"},
    ],
)
async def test_nonsense_proves_nothing(answer: dict[str, Any]) -> None:
    assert await check(ring(olga=key("olga"), eva=key("eva", "rsa")), answer) is None


async def test_without_a_challenge_nothing_is_proven() -> None:
    assert await check(ring(olga=key("olga")), modern(key("olga")), None) is None


async def test_a_key_that_goes_while_its_proof_is_checked_does_not_get_in() -> None:
    keys = ring(olga=key("olga"))

    @dataclass
    class Slow:
        """A keyring whose change comes while it is read."""

        desk: Desk | None = None

        def current(self) -> Any:
            found = keys.current()
            if keys.keys:
                keys.keys.clear()
                assert self.desk is not None
                self.desk.changed()
            return found

    slow = Slow()
    slow.desk = Desk(slow)
    assert await slow.desk.check(Proof("x", CHALLENGE, modern(key("olga")))) is None


async def test_proofs_that_wait_are_bounded_and_those_of_originals_keep_no_others_waiting() -> None:
    desk = Desk(ring(olga=key("olga")), queued=0)
    desk._classic._inside = 1
    with pytest.raises(TooManyRequests):
        await desk.check(Proof("x", CHALLENGE, {"encrypted_string": ""}))
    assert await desk.check(Proof("x", CHALLENGE, modern(key("olga")))) is not None


def test_a_token_is_as_the_originals_have_it() -> None:
    text, seconds = token()
    assert (len(text), text.isalnum(), seconds) == (40, True, 900)
    assert token()[0] != text
