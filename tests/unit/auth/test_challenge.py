"""Challenges: long enough for the original client, short enough for its key, and never the same twice."""

from __future__ import annotations

import re

from sysadmd.auth.challenge import LENGTH, Challenge
from sysadmd.limits import Limits


def test_the_length_is_one_that_the_original_client_survives() -> None:
    """Below 128 characters its buffer overflows; above 245 they do not fit under its key (spec sysadm §3.5)."""
    assert 128 <= LENGTH <= 245
    assert re.fullmatch(rf"[A-Za-z0-9]{{{LENGTH}}}", Challenge.new(0.0).text)


def test_no_two_challenges_are_alike() -> None:
    assert len({Challenge.new(0.0).text for _ in range(200)}) == 200


def test_every_place_takes_every_value() -> None:
    """A generator of fewer letters, or one that repeats itself, would show here."""
    texts = [Challenge.new(0.0).text for _ in range(100)]
    assert len(set("".join(texts))) == 62
    assert min(len({text[at] for text in texts}) for at in range(LENGTH)) > 20


def test_it_lives_as_long_as_those_of_the_originals() -> None:
    assert Limits().challenge_life == 30.0
