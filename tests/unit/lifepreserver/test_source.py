from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import insert, select

from sysadmd.errors import Unavailable
from sysadmd.events import EventLog
from sysadmd.lifepreserver import LifePreserver
from sysadmd.lifepreserver.positions import load, save
from sysadmd.lifepreserver.tail import CHUNK
from sysadmd.limits import Limits
from sysadmd.store import Store
from sysadmd.store.tables import event, meta

STAMP = "Mon Jan  4 18:00:00 EST 2016"
SAID = "Mon Jan 4 18:00:00 EST 2016"


class Node:
    """One life of a server on a directory: a store, a log of events, and the source under test."""

    def __init__(self, directory: Path, store: Store, events: EventLog) -> None:
        self.main, self.send = directory / "lpreserver.log", directory / "lastrep-send-log"
        self.store, self.events, self.now = store, events, 0.0
        self.source = LifePreserver(events, store, [self.main], interval=0.01, monotonic=lambda: self.now)

    def says(self, *messages: str) -> None:
        with self.main.open("a") as file:
            file.writelines(f"{STAMP}: {message}\n" for message in messages)

    def stored(self) -> list[Any]:
        query = select(event.c.data).where(event.c.topic == "life_preserver").order_by(event.c.seq)
        return [json.loads(data) for data in self.store.read_now(lambda reader: reader.execute(query).scalars().all())]

    def messages(self) -> list[str]:
        return [data["message"].removeprefix(f"{SAID}: ") for data in self.stored()]

    async def look(self, after: float = 1.0) -> list[str]:
        before = len(self.stored())
        self.now += after
        await self.source.check()
        return self.messages()[before:]

    async def messages_reach(self, number: int) -> list[str]:
        with anyio.fail_after(10):
            while len(self.stored()) < number:  # the source has no event to wait for
                await anyio.sleep(0.01)
        return self.messages()


@asynccontextmanager
async def life(directory: Path) -> AsyncIterator[Node]:
    store = Store.open(directory / "sysadmd.db")
    try:
        events = EventLog(store, node="node", limits=Limits())
        async with anyio.create_task_group() as group:
            await group.start(events.run)
            yield Node(directory, store, events)
            group.cancel_scope.cancel()
    finally:
        store.close()


