"""Spellings and labels."""

from __future__ import annotations

import pytest

from sysadmd.errors import BadRequest
from sysadmd.wire.topics import SUBSCRIBABLE, TOPICS, canonical_topic, documented_args, hyphenated, priority_label


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_both_spellings_are_one_topic(topic: str) -> None:
    assert canonical_topic(topic) == canonical_topic(hyphenated(topic)) == topic


def test_what_comes_unasked_cannot_be_asked_for() -> None:
    assert frozenset({"bridge", "gap"}) == TOPICS - SUBSCRIBABLE


@pytest.mark.parametrize("spelling,hint", [("dispacher", "did you mean dispatcher?"), ("weather", "the topics are ")])
def test_an_unknown_topic_is_refused_with_a_hint(spelling: str, hint: str) -> None:
    with pytest.raises(BadRequest, match=hint.replace("?", r"\?")):
        canonical_topic(spelling)


def test_the_error_quotes_little_of_a_long_topic() -> None:
    with pytest.raises(BadRequest) as caught:
        canonical_topic("x" * 100_000)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "priority,label",
    [
        (-1, "0/Information"),
        (0, "0/Information"),
        (2, "2/Information"),
        (3, "3/Warning"),
        (5, "5/Warning"),
        (6, "6/Critical"),
        (8, "8/Critical"),
        (9, "9/Urgent"),
        (10, "10/Urgent"),
        (11, "10/Urgent"),
    ],
)
def test_the_label_of_a_priority(priority: int, label: str) -> None:
    assert priority_label(priority, "/") == label
    assert priority_label(priority, " - ") == label.replace("/", " - ")


def test_rendering_leaves_the_payload_alone() -> None:
    details = {"state": "finished", "process_id": "p", "time_started": 1.0, "return_codes/a": 0}
    data = {"phase": "finished", "process_id": "p", "event_system": None, "extra": {}, "details": details}
    documented_args("dispatcher", data)
    assert details == {"state": "finished", "process_id": "p", "time_started": 1.0, "return_codes/a": 0}
