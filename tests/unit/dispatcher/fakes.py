"""An executor that does what a test says, behind the interface of a link."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from sysadmd.config import Config, DispatcherConfig, Socket
from sysadmd.dispatcher import Dispatcher
from sysadmd.dispatcher.link import LinkHandler
from sysadmd.errors import ExecutorError
from sysadmd.events import Draft, EventLog
from sysadmd.executor.protocol import Authenticated, ErrorFrame, Exit, Listing, SignalName, Start, Started
from sysadmd.limits import Limits
from sysadmd.store import Store


class FakeExecutor:
    """Attempts that were started and not ended are `running`; exits not acknowledged are in `exits`."""

    def __init__(self, instance: str | None = "i1") -> None:
        self.instance: str | None = None
        self.features: frozenset[str] = frozenset()
        self.verdict = Authenticated(request=1, ok=False)
        self.asked: list[tuple[str, str]] = []
        self.first = instance
        self.handler: LinkHandler | None = None
        self.starts: list[Start] = []
        self.running: dict[str, Start] = {}
        self.exits: dict[str, Exit] = {}
        self.signals: list[tuple[str, str]] = []
        self.acknowledged: list[str] = []
        self.outputs: dict[str, int] = {}
        self.swallow = False
        """Take starts and forget them, as a connection does that breaks on the way."""
        self.refuse: str | None = None

    async def run(self, handler: LinkHandler) -> None:
        self.handler = handler
        if self.first is not None:
            self.connect(self.first)
        await anyio.sleep_forever()

    def connect(self, instance: str = "i1") -> None:
        assert self.handler is not None
        self.instance = instance
        running = [self._started(frame) for frame in self.running.values()]
        self.handler.connected(instance, Listing(running=running, exits=list(self.exits.values())))

    def disconnect(self) -> None:
        assert self.handler is not None
        self.instance = None
        self.handler.disconnected()

    def start(self, frame: Start, descriptor: int) -> bool:
        if self.instance is None or self.swallow:
            os.close(descriptor)
            return self.instance is not None
        if self.refuse == "large":
            os.close(descriptor)
            raise ExecutorError("too large")
        self.starts.append(frame)
        if self.refuse is not None:
            os.close(descriptor)
            assert self.handler is not None
            code: Any = self.refuse
            self.handler.refused(ErrorFrame(code=code, message="refused", attempt=frame.attempt))
            return True
        self.running[frame.attempt] = frame
        self.outputs[frame.attempt] = descriptor
        return True

    async def authenticate(self, user: str, password: str) -> Authenticated:
        self.asked.append((user, password))
        return self.verdict

    def signal(self, attempt: str, name: SignalName) -> bool:
        if self.instance is not None:
            self.signals.append((attempt, name))
        return self.instance is not None

    def acknowledge(self, attempts: Iterable[str]) -> None:
        if self.instance is not None:
            for attempt in attempts:
                self.acknowledged.append(attempt)
                self.exits.pop(attempt, None)

    # ---- what a test does

    def write(self, attempt: str, data: bytes) -> None:
        os.write(self.outputs[attempt], data)

    def say_started(self, attempt: str) -> None:
        assert self.handler is not None
        self.handler.started(self._started(self.running[attempt]))

    def exit(self, attempt: str, code: int | None = 0, **fields: Any) -> None:
        """End an attempt; told at once when the link is up."""
        frame = self.running.pop(attempt)
        os.close(self.outputs.pop(attempt))
        outcome = fields.pop("outcome", "ok" if code == 0 else "fail")
        lease = fields.pop("lease", frame.lease)
        self.exits[attempt] = Exit(
            attempt=attempt, lease=lease, outcome=outcome, exit_code=code, time_started=1.0, time_finished=2.0, **fields
        )
        if self.instance is not None:
            assert self.handler is not None
            self.handler.exited(self.exits[attempt])

    def close(self) -> None:
        for descriptor in self.outputs.values():
            os.close(descriptor)

    @staticmethod
    def _started(frame: Start) -> Started:
        return Started(attempt=frame.attempt, lease=frame.lease, pid=77, pid_start=88, time=1.0)


class Bench:
    """A dispatcher on a fake executor, the drafts that it made, and a store on disk."""

    def __init__(self, dispatcher: Dispatcher, executor: FakeExecutor, events: EventLog, drafts: list[Draft]) -> None:
        self.dispatcher, self.executor, self.events, self.drafts = dispatcher, executor, events, drafts

    def phases(self, process_id: str | None = None) -> list[str]:
        """What has been told, of one process or of all."""
        return [d.data["phase"] for d in self.drafts if process_id in {None, d.data["process_id"]}]

    async def until(self, condition: Any) -> None:
        """Let the loop run until the condition holds, 5 seconds at most."""
        with anyio.fail_after(5):
            while not condition():
                await anyio.sleep(0.002)


class RecordingLog(EventLog):
    """An event log that keeps the drafts, and that can be told to fail."""

    drafts: list[Draft]
    failing: Exception | None = None

    def submit(self, write: Any) -> Any:
        def recorded(connection: Any) -> Any:
            if self.failing is not None:
                raise self.failing
            result, drafts = write(connection)
            self.drafts.extend(drafts)
            return result, drafts

        return super().submit(recorded)

    def publish(self, draft: Draft) -> None:
        self.drafts.append(draft)
        super().publish(draft)


@asynccontextmanager
async def bench(
    state: Path,
    *,
    executor: FakeExecutor | None = None,
    limits: Limits | None = None,
    use: float = 0.0,
    lanes: dict[str, int | None] | None = None,
    options: DispatcherConfig | None = None,
) -> AsyncIterator[Bench]:
    """A dispatcher that looks every 10 ms."""
    limits = limits or Limits(running_update=0.01)
    fake = executor or FakeExecutor()
    shipped: dict[str, int | None] = {"no_queue": None, "pkg_queue": 1, "iocage_queue": 1}
    config = Config(
        state_dir=state,
        node="n",
        socket=Socket(state / "s"),
        limits=limits,
        lanes={**shipped, **(lanes or {})},
        dispatcher=options or DispatcherConfig(),
    )
    store = Store.open(state / "sysadmd.db")
    events = RecordingLog(store, node="n", limits=limits)
    events.drafts = []
    dispatcher = Dispatcher(store, events, config, link=fake, use=lambda _: use)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(events.run)
            await tasks.start(dispatcher.run)
            yield Bench(dispatcher, fake, events, events.drafts)
            await dispatcher.close()
            tasks.cancel_scope.cancel()
    finally:
        store.close()
        if executor is None:
            fake.close()
