"""Pages of stored records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, insert

from sysadmd.events import history
from sysadmd.store import Store
from sysadmd.store.tables import event


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "db")

    def fill(connection: Connection) -> None:
        for seq in range(1, 11):
            data = {"n": seq, "channel": "odd" if seq % 2 else "even", "author": "ada'"}
            row = {"seq": seq, "time": 5.0, "topic": "event", "data": msgspec.json.encode(data).decode()}
            connection.execute(insert(event).values(row))
        connection.execute(insert(event).values(seq=11, time=5.0, topic="bridge", data="{}"))

    opened.write_now(fill)
    yield opened
    opened.close()


def numbers(store: Store, equal: dict[str, Any], **options: Any) -> list[int]:
    wanted = {"start": 0, "limit": 100, "newest_first": True, **options}
    return [record.data["n"] for record in store.read_now(lambda c: history.page(c, "event", equal, **wanted))]


def test_a_page_is_a_part_in_order(store: Store) -> None:
    assert numbers(store, {}, start=2, limit=3) == [8, 7, 6]
    assert numbers(store, {}, start=2, limit=3, newest_first=False) == [3, 4, 5]
    assert numbers(store, {}, start=20) == []


def test_values_are_compared_exactly(store: Store) -> None:
    assert numbers(store, {"channel": "odd", "author": "ada'"}) == [9, 7, 5, 3, 1]
    for value in ("od", "ODD", "%", "odd' or '1'='1"):
        assert numbers(store, {"channel": value}) == []


def test_all_of_a_topic_are_counted(store: Store) -> None:
    assert store.read_now(lambda c: history.count(c, "event", {})) == 10
    assert store.read_now(lambda c: history.count(c, "event", {"channel": "even"})) == 5
    assert store.read_now(lambda c: history.count(c, "queue", {})) == 0