async def test_new_lines_become_durable_events(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        await node.look()
        node.says("Creating snapshot on tank")
        await node.look()
        assert node.stored() == [{"message": f"{SAID}: New snapshot of tank", "priority": 1, "class": "snapshot"}]


async def test_of_the_lines_at_the_first_start_only_the_newest_event_is_kept_for_replay(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        node.says("Creating snapshot on a", "Creating snapshot on b", "nothing to tell")
        assert await node.look() == ["New snapshot of b"]
        record = node.events.last("life_preserver")
        assert record is not None
        assert record.data["message"] == f"{SAID}: New snapshot of b"
        assert await node.look() == []


async def test_a_first_start_reads_the_end_of_a_large_log_only(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        node.says("Creating snapshot on early", *["x" * 1000] * (CHUNK // 1000 + 1))
        assert await node.look() == []


async def test_a_replication_that_runs_at_the_first_start_is_followed(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        node.says(f"Starting replication on tank: {node.send}")
        assert await node.look() == ["Starting replication for tank"]
        node.send.write_text("18:00:00 1M tank@b\n")
        assert await node.look() == ["Replicating tank: 1M/??"]


async def test_a_log_that_appears_after_the_first_start_is_told_whole(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        await node.look()
        node.says("Creating snapshot on a", "Creating snapshot on b")
        assert await node.look() == ["New snapshot of a", "New snapshot of b"]


async def test_a_log_that_appears_while_the_server_is_down_is_told_whole(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        await node.look()
    async with life(tmp_path) as node:
        node.says("Creating snapshot on a", "Creating snapshot on b")
        assert await node.look() == ["New snapshot of a", "New snapshot of b"]


async def test_lines_written_while_the_server_was_down_are_told_once(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        node.says("Creating snapshot on a")
        await node.look()
        node.says("Creating snapshot on b")
    async with life(tmp_path) as node:
        assert await node.look() == ["New snapshot of b"]
    async with life(tmp_path) as node:
        assert await node.look() == []


async def test_a_replication_is_followed_across_a_restart(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        await node.look()
        node.says(f"Starting replication on tank: {node.send}")
        node.send.write_text("total estimated size is 4M\n18:00:00 1M tank@b\n")
        assert len(await node.look()) == 2
    async with life(tmp_path) as node:
        assert await node.look() == []
        with node.send.open("a") as file:
            file.write("18:00:01 2M tank@b\n")
        assert await node.look() == ["Replicating tank: 2M/4M (50.0%)"]


async def test_a_rotation_while_the_server_was_down_begins_the_new_file(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        node.says("Creating snapshot on a")
        await node.look()
    async with life(tmp_path) as node:
        node.main.rename(tmp_path / "lpreserver.log.0")
        node.says("Creating snapshot on b")
        assert await node.look() == ["New snapshot of b"]


async def test_position_and_events_are_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with life(tmp_path) as node:
        await node.look()
        node.says("Creating snapshot on a")
        with monkeypatch.context() as patch:

            def save_and_fail(connection: Any, path: Path, state: Any, time: float) -> None:
                save(connection, path, state, time)
                connection.execute(insert(meta).values(key="epoch", value="a second one"))

            patch.setattr("sysadmd.lifepreserver.positions.save", save_and_fail)
            before = node.store.read_now(lambda connection: load(connection, node.main))
            assert await node.look() == []
            assert node.store.read_now(lambda connection: load(connection, node.main)) == before
        assert await node.look() == ["New snapshot of a"]


async def test_a_log_of_events_that_refuses_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with life(tmp_path) as node:
        await node.look()
        node.says("Creating snapshot on a")
        with monkeypatch.context() as patch:

            def refuse(write: Any) -> None:
                raise Unavailable("too many changes wait for the disk")

            patch.setattr(node.events, "submit", refuse)
            assert await node.look() == []
        assert await node.look() == ["New snapshot of a"]


async def test_a_long_backlog_is_told_whole_and_in_order(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        await node.look()
        node.says(*[f"Creating snapshot on tank/{number}" for number in range(3000)])
        assert await node.look() == [f"New snapshot of tank/{number}" for number in range(3000)]


async def test_one_log_that_cannot_be_read_does_not_stop_another(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        (tmp_path / "broken.log").mkdir()
        node.source = LifePreserver(node.events, node.store, [tmp_path / "broken.log", node.main])
        await node.look()
        node.says("Creating snapshot on a")
        assert await node.look() == ["New snapshot of a"]


async def test_run_tells_of_lines_as_they_come(tmp_path: Path) -> None:
    async with life(tmp_path) as node, anyio.create_task_group() as group:
        await group.start(node.source.run)
        node.says("Creating snapshot on a")
        assert await node.messages_reach(1) == ["New snapshot of a"]
        node.says("Creating snapshot on b")
        assert await node.messages_reach(2) == ["New snapshot of a", "New snapshot of b"]
        group.cancel_scope.cancel()


async def test_run_is_started_when_the_logs_have_been_read(tmp_path: Path) -> None:
    async with life(tmp_path) as node, anyio.create_task_group() as group:
        node.says("Creating snapshot on a")
        await group.start(node.source.run)
        assert node.messages() == ["New snapshot of a"]
        group.cancel_scope.cancel()


async def test_a_poke_looks_before_the_interval_ends(tmp_path: Path) -> None:
    async with life(tmp_path) as node, anyio.create_task_group() as group:
        node.source = LifePreserver(node.events, node.store, [node.main], interval=1000)
        await group.start(node.source.run)
        node.says("Creating snapshot on a")
        node.source.poke()
        assert await node.messages_reach(1) == ["New snapshot of a"]
        node.says("Creating snapshot on b")
        for _ in range(100):
            node.source.poke()
        assert len(await node.messages_reach(2)) == 2
        group.cancel_scope.cancel()


async def test_a_poke_before_the_run_is_no_error(tmp_path: Path) -> None:
    async with life(tmp_path) as node:
        node.source.poke()
        assert await node.look() == []
