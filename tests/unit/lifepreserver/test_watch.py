from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sysadmd.lifepreserver.watch import FOLLOWS, State, Watch

STAMP = "Mon Jan  4 18:00:00 EST 2016"
SAID = "Mon Jan 4 18:00:00 EST 2016"


class Lpreserver:
    """lpreserver's logs in a directory, and a watch that keeps its state."""

    def __init__(self, directory: Path) -> None:
        self.main, self.send = directory / "lpreserver.log", directory / "lastrep-send-log"
        self.main.touch()
        self.watch, self.state, self.now = Watch(self.main), State(), 0.0

    def says(self, *messages: str) -> None:
        with self.main.open("a") as file:
            file.writelines(f"{STAMP}: {message}\n" for message in messages)

    def sends(self, *lines: str, total: str = "") -> None:
        """Rows of progress; a total begins the log anew, as each `zfs send` does."""
        with self.send.open("w" if total else "a") as file:
            file.writelines(f"{line}\n" for line in ([f"total estimated size is {total}"] if total else []))
            file.writelines(f"18:00:00 {size} tank/a@b\n" for size in lines)

    def look(self, after: float = 1.0) -> list[str]:
        self.now += after
        messages: list[str] = []
        while True:
            look = self.watch.look(self.state, self.now)
            self.state = look.state
            messages += [payload["message"].removeprefix(f"{SAID}: ") for payload in look.payloads]
            if not look.more:
                return messages

    def starts(self, data_set: str = "tank", log: Path | None = None) -> None:
        self.says(f"Starting replication MANUAL on {data_set}: {log or self.send}")


@pytest.fixture
def lp(tmp_path: Path) -> Iterator[Lpreserver]:
    lp = Lpreserver(tmp_path)
    yield lp
    lp.watch.close()


def test_events_come_in_the_order_of_the_log(lp: Lpreserver) -> None:
    lp.says("Creating snapshot on tank", "nothing", "Creating snapshot on tank/a")
    assert lp.look() == ["New snapshot of tank", "New snapshot of tank/a"]
    assert lp.look() == []


def test_a_missing_log_is_waited_for(tmp_path: Path) -> None:
    lp = Lpreserver(tmp_path)
    lp.main.unlink()
    assert lp.look() == []
    lp.says("Creating snapshot on tank")
    assert lp.look() == ["New snapshot of tank"]
    lp.watch.close()


def test_a_missing_directory_is_waited_for(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "none" / "a.log")
    assert watch.begin() == State()
    assert watch.look(State(), 0.0).state == State()


def test_progress_is_told_line_by_line(lp: Lpreserver) -> None:
    lp.starts()
    lp.sends(total="2G")
    assert lp.look() == ["Starting replication for tank"]
    lp.sends("1G")
    assert lp.look() == ["Replicating tank: 1G/2G (50.0%)"]
    lp.sends("2G")
    assert lp.look() == ["Replicating tank: 2G/2G (100.0%)"]


def test_progress_is_told_even_when_the_log_ends_in_the_middle_of_a_line(lp: Lpreserver) -> None:
    lp.starts()
    lp.sends("1G", total="2G")
    with lp.send.open("a") as file:
        file.write("18:00:01 1.5")
    assert lp.look() == ["Starting replication for tank", "Replicating tank: 1G/2G (50.0%)"]
    with lp.send.open("a") as file:
        file.write("G tank/a@b\n")
    assert lp.look() == ["Replicating tank: 1.5G/2G (75.0%)"]


def test_of_many_lines_the_newest_is_told(lp: Lpreserver) -> None:
    lp.starts()
    lp.sends("1M", "2M", "3M", total="10M")
    assert lp.look() == ["Starting replication for tank", "Replicating tank: 3M/10M (30.0%)"]


def test_progress_is_told_once_a_second_at_most_and_then_the_newest(lp: Lpreserver) -> None:
    lp.starts()
    lp.sends("1M", total="10M")
    lp.look()
    lp.sends("2M")
    assert lp.look(0.5) == []
    lp.sends("3M")
    assert lp.look(0.4) == []
    assert lp.look(0.1) == ["Replicating tank: 3M/10M (30.0%)"]


def test_two_replications_do_not_hold_back_each_other(lp: Lpreserver, tmp_path: Path) -> None:
    other = tmp_path / "other-send-log"
    lp.starts()
    lp.starts("pool", other)
    lp.sends("1M", total="10M")
    other.write_text("18:00:00 5M pool@b\n")
    assert lp.look()[2:] == ["Replicating tank: 1M/10M (10.0%)", "Replicating pool: 5M/??"]


