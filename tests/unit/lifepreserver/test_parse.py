from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.lifepreserver.parse import Notice, Progress, notice, progress

STAMP = "Mon Jan  4 18:00:00 EST 2016"
SAID = "Mon Jan 4 18:00:00 EST 2016"


def event(kind: str, priority: int, message: str) -> dict[str, Any]:
    return {"message": message, "priority": priority, "class": kind}


def said(lines: list[str]) -> list[str]:
    """The messages of the lines of a replication log."""
    state, messages = Progress(), list[str]()
    for line in lines:
        state, payload = progress(line, state)
        if payload:
            messages.append(payload["message"])
    return messages


def test_a_snapshot() -> None:
    assert notice(f"{STAMP}: Creating snapshot on Tank/Home") == Notice(
        "snapshot", event("snapshot", 1, f"{SAID}: New snapshot of tank/home")
    )


def test_a_snapshot_with_a_detail_after_the_message() -> None:
    found = notice(f"{STAMP}: Creating snapshot on tank: auto-2016-01-04")
    assert found is not None
    assert found.payload["message"] == f"{SAID}: New snapshot of tank"


def test_a_replication_that_starts_names_its_log() -> None:
    assert notice(f"{STAMP}: Starting replication MANUAL on tank: /var/log/lpreserver/lastrep-send-log") == Notice(
        "started",
        event("replication", 1, f"{SAID}: Starting replication for tank"),
        "tank",
        "/var/log/lpreserver/lastrep-send-log",
    )


def test_a_replication_that_starts_towards_a_host() -> None:
    found = notice(f"{STAMP}: Starting replication on tank/a -> 10.0.0.2: /l")
    assert found is not None
    assert found.payload["message"] == f"{SAID}: Starting replication for tank/a -> 10.0.0.2"
    assert (found.replication, found.log) == ("tank/a", "/l")


def test_a_replication_that_starts_without_a_log() -> None:
    found = notice(f"{STAMP}: Starting replication on tank")
    assert found is not None
    assert found.log == ""


def test_a_replication_that_finished() -> None:
    assert notice(f"{STAMP}: Finished replication task on tank -> 10.0.0.2") == Notice(
        "finished", event("replication", 1, f"{SAID}: Finished replication for tank"), "tank"
    )


def test_a_replication_that_finished_without_an_arrow() -> None:
    found = notice(f"{STAMP}: Finished replication task on tank")
    assert found is not None
    assert found.replication == "tank"


def test_a_replication_that_failed_says_where_its_log_is() -> None:
    line = f"{STAMP}: FAILED replication task on NCC74602 -> 192.168.47.20: LOGFILE: /var/log/lpreserver/failed.log"
    message = f"{SAID}: Replication Failed for ncc74602\nLogfile available at: /var/log/lpreserver/failed.log"
    assert notice(line) == Notice("failed", event("replication", 7, message), "ncc74602")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no colons at all",
        "a:b:c",
        f"{STAMP}: Removing old snapshot tank@auto",
        f"{STAMP}: Saving dataset properties for: tank",
        f"{STAMP}: Pruning: starting replication on tank",
    ],
)
def test_other_lines_are_no_events(line: str) -> None:
    assert notice(line) is None


@given(st.text())
def test_any_line_is_an_event_or_none(line: str) -> None:
    found = notice(line)
    if found is not None:
        assert 0 <= found.payload["priority"] <= 10


@given(
    st.lists(st.sampled_from([":", " ", " on ", " -> ", "Starting replication", "failed replication", "LOGFILE:", "x"]))
)
def test_any_mix_of_the_words_is_an_event_or_none(parts: list[str]) -> None:
    notice("".join(parts))


def test_progress_is_size_of_total_and_percent() -> None:
    assert said(
        [
            "send from @auto-1 to tank/home@auto-2 estimated size is 1.00G",
            "total estimated size is 2.00G",
            "TIME        SENT   SNAPSHOT",
            "18:00:01    512M   tank/home@auto-2",
            "18:00:02   1.50G   tank/home@auto-2",
        ]
    ) == ["Replicating tank: 512M/2.00G (25.0%)", "Replicating tank: 1.50G/2.00G (75.0%)"]


def test_progress_is_a_replication_event_of_no_priority() -> None:
    _, payload = progress("18:00:01 512M tank@a", Progress())
    assert payload == event("replication", 0, "Replicating tank: 512M/??")


def test_an_unknown_total_has_no_percentage() -> None:
    assert said(["18:00:01 1.5M tank/a@b"]) == ["Replicating tank: 1.5M/??"]


def test_a_total_of_zero_has_no_percentage() -> None:
    assert said(["total estimated size is 0", "18:00:01 1.5M tank/a@b"]) == ["Replicating tank: 1.5M/0"]


def test_the_same_size_again_is_no_event() -> None:
    assert len(said(["18:00:01 1M tank@a", "18:00:02 1M tank@a", "18:00:03 2M tank@a"])) == 2


def test_a_percentage_is_cut_so_that_only_all_is_a_hundred() -> None:
    rows = ["total estimated size is 10000", "18:00:01 9999 tank@a", "18:00:02 10000 tank@a"]
    assert said(rows) == ["Replicating tank: 9999/10000 (99.9%)", "Replicating tank: 10000/10000 (100.0%)"]


def test_newer_releases_count_bytes_and_name_the_data_set_in_the_heading() -> None:
    assert said(
        [
            "full send of tank/a@b estimated size is 10.0KB",
            "TIME        SENT   SNAPSHOT tank/a@b",
            "18:00:01   5.00K   tank/a@b",
        ]
    ) == ["Replicating tank: 5.00K/10.0K (50.0%)"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "send from @a to tank@b",
        "TIME        SENT   SNAPSHOT",
        "warning: cannot send 'tank@a': Broken pipe",
        "root:x:0:0:root:/root:/bin/sh",
        "18:00:01 1M",
        "18:00:01 much tank@a",
        "18:00:01 1M ../../etc",
        "18:00:01 1M tank@a\textra",
    ],
)
def test_what_is_no_row_of_progress_is_never_shown(line: str) -> None:
    assert said([line]) == []


@given(st.text(), st.text(alphabet="0123456789.KMG", max_size=5))
def test_any_line_leaves_a_state(line: str, size: str) -> None:
    state, _ = progress(line, Progress())
    progress(f"18:00:01 {size} tank@a", state)
