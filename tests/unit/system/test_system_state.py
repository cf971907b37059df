from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from sysadmd.errors import Unavailable, ZfsError
from sysadmd.events import Draft, EventLog, Record
from sysadmd.system.system_state import Payload, SystemState, assess, outline, pool_priority
from sysadmd.zfs import Pool

GOOD = Pool("107G", "13.1G", "93.9G", "6%", "-", "1.00x", "-", "12%", "ONLINE")
FULL = Pool("107G", "100G", "7G", "6%", "-", "1.00x", "-", "93%", "ONLINE")
BROKEN = Pool("107G", "13.1G", "93.9G", "6%", "-", "1.00x", "-", "12%", "DEGRADED")


class Machine:
    """A machine, a log and a clock that the tests turn."""

    name = "machine"

    def __init__(self, pools: dict[str, Pool] | None = None, last: Payload | None = None) -> None:
        self.node, self.imported, self.now = "gold", pools or {}, 1000.0
        self.query_fails: ZfsError | None = None
        self.store_fails: Exception | None = None
        self.stored = Record(7, "system_state", last, 1.0) if last else None
        self.drafts: list[Draft] = []
        self.asked = 0
        self.state = SystemState(
            cast("EventLog", self), self, self, interval=900, check=60, monotonic=lambda: self.now
        )  # fmt: skip

    def hostname(self) -> str:
        return self.node

    async def pools(self) -> dict[str, Pool]:
        self.asked += 1
        if self.query_fails:
            raise self.query_fails
        return self.imported

    def last(self, topic: str) -> Record | None:
        return self.stored if topic == "system_state" else None

    def submit(self, write: Callable[[Connection], tuple[Any, Sequence[Draft]]]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.store_fails:
            future.set_exception(self.store_fails)
        else:
            result, drafts = write(cast("Connection", None))
            self.drafts += drafts
            future.set_result(result)
        return future

    async def look(self) -> list[Payload]:
        """The events of one look."""
        before = len(self.drafts)
        await self.state.check_now()
        return [draft.data for draft in self.drafts[before:]]


@pytest.mark.parametrize(
    "capacity, health, priority",
    [
        ("0%", "ONLINE", 0),
        ("90%", "ONLINE", 0),
        ("91%", "ONLINE", 6),
        ("100%", "ONLINE", 6),
        ("-", "ONLINE", 0),
        ("12%", "DEGRADED", 9),
        ("95%", "DEGRADED", 9),
        ("-", "FAULTED", 9),
        ("-", "UNAVAIL", 9),
        ("12%", "SUSPENDED", 9),
        ("12%", "-", 9),
    ],
)
def test_a_pool_has_the_priority_of_its_state(capacity: str, health: str, priority: int) -> None:
    assert pool_priority(Pool(capacity=capacity, health=health)) == priority


def test_the_payload_has_the_columns_and_a_priority_for_each_pool() -> None:
    assert assess("gold", {"tank": GOOD}, renamed=False) == {
        "hostname": "gold",
        "hostnamechanged": False,
        "priority": 0,
        "zpools": {
            "tank": {
                "size": "107G",
                "alloc": "13.1G",
                "free": "93.9G",
                "frag": "6%",
                "expandsz": "-",
                "dedup": "1.00x",
                "altroot": "-",
                "capacity": "12%",
                "health": "ONLINE",
                "priority": 0,
            }
        },
    }


def test_without_pools_there_is_no_zpools_key() -> None:
    assert assess("gold", {}, renamed=False) == {"hostname": "gold", "hostnamechanged": False, "priority": 0}


@pytest.mark.parametrize(
    "pools, renamed, priority",
    [({}, True, 3), ({"a": FULL}, True, 6), ({"a": FULL, "b": BROKEN}, False, 9), ({"a": GOOD, "b": FULL}, False, 6)],
)
def test_the_overall_priority_is_the_highest(pools: dict[str, Pool], renamed: bool, priority: int) -> None:
    assert assess("gold", pools, renamed=renamed)["priority"] == priority


POOLS = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(
        Pool,
        size=st.sampled_from(["1G", "2G"]),
        capacity=st.integers(0, 100).map("{}%".format) | st.just("-"),
        health=st.sampled_from(["ONLINE", "DEGRADED"]),
    ),
)


@given(POOLS, POOLS)
def test_the_outline_differs_whenever_a_priority_a_health_a_percentage_or_the_set_does(
    before: dict[str, Pool], after: dict[str, Pool]
) -> None:
    def telling(pools: dict[str, Pool]) -> object:
        return {name: (pool.health, pool.capacity, pool_priority(pool)) for name, pool in pools.items()}

    states = [assess("h", pools, renamed=False) for pools in (before, after)]
    assert (outline(states[0]) == outline(states[1])) == (telling(before) == telling(after))


async def test_the_first_look_sends_the_state() -> None:
    machine = Machine({"tank": GOOD})
    assert await machine.look() == [assess("gold", {"tank": GOOD}, renamed=False)]
    assert (machine.drafts[0].topic, machine.drafts[0].durable) == ("system_state", True)


async def test_a_look_without_a_change_sends_nothing() -> None:
    machine = Machine({"tank": GOOD})
    await machine.look()
    machine.now += 899
    assert await machine.look() == []


async def test_the_interval_sends_the_state_anyway() -> None:
    machine = Machine({"tank": GOOD})
    await machine.look()
    machine.now += 900
    assert len(await machine.look()) == 1
    machine.now += 899
    assert await machine.look() == []


async def test_sizes_alone_are_no_change() -> None:
    machine = Machine({"tank": GOOD})
    await machine.look()
    machine.imported = {"tank": Pool("107G", "13.2G", "93.8G", "7%", "-", "1.01x", "-", "12%", "ONLINE")}
    assert await machine.look() == []


