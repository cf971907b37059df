"""The text that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from sysadmd.listen.exposition import Exposition


class Temperature(Exposition):
    """One figure, read when it is asked for."""

    degrees = 20

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("room_temperature", "Of the room", value=self.degrees)


def test_figures_are_read_at_each_scrape() -> None:
    room = Temperature()
    assert b"room_temperature 20.0\n" in room.render()
    room.degrees = 21
    assert b"room_temperature 21.0\n" in room.render()


def test_the_process_tells_of_itself_beside_them() -> None:
    text = Temperature().render()
    assert b"python_info{" in text
    assert b"python_gc_collections_total{" in text


def test_two_in_one_process_do_not_meet() -> None:
    assert Temperature().render().count(b"# TYPE room_temperature") == 1
    assert Temperature().render().count(b"# TYPE room_temperature") == 1
