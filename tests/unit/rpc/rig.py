"""An engine with a few methods whose calls end when a test says so, and outlets that remember."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from sysadmd.api.rpc.cancel import cancel
from sysadmd.auth.identity import Peer
from sysadmd.auth.scope import Scope
from sysadmd.errors import Conflict, Unauthorized
from sysadmd.events.log import EventLog
from sysadmd.events.record import Record
from sysadmd.events.subscription import Framing
from sysadmd.limits import Limits
from sysadmd.rpc.call import Call, Handler, method
from sysadmd.rpc.engine import Engine
from sysadmd.rpc.registry import Registry
from sysadmd.rpc.session import Session
from sysadmd.schema import Method
from sysadmd.store import Store

ALL = ("call:*", "event:*", "job:*:read")


def scope(name: str = "ann", *patterns: str) -> Scope:
    return Scope(name, (), patterns or ALL)


def declared(key: str, *, access: str = "read", inline: bool = False, args: Mapping[str, Any] | None = None) -> Method:
    """A method as a schema file would declare it."""
    namespace, name, *rest = key.split("/")
    return Method(
        namespace=namespace,
        name=name,
        action=rest[0] if rest else None,
        key=key,
        access=access,  # type: ignore[arg-type]
        mutates=False,
        inline=inline,
        args=args or {},
        returns={},
        title=key,
        description="",
        examples=(),
        errors=(),
    )


class Gates:
    """Calls that wait here until they are let through by name; what began and what was cancelled, in order."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self._open: dict[str, anyio.Event] = {}

    async def wait(self, name: str) -> str:
        self.begun.append(name)
        try:
            await self._gate(name).wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(name)
            raise
        return name

    def open(self, *names: str) -> None:
        for name in names:
            self._gate(name).set()

    def _gate(self, name: str) -> anyio.Event:
        return self._open.setdefault(name, anyio.Event())


@method("test/echo")
def echo(call: Call, gates: Gates) -> Any:
    return {"by": call.caller.account, "args": call.args}


@method("test/slow")
async def slow(call: Call, gates: Gates) -> Any:
    return {"by": call.caller.account, "did": await gates.wait(call.args["name"])}


@method("test/fault")
def fault(call: Call, gates: Gates) -> Any:
    raise RuntimeError("a secret detail")


@method("test/slow-fault")
async def slow_fault(call: Call, gates: Gates) -> Any:
    await gates.wait("fault")
    raise RuntimeError("a secret detail")


@method("test/conflict")
async def conflict(call: Call, gates: Gates) -> Any:
    raise Conflict("taken")


@method("test/strict/run")
def strict(call: Call, gates: Gates) -> Any:
    return {}


@method("rpc/identify")
def identify(call: Call, gates: Gates) -> Any:
    return {"type": "server"}


@method("rpc/auth")
async def auth(call: Call, gates: Gates) -> Any:
    """Logs in whoever is named, as soon as the gate of that name is open; `mallory` fails."""
    name = await gates.wait(call.args["username"])
    if name == "mallory":
        call.session.logout()
        raise Unauthorized
    call.session.login(scope(name), f"token of {name}", None)
    return [name, 900]


HANDLERS: tuple[Handler, ...] = (echo, slow, fault, slow_fault, conflict, strict, identify, auth, cancel)
STRICT = {"type": "object", "properties": {"n": {"minimum": 0}}, "required": ["n"]}
METHODS = (
    declared("test/echo"),
    declared("test/slow"),
    declared("test/fault"),
    declared("test/slow-fault"),
    declared("test/conflict"),
    declared("test/strict/run", access="admin", args=STRICT),
    declared("rpc/identify", access="public", inline=True),
    declared("rpc/auth", access="public", inline=True),
    declared("rpc/cancel", inline=True),
)


def registry() -> Registry:
    return Registry({one.key: one for one in METHODS}, HANDLERS)


def lines(message: bytes, _record: Record) -> bytes:
    return message + b"\n"


@dataclass
class FakeOutlet:
    """Remembers what a session writes and does. `stalled`: it takes no events."""

    replies: list[Any] = field(default_factory=list)
    written: list[Any] = field(default_factory=list)
    frame_limits: list[int] = field(default_factory=list)
    closed: list[tuple[int, str]] = field(default_factory=list)
    stalled: bool = False

    @property
    def framing(self) -> Framing:
        return lines

    def writable(self) -> bool:
        return not self.stalled

    def write(self, data: bytes) -> None:
        self.written += [json.loads(line) for line in data.splitlines()]

    def send(self, payload: bytes) -> None:
        if payload:
            self.replies.append(json.loads(payload))

    def limit_frames(self, size: int) -> None:
        self.frame_limits.append(size)

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    def overflow_close(self, reason: str) -> None:
        self.close(0, reason)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Rig:
    """A running engine and what it stands on."""

    engine: Engine
    events: EventLog
    gates: Gates
    clock: Clock
    dead_tokens: set[str]
    renewed: list[str]

    def session(self, *, login: str | None = "ann", classic: bool = False) -> tuple[Session, FakeOutlet]:
        outlet = FakeOutlet()
        session = self.engine.open(outlet, Peer("192.0.2.1", "tcp"), classic=classic)
        if login is not None:
            session.login(scope(login), f"token of {login}", None)
        return session, outlet


@asynccontextmanager
async def rig(path: Path, limits: Limits | None = None) -> AsyncIterator[Rig]:
    """An engine over a real log; a session's frames are answered in its outlet."""
    store = Store.open(path / "sysadmd.db")
    limits = limits or Limits()
    events = EventLog(store, node="here", limits=limits, clock=lambda: 1000.0)
    gates, clock, dead, renewed = Gates(), Clock(), set[str](), list[str]()

    def keep(token: str) -> bool:
        renewed.append(token)
        return token not in dead

    engine = Engine(registry(), gates, events, limits, keep_token=keep, monotonic=clock)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(events.run)
            await tasks.start(engine.run)
            yield Rig(engine, events, gates, clock, dead, renewed)
            tasks.cancel_scope.cancel()
    finally:
        store.close()


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


def frame(name: str, args: Any = None, id: Any = "1", namespace: str = "test", **extra: Any) -> str:
    return json.dumps({"namespace": namespace, "name": name, "id": id, "args": {} if args is None else args, **extra})


def slow_frame(name: str, **extra: Any) -> str:
    """A call of `test/slow` whose id and gate have one name."""
    return frame("slow", {"name": name}, id=name, **extra)


def cancel_frame(target: Any, id: str = "c") -> str:
    return frame("cancel", {"id": target}, id=id, namespace="rpc")


def auth_frame(name: str) -> str:
    return frame("auth", {"username": name}, id=f"auth-{name}", namespace="rpc")


def codes(replies: list[Any]) -> dict[Any, int]:
    """Id of each documented reply to its code; 200 for a result."""
    return {one["id"]: one["args"]["code"] if one["name"] == "error" else 200 for one in replies}