@pytest.mark.parametrize(
    "pools",
    [
        {},
        {"tank": GOOD, "new": GOOD},
        {"tank": BROKEN},
        {"tank": FULL},
        {"tank": Pool(capacity="13%", health="ONLINE")},
    ],
)
async def test_a_change_of_pool_set_health_or_percentage_is_sent(pools: dict[str, Pool]) -> None:
    machine = Machine({"tank": GOOD})
    await machine.look()
    machine.imported = pools
    assert await machine.look() == [assess("gold", pools, renamed=False)]


async def test_a_change_is_told_once() -> None:
    machine = Machine({"tank": GOOD})
    await machine.look()
    machine.imported = {"tank": BROKEN}
    assert len(await machine.look()) == 1
    assert await machine.look() == []


async def test_a_new_host_name_is_marked_in_one_event_only() -> None:
    machine = Machine()
    await machine.look()
    machine.node = "silver"
    assert await machine.look() == [{"hostname": "silver", "hostnamechanged": True, "priority": 3}]
    assert await machine.look() == []
    machine.now += 900
    assert await machine.look() == [{"hostname": "silver", "hostnamechanged": False, "priority": 0}]


async def test_the_first_state_of_all_has_no_new_name() -> None:
    assert (await Machine().look())[0]["hostnamechanged"] is False


async def test_a_name_changed_while_the_server_was_down_is_marked() -> None:
    machine = Machine(last={"hostname": "old", "hostnamechanged": False, "priority": 0})
    assert await machine.look() == [{"hostname": "gold", "hostnamechanged": True, "priority": 3}]


async def test_the_first_look_of_a_run_sends_although_nothing_changed_since_the_last_run() -> None:
    machine = Machine({"tank": GOOD}, last=assess("gold", {"tank": GOOD}, renamed=False))
    assert len(await machine.look()) == 1


async def test_pools_do_not_vanish_because_the_query_fails() -> None:
    machine = Machine({"tank": GOOD})
    await machine.look()
    machine.query_fails = ZfsError("no answer within 10 s")
    assert await machine.look() == []
    machine.now += 900
    assert await machine.look() == [assess("gold", {"tank": GOOD}, renamed=False)]
    assert machine.state.problem == "no answer within 10 s"


async def test_the_answer_after_a_failed_query_counts_again() -> None:
    machine = Machine({"tank": GOOD})
    await machine.look()
    machine.query_fails = ZfsError("no answer within 10 s")
    await machine.look()
    machine.query_fails, machine.imported = None, {"tank": BROKEN}
    assert await machine.look() == [assess("gold", {"tank": BROKEN}, renamed=False)]
    assert machine.state.problem is None


async def test_a_query_that_fails_after_a_restart_leaves_the_pools_of_the_last_event() -> None:
    stored = assess("gold", {"tank": BROKEN}, renamed=False)
    machine = Machine(last=stored)
    machine.query_fails = ZfsError("no answer")
    assert await machine.look() == [stored]


async def test_a_query_that_never_answered_leaves_no_zpools_key() -> None:
    machine = Machine()
    machine.query_fails = ZfsError("no answer")
    assert await machine.look() == [{"hostname": "gold", "hostnamechanged": False, "priority": 0}]


async def test_an_event_that_could_not_be_stored_is_sent_by_the_next_look() -> None:
    machine = Machine()
    await machine.look()
    machine.node, machine.store_fails = "silver", Unavailable("disk full")
    assert await machine.look() == []
    machine.store_fails = None
    assert [event["hostnamechanged"] for event in await machine.look()] == [True]


async def test_current_is_the_state_of_the_last_look_even_when_it_sent_nothing() -> None:
    machine = Machine({"tank": GOOD})
    assert machine.state.current() is None
    await machine.look()
    machine.imported = {"tank": Pool("107G", "13.2G", "93.8G", "6%", "-", "1.00x", "-", "12%", "ONLINE")}
    await machine.look()
    current = machine.state.current()
    assert current is not None
    assert current["zpools"]["tank"]["alloc"] == "13.2G"


async def test_current_never_says_that_the_name_changed() -> None:
    machine = Machine()
    await machine.look()
    machine.node = "silver"
    await machine.look()
    assert machine.state.current() == {"hostname": "silver", "hostnamechanged": False, "priority": 0}


async def test_looks_at_the_same_time_run_one_after_the_other_and_send_once() -> None:
    machine = Machine({"tank": GOOD})
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(machine.state.check_now)
    assert len(machine.drafts) == 1


async def test_run_is_started_although_the_query_hangs() -> None:
    machine = Machine()

    class Hanging:
        async def pools(self) -> dict[str, Pool]:
            await anyio.sleep_forever()
            raise AssertionError

    state = SystemState(cast("EventLog", machine), Hanging(), machine)
    async with anyio.create_task_group() as group:
        with anyio.fail_after(5):
            await group.start(state.run)
        group.cancel_scope.cancel()


async def test_run_looks_again_and_again() -> None:
    machine = Machine()
    machine.state = SystemState(cast("EventLog", machine), machine, machine, interval=900, check=0.01)
    async with anyio.create_task_group() as group:
        await group.start(machine.state.run)
        with anyio.fail_after(5):
            while machine.asked < 3:  # the loop under test has no event to wait for
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert len(machine.drafts) == 1


async def test_the_pause_ends_when_the_interval_does() -> None:
    machine = Machine()
    await machine.look()
    assert machine.state._pause() == 60
    machine.now += 870
    assert machine.state._pause() == 30
    machine.now += 100
    assert machine.state._pause() == 60
