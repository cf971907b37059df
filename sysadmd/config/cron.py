"""Cron expressions and the instants that they mean.

The expressions are cronsim's to read: it follows Debian's cron in what it makes of a change to or from summer time (a
run at a time that is skipped happens right after the gap, one at a time that comes twice happens once).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def check_cron(cron: str) -> None:
    """Raise ValueError, with the rule, for an expression that cannot be read or never comes true."""
    next_run(cron, 0.0, UTC)


@lru_cache(maxsize=1024)
def next_run(cron: str, after: float, zone: tzinfo) -> float:
    """Unix time of the first instant after `after` (Unix time) that the expression means in that zone."""
    from cronsim import CronSim, CronSimError

    if len(cron.split()) != 5:
        raise ValueError("must have five fields: minute, hour, day, month and day of the week")
    try:
        found: datetime = next(CronSim(cron, datetime.fromtimestamp(after, zone)))
    except CronSimError as error:
        raise ValueError(f"is no cron expression: {error}") from None
    except StopIteration:
        raise ValueError("never comes true") from None
    return found.timestamp()


def zone_of(name: str | None) -> tzinfo:
    """A time zone by its IANA name; None: that of this machine. Raises ValueError for one that it does not know."""
    if name is None:
        return _system_zone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone that this machine knows") from None


def _system_zone() -> tzinfo:
    """The zone of this machine, with its rules for summer time where they can be found."""
    name = os.environ.get("TZ", "").lstrip(":")
    try:
        if name:
            return ZoneInfo(name)
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return datetime.now(UTC).astimezone().tzinfo or UTC
