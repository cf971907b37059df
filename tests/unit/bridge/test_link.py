"""Dialling again: how often, what is said, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog.testing

from sysadmd.backoff import Backoff
from sysadmd.bridge import link as module
from sysadmd.bridge.dial import DialFailed, Untrusted
from sysadmd.bridge.line import LinkEnded, LinkRefused
from sysadmd.bridge.link import STEADY, Link
from sysadmd.config import BridgeLink
from sysadmd.errors import SysadmdError
from sysadmd.keys.sealing import Sealing
from tests.unit.rpc.rig import Clock, rig


class Attempts:
    """A link whose attempts end as the test says, and the waits between them."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self.link, self.clock = link, clock
        self.ends: list[Callable[[], SysadmdError]] = []
        self.asked: list[int] = []
        self.states: list[str] = []

    async def attempt(self) -> SysadmdError:
        if not self.ends:
            await asyncio.Event().wait()
        return self.ends.pop(0)()

    def delay(self, attempt: int) -> float:
        self.asked.append(attempt)
        self.states.append(self.link.status().state)
        return 0.0

    def lived(self, seconds: float) -> Callable[[], SysadmdError]:
        """A connection that was logged in for so long."""

        def end() -> SysadmdError:
            self.link._connected()
            self.clock.now += seconds
            return LinkEnded("the bridge closed the connection (1001)")

        return end


@asynccontextmanager
async def attempts(path: Path) -> AsyncIterator[Attempts]:
    async with rig(path) as server:
        clock = Clock()
        link = Link(
            "office",
            BridgeLink("bridge.example.net"),
            server.engine,
            node="vault",
            state_dir=path,
            checksums=list,
            sealing=Sealing(path),
            allow_classic=True,
            clock=clock,
        )
        it = Attempts(link, clock)
        link._attempt = it.attempt  # type: ignore[method-assign]
        link._backoff = it  # type: ignore[assignment]
        yield it


async def run(it: Attempts, *ends: Callable[[], SysadmdError]) -> list[Any]:
    """Let attempts end so; what was logged."""
    it.ends = list(ends)
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(it.link.run())
        async with asyncio.timeout(10):
            while it.ends or len(it.asked) < len(ends):
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return list(logs)


def failed(text: str) -> Callable[[], SysadmdError]:
    return lambda: DialFailed(text)


async def test_each_failure_waits_longer_than_the_one_before(tmp_path: Path) -> None:
    async with attempts(tmp_path) as it:
        await run(it, failed("a"), failed("a"), failed("a"))
        assert it.asked == [0, 1, 2]


async def test_a_connection_that_lived_for_a_minute_starts_the_waits_anew(tmp_path: Path) -> None:
    async with attempts(tmp_path) as it:
        await run(it, failed("a"), failed("a"), it.lived(STEADY), failed("a"), it.lived(STEADY - 1), failed("a"))
        assert it.asked == [0, 1, 0, 1, 2, 3]


async def test_an_original_bridge_that_refuses_is_not_hurried(tmp_path: Path) -> None:
    """Its ban after two failures lasts for an hour (spec §6.7)."""
    async with attempts(tmp_path) as it:
        await run(it, lambda: LinkRefused("unauthorized", original=True), lambda: LinkRefused("no"), failed("a"))
        assert it.asked == [6, 7, 8]
        assert Backoff(module.FIRST_WAIT, module.LONGEST_WAIT, lambda: 1.0).delay(6) == module.LONGEST_WAIT


async def test_a_reason_is_told_once_until_it_changes(tmp_path: Path) -> None:
    async with attempts(tmp_path) as it:
        logs = await run(it, failed("a"), failed("a"), failed("b"), failed("b"), it.lived(1), failed("b"))
        down = [one["reason"] for one in logs if one["event"] == "bridge link down"]
        assert down == ["a", "b", "the bridge closed the connection (1001)", "b"]
        assert len([one for one in logs if one["event"] == "bridge link up"]) == 1


async def test_a_fault_of_ours_ends_one_connection_and_not_the_server(tmp_path: Path) -> None:
    def fault() -> SysadmdError:
        raise RuntimeError("a secret detail")

    async with attempts(tmp_path) as it:
        logs = await run(it, fault, failed("a"))
        assert [one["event"] for one in logs] == ["bridge link failed", "bridge link down", "bridge link down"]
        assert "secret" not in logs[1]["reason"]


async def test_the_state_tells_a_refusal_from_an_absence(tmp_path: Path) -> None:
    async with attempts(tmp_path) as it:
        await run(it, failed("a"), lambda: LinkRefused("unauthorized"), lambda: Untrusted("another key"))
        assert it.states == ["waiting", "refused", "refused"]
        status = it.link.status()
        assert (status.name, status.url, status.error) == ("office", "wss://bridge.example.net:12149/", "another key")


def test_the_waits_go_from_a_second_to_a_minute() -> None:
    backoff = Backoff(module.FIRST_WAIT, module.LONGEST_WAIT, lambda: 1.0)
    assert [backoff.delay(n) for n in (0, 1, 5, 6, 99)] == [1, 2, 32, 60, 60]
