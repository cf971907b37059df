from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from sysadmd.config.cron import check_cron, next_run, zone_of

BERLIN = ZoneInfo("Europe/Berlin")


def runs(cron: str, start: datetime, count: int) -> list[str]:
    """The local times of the next runs."""
    found, at = [], start.timestamp()
    for _ in range(count):
        at = next_run(cron, at, BERLIN)
        found.append(datetime.fromtimestamp(at, BERLIN).strftime("%m-%d %H:%M %z"))
    return found


def test_a_run_at_a_time_that_is_skipped_is_made_up_for() -> None:
    start = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
    assert runs("30 2 * * *", start, 2) == ["03-29 03:00 +0200", "03-30 02:30 +0200"]


def test_a_run_at_a_time_that_comes_twice_happens_once() -> None:
    start = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    assert runs("30 2 * * *", start, 2) == ["10-25 02:30 +0200", "10-26 02:30 +0100"]


def test_an_hourly_run_happens_in_every_hour_there_is() -> None:
    start = datetime(2026, 10, 25, 1, 30, tzinfo=BERLIN)
    assert runs("0 * * * *", start, 3) == ["10-25 02:00 +0200", "10-25 02:00 +0100", "10-25 03:00 +0100"]


def test_the_next_run_is_after_the_last_one() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert next_run("0 0 * * *", at, UTC) == at + 86_400


@pytest.mark.parametrize("cron", ["", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "a b c d e"])
def test_what_is_no_expression_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match=r"must have|is no|never"):
        check_cron(cron)


def test_a_zone_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        zone_of("Mars/Olympus")


def test_the_zone_of_the_machine_is_found() -> None:
    assert datetime.now(zone_of(None)).utcoffset() is not None
