"""Nothing that a role may not see reaches its outlet, whatever the roles, the topics, the jobs and the changes between.

Every record carries a mark. An outlet looks for marks in each byte that it is given, events and answers alike, and asks
a model of the permissions that is written here a second time, without the product's grammar: whose mark may it be now?
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.api.events.subscribe import subscribe, unsubscribe
from sysadmd.auth import role_table
from sysadmd.auth.account_table import PolicyRows
from sysadmd.auth.identity import Peer
from sysadmd.auth.policy import Policy
from sysadmd.auth.role_table import Role
from sysadmd.events.log import EventLog
from sysadmd.events.record import Draft
from sysadmd.limits import Limits
from sysadmd.rpc.engine import Engine
from sysadmd.rpc.registry import Registry
from sysadmd.rpc.session import Session
from sysadmd.schema import load_methods
from sysadmd.store import Store
from tests.unit.rpc.rig import FakeOutlet, settle

METHODS = {key: method for key, method in load_methods().items() if key.startswith("events/")}
ACCOUNTS = ("ann", "ben")
TOPICS = ("dispatcher", "life_preserver", "system_state")
MARK = re.compile(rb"mark-(\d+)-")

Book = Mapping[str, Role]


# The model


def fits(glob: str, text: str) -> bool:
    """A star is any run of characters of one segment."""
    if not glob:
        return not text
    if glob[0] == "*":
        return fits(glob[1:], text) or (bool(text) and text[0] not in "/:" and fits(glob, text[1:]))
    return text[:1] == glob[0] and fits(glob[1:], text[1:])


def patterns_of(book: Book, names: Sequence[str], seen: frozenset[str] = frozenset()) -> set[str]:
    found: set[str] = set()
    for name in names:
        if name in book and name not in seen:
            found |= set(book[name].patterns) | patterns_of(book, book[name].includes, seen | {name})
    return found


def allows(patterns: set[str], topic: str, job: str | None) -> bool:
    topics = [one[6:].replace("-", "_") for one in patterns if one.startswith("event:")]
    jobs = [one[4:].rpartition(":") for one in patterns if one.startswith("job:")]
    may_read = job is None or any(right in {"read", "*"} and fits(name, job) for name, _, right in jobs)
    return may_read and any(fits(one, topic) for one in topics)


# What is generated

JOB = st.text("ab.", min_size=1, max_size=4)
PATTERN = st.one_of(
    st.sampled_from(["*", "dispatcher", "life-preserver", "life_preserver", "*_*", "s*e", "d*", "system*"]).map(
        "event:{}".format
    ),
    st.builds("job:{}:{}".format, st.text("ab.*", min_size=1, max_size=4), st.sampled_from(["read", "run", "*"])),
)
NAMES = ("one", "two", "three")
INCLUDES = st.lists(st.sampled_from(NAMES), max_size=2, unique=True)
ROLE = st.builds(
    lambda patterns, includes: Role(("call:@read", *patterns), tuple(includes)), st.lists(PATTERN, max_size=4), INCLUDES
)
"""Each may subscribe, so that what follows is about what it sees."""
BOOK = st.fixed_dictionaries(dict.fromkeys(NAMES, ROLE))
HOLDERS = st.fixed_dictionaries(
    {one: st.none() | st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(tuple) for one in ACCOUNTS}
)


@dataclass(frozen=True)
class Publish:
    topic: str
    job: str | None
    durable: bool


@dataclass(frozen=True)
class Change:
    """New roles; an account of None may no longer log in."""

    book: Book
    holders: Mapping[str, tuple[str, ...] | None]


@dataclass(frozen=True)
class Stall:
    account: str
    stalled: bool


@dataclass(frozen=True)
class Subscribe:
    account: str
    args: Any
    standard: bool
    """In JSON-RPC."""
    behind: int | None = None
    """Resume after the record that was so many before the last."""


TOPIC = st.sampled_from(TOPICS)
EXTENDED = st.fixed_dictionaries(
    {"topics": st.lists(TOPIC, min_size=1, max_size=2)},
    optional={"snapshot": st.booleans(), "policy": st.sampled_from(["gap", "coalesce"])},
)
PUBLISH = st.builds(Publish, st.one_of(st.just("dispatcher"), TOPIC), JOB, st.booleans())
STEP = st.one_of(
    PUBLISH,
    st.builds(Publish, TOPIC, st.none(), st.booleans()),
    st.builds(Change, BOOK, HOLDERS),
    st.builds(Stall, st.sampled_from(ACCOUNTS), st.booleans()),
    st.builds(Subscribe, st.sampled_from(ACCOUNTS), TOPIC.map(lambda topic: [topic]), st.booleans()),
    st.builds(Subscribe, st.sampled_from(ACCOUNTS), EXTENDED, st.booleans(), st.none() | st.integers(0, 5)),
)


QUEUED = st.tuples(
    st.just(Stall("ann", stalled=True)), PUBLISH, st.builds(Change, BOOK, HOLDERS), st.just(Stall("ann", stalled=False))
)
"""What waits for a slow reader while the roles change."""
STEPS = st.lists(st.one_of(st.tuples(STEP), QUEUED), max_size=12).map(
    lambda parts: [one for part in parts for one in part]
)
ASKING = [Subscribe(name, [topic], standard=False) for name in ACCOUNTS for topic in TOPICS]


# The server


@dataclass
class World:
    """What was published, and who may see what now."""

    patterns: dict[str, set[str]] = field(default_factory=dict)
    records: list[tuple[str, str | None]] = field(default_factory=list)

    def may(self, account: str, number: int) -> bool:
        return allows(self.patterns[account], *self.records[number])

    def draft(self, topic: str, job: str | None, *, durable: bool) -> Draft:
        mark = f"mark-{len(self.records)}-"
        self.records.append((topic, job))
        return Draft(topic, _payload(topic, mark), durable=durable, permission=job)


def _payload(topic: str, mark: str) -> dict[str, Any]:
    if topic == "dispatcher":
        names = {"phase": "started", "process_id": mark, "event_system": "dispatcher"}
        return {**names, "extra": {"note": mark}, "details": {}, "update": None}
    if topic == "system_state":
        return {"hostname": mark, "hostnamechanged": False, "priority": 0}
    return {"message": mark, "priority": 1, "class": "snapshot"}


class Guard(FakeOutlet):
    """An outlet that refuses what its account may not see."""

    def __init__(self, account: str, world: World) -> None:
        super().__init__()
        self.account, self.world = account, world
        self.seen: set[int] = set()
        self.leaks: list[str] = []

    def write(self, data: bytes) -> None:
        self._look(data)
        super().write(data)

    def send(self, payload: bytes) -> None:
        self._look(payload)
        super().send(payload)

    def _look(self, data: bytes) -> None:
        for number in map(int, MARK.findall(data)):
            self.seen.add(number)
            if not self.world.may(self.account, number):
                self.leaks.append(f"{self.world.records[number]} to {self.world.patterns[self.account]}")


class Server:
    """An engine with the real handlers of `events`, and a session of each account."""

    def __init__(self, engine: Engine, events: EventLog, policy: Policy, world: World) -> None:
        self.engine, self.events, self.policy, self.world = engine, events, policy, world
        self.live: list[Draft] = []
        self.outlets = {name: Guard(name, world) for name in ACCOUNTS}
        self.sessions: dict[str, Session] = {}
        self.expected: dict[str, set[int]] = {name: set() for name in ACCOUNTS}
        self.plain: dict[str, set[str]] = {name: set() for name in ACCOUNTS}

    def change(self, change: Change) -> None:
        granted = {name: role_table.granted(change.book, (name,)) for name in change.book}
        holders = {name: roles for name, roles in change.holders.items() if roles is not None}
        self.policy.replace(PolicyRows(granted, holders), None)
        for name in ACCOUNTS:
            self.world.patterns[name] = patterns_of(change.book, change.holders[name] or ())
            if change.holders[name] is None:
                self.plain[name].clear()

    async def publish(self, step: Publish) -> None:
        number = len(self.world.records)
        draft = self.world.draft(step.topic, step.job, durable=step.durable)
        for name, outlet in self.outlets.items():
            if step.topic in self.plain[name] and not outlet.stalled and self.world.may(name, number):
                self.expected[name].add(number)
        self.events.publish(draft)
        await self.events.submit(lambda _: (None, []))
        await settle()

    def stall(self, step: Stall) -> None:
        self.outlets[step.account].stalled = step.stalled
        if not step.stalled:
            self.sessions[step.account].subscriptions.resume()

    def subscribe(self, step: Subscribe) -> None:
        """Log in where need be, and subscribe; what may not be seen is refused."""
        session, scope = self.sessions[step.account], self.policy.scope(step.account)
        if scope is None:
            return
        if session.scope is None:
            session.login(scope, None, None)
        args = step.args
        if step.behind is not None:
            args = {**args, "since": {"epoch": self.events.epoch, "seq": max(0, self.events.head - step.behind)}}
        before = len(self.outlets[step.account].replies)
        session.receive(_frame(args, standard=step.standard))
        (reply,) = self.outlets[step.account].replies[before:]
        if _succeeded(reply) and isinstance(args, list) and not self.outlets[step.account].stalled:
            self.plain[step.account].update(args)


def _frame(args: Any, *, standard: bool) -> str:
    if standard:
        return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "events/subscribe", "params": args})
    return json.dumps({"namespace": "events", "name": "subscribe", "id": "1", "args": args})


def _succeeded(reply: Mapping[str, Any]) -> bool:
    return "result" in reply or reply.get("name") == "response"


@asynccontextmanager
async def serving(path: Path, world: World) -> AsyncIterator[Server]:
    store = Store.open(path / "sysadmd.db")
    events = EventLog(store, node="here", limits=Limits())
    policy = Policy(PolicyRows({}, {}))
    live: list[Draft] = []
    services = SimpleNamespace(
        events=events,
        life_preserver=SimpleNamespace(poke=lambda: None),
        dispatcher=SimpleNamespace(snapshot=lambda: [*live]),
    )
    engine = Engine(Registry(METHODS, [subscribe, unsubscribe]), services, events, Limits())
    policy.on_change(lambda change: engine.apply_policy(change, policy.scope))
    server = Server(engine, events, policy, world)
    live += [world.draft("dispatcher", job, durable=False) for job in ("a", "b.a", "ab")]
    server.sessions = {name: engine.open(server.outlets[name], Peer("192.0.2.1", "tcp")) for name in ACCOUNTS}
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(events.run)
            await tasks.start(engine.run)
            yield server
            tasks.cancel_scope.cancel()
    finally:
        store.close()


async def play(path: Path, first: Change, steps: Sequence[Any]) -> dict[str, Guard]:
    async with serving(path, World()) as server:
        server.change(first)
        for step in steps:
            if isinstance(step, Publish):
                await server.publish(step)
            elif isinstance(step, Change):
                server.change(step)
            elif isinstance(step, Stall):
                server.stall(step)
            else:
                server.subscribe(step)
                await settle()
        for name in ACCOUNTS:
            server.stall(Stall(name, stalled=False))
        await settle()
        for name, outlet in server.outlets.items():
            assert outlet.leaks == []
            assert server.expected[name] <= outlet.seen
        return server.outlets


@settings(max_examples=100)
@given(st.builds(Change, BOOK, HOLDERS), STEPS)
def test_nothing_that_a_role_may_not_see_reaches_its_outlet(first: Change, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        anyio.run(play, Path(directory), first, [*ASKING, *steps])


WATCHERS = {"one": Role(("call:@read", "event:*", "job:a*:read")), "two": Role(("call:@read", "event:system*"))}


def test_the_outlets_see_what_they_may_and_the_guard_would_find_a_leak() -> None:
    """The property is not empty: here is what passes, and a guard that lacks a permission calls it a leak."""
    first = Change(WATCHERS, {"ann": ("one",), "ben": ("two",)})
    everywhere = [Publish("dispatcher", "ab", durable=True), Publish("dispatcher", "b", durable=False)]
    everywhere += [Publish("system_state", None, durable=True), Publish("life_preserver", None, durable=True)]
    with tempfile.TemporaryDirectory() as directory:
        outlets = anyio.run(play, Path(directory), first, [*ASKING, *everywhere])
    ann, ben = outlets["ann"], outlets["ben"]
    records = [(one.world.records[number], one.account) for one in (ann, ben) for number in sorted(one.seen)]
    assert records == [
        (("dispatcher", "ab"), "ann"),
        (("system_state", None), "ann"),
        (("life_preserver", None), "ann"),
        (("system_state", None), "ben"),
    ]
    ben.write(b'"mark-3-"\n')
    assert len(ben.leaks) == 1
