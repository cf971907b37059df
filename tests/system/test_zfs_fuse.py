"""The state of real pools."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.events import EventLog
from sysadmd.limits import Limits
from sysadmd.store import Store
from sysadmd.system.system_state import SystemState
from sysadmd.zfs import Zfs
from tests.system.zfs_fuse import ZfsFuse, run, why_not, zfs_fuse

REASON = why_not()
pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(120),  # of which most may be spent waiting for another worker's daemon
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[ZfsFuse]:
    """A daemon whose pools end with the test."""
    try:
        with zfs_fuse(tmp_path / "daemon.log") as daemon:
            yield daemon
    except TimeoutError as error:
        pytest.skip(str(error))


class Watcher:
    """A system state source on a real log, looked at by hand."""

    def __init__(self, events: EventLog, timeout: float) -> None:
        self.events, self.state = events, SystemState(events, Zfs(timeout=timeout))

    async def event(self) -> dict[str, Any] | None:
        """The event that a look sends, if it does."""
        before = self.events.last("system_state")
        await self.state.check_now()
        last = self.events.last("system_state")
        return None if last is None or last is before else last.data

    async def event_with(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event in which a pool is as wanted; ZFS takes some seconds to account for what was written."""
        with anyio.fail_after(40):
            while True:
                event = await self.event()
                if event is not None and condition(event["zpools"][name]):
                    return event
                await anyio.sleep(0.2)


@asynccontextmanager
async def watcher(directory: Path, *, timeout: float = 10.0) -> AsyncIterator[Watcher]:
    store = Store.open(directory / "sysadmd.db")
    try:
        events = EventLog(store, node="node", limits=Limits())
        async with anyio.create_task_group() as group:
            await group.start(events.run)
            yield Watcher(events, timeout)
            group.cancel_scope.cancel()
    finally:
        store.close()


async def test_a_new_pool_is_in_the_next_event_with_the_columns_that_zpool_prints(
    pools: ZfsFuse, tmp_path: Path
) -> None:
    async with watcher(tmp_path) as machine:
        await machine.event()
        name = pools.pool(tmp_path)
        event = await machine.event()
        printed = run("zpool", "list", "-H", "-o", "size,capacity,dedupratio,altroot,health", name).split()
        assert event is not None
        seen = event["zpools"][name]
        assert [seen[column] for column in ("size", "capacity", "dedup", "altroot", "health")] == printed
        assert (seen["frag"], seen["expandsz"]) == ("-", "-")
        assert (seen["health"], seen["priority"], event["priority"]) == ("ONLINE", 0, 0)
        assert await machine.event() is None


async def test_a_mirror_with_a_disk_offline_is_urgent_until_it_is_back(pools: ZfsFuse, tmp_path: Path) -> None:
    async with watcher(tmp_path) as machine:
        name = pools.pool(tmp_path, mirror=True)
        await machine.event()
        run("zpool", "offline", name, str(tmp_path / f"{name}.1"))
        event = await machine.event_with(name, lambda pool: pool["health"] == "DEGRADED")
        assert (event["zpools"][name]["priority"], event["priority"]) == (9, 9)
        run("zpool", "online", name, str(tmp_path / f"{name}.1"))
        event = await machine.event_with(name, lambda pool: pool["health"] == "ONLINE")
        assert (event["zpools"][name]["priority"], event["priority"]) == (0, 0)


async def test_a_pool_filled_beyond_ninety_percent_is_critical(pools: ZfsFuse, tmp_path: Path) -> None:
    async with watcher(tmp_path) as machine:
        # ZFS keeps 32 MiB for itself, which in a smaller pool is more than the last tenth.
        name = pools.pool(tmp_path, size=512)
        await machine.event()

        def fill() -> None:
            with contextlib.suppress(OSError), (tmp_path / "mnt" / "filling").open("wb", buffering=0) as file:
                for _ in range(512):
                    file.write(bytes(1024 * 1024))

        await anyio.to_thread.run_sync(fill)
        event = await machine.event_with(name, lambda pool: int(pool["capacity"].rstrip("%")) > 90)
        assert (event["zpools"][name]["health"], event["zpools"][name]["priority"]) == ("ONLINE", 6)
        assert event["priority"] == 6


async def test_a_destroyed_pool_is_gone_from_the_next_event(pools: ZfsFuse, tmp_path: Path) -> None:
    async with watcher(tmp_path) as machine:
        name = pools.pool(tmp_path)
        await machine.event()
        pools.destroy(name)
        event = await machine.event()
        assert event is not None
        assert name not in event.get("zpools", {})


async def test_without_pools_there_is_no_zpools_key(pools: ZfsFuse, tmp_path: Path) -> None:
    if run("zpool", "list", "-H"):
        pytest.skip("this machine has pools that are not the tests'")
    async with watcher(tmp_path) as machine:
        event = await machine.event()
        assert event is not None
        assert "zpools" not in event
        assert machine.state.problem is None


async def test_datasets_and_snapshots_are_listed(pools: ZfsFuse, tmp_path: Path) -> None:
    name = pools.pool(tmp_path)
    run("zfs", "create", f"{name}/home")
    run("zfs", "snapshot", f"{name}/home@monday")
    datasets = await Zfs().datasets(name)
    assert {path: dataset.mountpoint for path, dataset in datasets.items()} == {
        name: str(tmp_path / "mnt"),
        f"{name}/home": str(tmp_path / "mnt" / "home"),
    }
    assert list(await Zfs().snapshots(name)) == [f"{name}/home@monday"]


async def test_a_zpool_that_hangs_is_given_up_and_its_pools_stand(pools: ZfsFuse, tmp_path: Path) -> None:
    if pools.process is None:
        pytest.skip("this machine's zfs-fuse is not the tests' to stop")
    async with watcher(tmp_path, timeout=0.5) as machine:
        name = pools.pool(tmp_path)
        await machine.event()
        pools.process.send_signal(signal.SIGSTOP)
        try:
            assert await machine.event() is None
            assert "no answer within 0.5 s" in str(machine.state.problem)
            current = machine.state.current()
            assert current is not None
            assert current["zpools"][name]["health"] == "ONLINE"
        finally:
            pools.process.send_signal(signal.SIGCONT)
        with anyio.fail_after(20):
            while machine.state.problem is not None:
                await machine.event()
        assert name in (machine.state.current() or {})["zpools"]