def test_a_log_that_appears_later_is_read(lp: Lpreserver) -> None:
    lp.starts()
    assert lp.look() == ["Starting replication for tank"]
    lp.sends("1M", total="10M")
    assert lp.look() == ["Replicating tank: 1M/10M (10.0%)"]


def test_the_next_send_writes_its_log_anew_and_has_its_own_total(lp: Lpreserver) -> None:
    lp.starts()
    lp.sends("9M", total="10M")
    lp.look()
    lp.send.write_text("18:00:00 1M tank/a@b\n")
    assert lp.look() == ["Replicating tank: 1M/??"]
    lp.sends("2M", total="4M")
    assert lp.look() == ["Replicating tank: 2M/4M (50.0%)"]


@pytest.mark.parametrize(
    "end", ["Finished replication task on tank -> host", "FAILED replication task on tank -> host"]
)
def test_the_last_progress_comes_before_the_end_and_none_after_it(lp: Lpreserver, end: str) -> None:
    lp.starts()
    lp.look()
    lp.sends("1M", total="10M")
    lp.says(end)
    assert [message.partition(" ")[0] for message in lp.look()] == [
        "Replicating",
        end.partition(" ")[0].title().replace("Failed", "Replication"),
    ]
    lp.sends("2M")
    assert lp.look() == []
    assert lp.state.follows == ()


def test_a_whole_replication_in_one_look(lp: Lpreserver) -> None:
    lp.starts()
    lp.sends("9M", total="10M")
    lp.says("Finished replication task on tank -> host", "Creating snapshot on tank")
    assert lp.look() == [
        "Starting replication for tank",
        "Replicating tank: 9M/10M (90.0%)",
        "Finished replication for tank",
        "New snapshot of tank",
    ]


def test_a_finished_replication_closes_its_log(lp: Lpreserver) -> None:
    lp.starts()
    lp.sends(total="10M")
    lp.look()
    assert len(lp.watch._tails) == 1
    lp.says("Finished replication task on tank -> host")
    lp.look()
    assert lp.watch._tails == {}


def test_a_replication_that_starts_again_takes_the_place_of_the_first(lp: Lpreserver) -> None:
    for _ in range(3):
        lp.starts()
    lp.look()
    assert len(lp.state.follows) == 1


def test_one_log_belongs_to_the_replication_that_writes_it_last(lp: Lpreserver) -> None:
    lp.starts("tank")
    lp.starts("pool")
    lp.look()
    assert [follow.replication for follow in lp.state.follows] == ["pool"]


def test_the_number_of_logs_followed_is_bounded(lp: Lpreserver, tmp_path: Path) -> None:
    for number in range(FOLLOWS + 1):
        lp.starts(f"pool{number}", tmp_path / f"log{number}")
    lp.look()
    assert [follow.replication for follow in lp.state.follows] == [f"pool{number}" for number in range(1, FOLLOWS + 1)]


@pytest.mark.parametrize("log", ["/etc/passwd", "relative", "../x"])
def test_a_log_elsewhere_is_not_followed(lp: Lpreserver, log: str) -> None:
    lp.says(f"Starting replication on tank: {log}")
    assert lp.look() == ["Starting replication for tank"]
    assert lp.state.follows == ()


def test_lines_of_a_named_file_that_are_no_progress_are_never_shown(lp: Lpreserver, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root:$6$salt$hash:1:2:3\npassword = hunter2 too\n")
    lp.starts(log=tmp_path / "secret")
    assert lp.look() == ["Starting replication for tank"]


def test_a_look_from_the_old_state_tells_the_same_again(lp: Lpreserver) -> None:
    lp.starts()
    lp.sends("1M", total="10M")
    lp.says("Creating snapshot on tank")
    first, again = lp.watch.look(lp.state, 1.0), lp.watch.look(lp.state, 1.0)
    assert first.payloads == again.payloads != ()
    assert first.state == again.state


def test_a_log_that_cannot_be_read_is_tried_again(lp: Lpreserver) -> None:
    lp.main.unlink()
    lp.main.mkdir()
    assert lp.look() == []
    lp.main.rmdir()
    lp.says("Creating snapshot on tank")
    assert lp.look() == ["New snapshot of tank"]
