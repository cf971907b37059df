"""What is said of jobs on a command line: arguments of tasks, references to jobs, times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
import msgspec

STATES = ("pending", "running", "deferred", "failed", "complete", "error", "inactive", "killed")
"""States of jobs, in the order in which they are counted for people."""


def key_values(words: Iterable[str], separators: str = "=") -> dict[str, Any]:
    """`KEY=VALUE` words as one object. A value is JSON where it is any, else text; a key comes once.

    `separators` are the characters that may stand between the two; the first one of them in a word does.
    """
    found: dict[str, Any] = {}
    for word in words:
        place = min((at for at in map(word.find, separators) if at > 0), default=0)
        if not place:
            raise click.UsageError(f"{word!r} is no KEY{separators[0]}VALUE")
        key = word[:place]
        if key in found:
            raise click.UsageError(f"{key} is given twice")
        found[key] = typed(word[place + 1 :])
    return found


def typed(text: str) -> Any:
    """The JSON value that the text is, or the text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return text


def moment(text: str) -> float:
    """A time as Unix seconds: those, or ISO 8601; local time where it has no zone."""
    import datetime

    given = text.strip()
    try:
        value = float(given)
    except ValueError:
        try:
            value = datetime.datetime.fromisoformat(given).astimezone().timestamp()
        except (ValueError, OverflowError, OSError):
            value = -1.0
    if not 0 <= value < 1e11:
        raise click.BadParameter(f"{text!r} is no time such as 2027-01-31T04:00, or Unix seconds")
    return value
