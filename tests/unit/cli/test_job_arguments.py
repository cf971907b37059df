from __future__ import annotations

import time

import click
import pytest

from sysadmd.cli.job_arguments import key_values, moment, typed


@pytest.mark.parametrize(
    "text,value",
    [
        ("1", 1),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ('["a", 1]', ["a", 1]),
        ('"1"', "1"),
        ("", ""),
        ("one two", "one two"),
        ("{broken", "{broken"),
        ("\udc80", "\udc80"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_json_or_text(text: str, value: object) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


def test_words_are_one_object() -> None:
    assert key_values(["a=1", "b=x=y", "c="]) == {"a": 1, "b": "x=y", "c": ""}
    assert key_values(["a=1:2", "b:x=y"], "=:") == {"a": "1:2", "b": "x=y"}


@pytest.mark.parametrize("words", [["a"], ["=1"], ["a=1", "a=2"], ["a:1"]])
def test_what_is_no_object_is_refused(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        key_values(words)


def test_a_time_is_iso_or_unix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert moment("2027-01-31T04:00") == moment("2027-01-31 05:00+01:00") == 1801368000.0
    assert moment("1801368000") == 1801368000.0


@pytest.mark.parametrize("text", ["tomorrow", "", "-1", "nan", "inf", "1e12", "99999-01-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        moment(text)
