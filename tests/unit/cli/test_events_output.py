"""How one event is printed."""

from __future__ import annotations

import json
import time

import pytest

from sysadmd.cli.events import print_compact, print_human
from sysadmd.client import Event

EVENT = Event(
    "dispatcher",
    {"state": "running", "process_details": {"cmd_list": ["a"], "sh x.sh": "one\ntwo\n", "empty": ""}},
    "e1",
    12,
    1539074932.4406,
    "vault",
)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_for_programs_an_event_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_compact(EVENT)
    assert json.loads(capsys.readouterr().out) == {
        "topic": "dispatcher",
        "args": EVENT.args,
        "epoch": "e1",
        "seq": 12,
        "time": 1539074932.4406,
        "node": "vault",
    }


def test_for_people_an_event_has_its_own_time_and_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    print_human(EVENT)
    assert capsys.readouterr().out.splitlines() == [
        "2018-10-09 08:48:52.440 vault dispatcher  e1:12",
        "  state = running",
        '  process_details.cmd_list = ["a"]',
        '  process_details."sh x.sh":',
        "    one",
        "    two",
        "  process_details.empty = ",
    ]


def test_what_a_process_printed_does_not_reach_the_terminal_raw(capsys: pytest.CaptureFixture[str]) -> None:
    print_human(Event("t\x1b[2J", {"k\n\x1b": "v\x1b]0;title\x07", "m": "a\nb\x9b"}, "", 0, 0.0, "n"))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert "\\x1b]0;title\\x07" in out
