"""The settings of a job among the arguments of a request."""

from __future__ import annotations

from typing import Any

import pytest

from sysadmd.errors import BadRequest
from sysadmd.listen.core4.jobs import _settings


def test_settings_are_read_from_text_too() -> None:
    values = {"priority": "5", "error_time": 7, "force": "true", "worker": "a@b", "timeout": None, "other": "x"}
    assert _settings(values) == {"priority": 5, "retry_delay": 7, "force": True, "worker": "a@b"}


@pytest.mark.parametrize(
    "word, value",
    [
        ("worker", ["a"]),
        ("priority", 1.5),
        ("attempts", True),
        ("force", "3"),
        ("timeout", {}),
        ("priority", "[" * 9999),
    ],
)
def test_a_setting_of_another_type_is_refused_by_its_name(word: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=word):
        _settings({word: value})
