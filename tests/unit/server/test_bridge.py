"""The bridge's composition: what it does with its relay, which is a fake here."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from sysadmd.bridge.figures import Figures
from sysadmd.bridge.status import ask
from sysadmd.config import Config, load
from sysadmd.errors import ConfigError
from sysadmd.keys.signing import PrivateKey
from sysadmd.server import bridge as module
from sysadmd.server.bridge import Bridge

KEYS = [PrivateKey.generate("ed25519").public for _ in range(2)]


class FakeRelay:
    """Notes what it is told to do."""

    def __init__(self, keyring: Any, **options: Any) -> None:
        self.figures = Figures()
        self.options, self.calls, self.changed = options, list[str](), anyio.Event()
        self.addresses: list[Any] = []
        self.stops = True

    async def start(self, **address: Any) -> None:
        self.calls.append("start")
        self.addresses = [(address["host"] or "::", address["port"])]

    def trust(self, proxies: tuple[str, ...]) -> None:
        self.calls.append(f"trust {proxies}")

    def keys_changed(self) -> None:
        self.calls.append("keys_changed")
        self.changed.set()
        self.changed = anyio.Event()

    def peers(self) -> list[Any]:
        return []

    def stop_accepting(self) -> None:
        self.calls.append("stop_accepting")

    async def stop(self, code: int, reason: str) -> None:
        self.calls.append(f"stop {int(code)} {reason}")
        if not self.stops:
            await anyio.sleep_forever()


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Relay", FakeRelay)
    monkeypatch.setattr(module, "KEYS_CHECK", 0.01)
    monkeypatch.setattr(module, "configure", lambda options: None)  # it would outlive the test


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for a Unix socket, wherever pytest keeps its directories."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def configured(directory: Path, **overrides: Any) -> Config:
    given = {"state_dir": str(directory), "relay.host": "127.0.0.1", "relay.port": 0, "relay.tls": False}
    return load(None, {**given, **overrides})


def made(config: Config, reloaded: Config | None = None) -> tuple[Bridge, FakeRelay]:
    bridge = Bridge(config, lambda: reloaded or config)
    relay: Any = bridge.relay
    assert isinstance(relay, FakeRelay)
    return bridge, relay


@contextlib.asynccontextmanager
async def running(bridge: Bridge) -> AsyncIterator[None]:
    stop, ready = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bridge.run, stop, ready.set)
        with anyio.fail_after(10):
            await ready.wait()
        yield
        stop.set()


async def test_it_stops_accepting_first_and_says_why_it_closes(directory: Path) -> None:
    bridge, relay = made(configured(directory))
    async with running(bridge):
        assert relay.calls == ["start"]
    assert relay.calls == ["start", "stop_accepting", "stop 1001 the bridge is stopping"]
    assert not (directory / "bridge.sock").exists()


async def test_a_relay_that_does_not_stop_is_not_waited_for(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSING", 0.0)
    bridge, relay = made(configured(directory, **{"limits.drain": 0.1}))
    relay.stops = False
    async with running(bridge):
        pass


async def test_every_change_of_the_keyring_is_passed_on_and_logged(directory: Path) -> None:
    bridge, relay = made(configured(directory))
    with capture_logs() as logs:
        async with running(bridge):
            for key in (*KEYS, None):
                changed = relay.changed
                if key is None:
                    bridge.keyring.remove("a")
                else:
                    bridge.keyring.add("a", key)
                with anyio.fail_after(10):
                    await changed.wait()
    first, second = (key.fingerprint for key in KEYS)
    told = [(line["event"], line["nick"], line["fingerprint"]) for line in logs if line["event"].startswith("key ")]
    assert told == [
        ("key added", "a", first),
        ("key removed", "a", first),
        ("key added", "a", second),
        ("key removed", "a", second),
    ]


async def test_a_key_that_gets_another_nickname_is_told(directory: Path) -> None:
    bridge, relay = made(configured(directory))
    bridge.keyring.add("a", KEYS[0])
    with capture_logs() as logs:
        async with running(bridge):
            changed = relay.changed
            (directory / "keys" / "a.pem").rename(directory / "keys" / "b.pem")
            with anyio.fail_after(10):
                await changed.wait()
    told = [(line["event"], line["nick"]) for line in logs if line["event"].startswith("key ")]
    assert told == [("key removed", "a"), ("key added", "b")]


async def test_without_a_change_the_relay_is_left_alone(directory: Path) -> None:
    bridge, relay = made(configured(directory))
    bridge.keyring.add("a", KEYS[0])
    async with running(bridge):
        await anyio.sleep(0.1)
    assert "keys_changed" not in relay.calls


async def test_a_reload_takes_proxies_and_limits_and_nothing_that_needs_a_restart(directory: Path) -> None:
    new = configured(directory, **{"relay.trusted_proxies": ("10.0.0.1",), "limits.auth_timeout": 5.0, "relay.port": 9})
    bridge, relay = made(configured(directory), new)
    with capture_logs() as logs:
        bridge.reload()
    assert relay.calls == ["trust ('10.0.0.1',)"]
    assert relay.options["limits"]().auth_timeout == 5.0
    applied = {line["key"]: line["applied"] for line in logs}
    assert applied == {"relay.trusted_proxies": True, "limits.auth_timeout": True, "relay.port": False}


async def test_a_reload_says_nothing_of_what_a_bridge_does_not_read(directory: Path) -> None:
    bridge, _ = made(configured(directory), configured(directory, origins=("https://x",), **{"rest.port": 1}))
    with capture_logs() as logs:
        bridge.reload()
    assert logs == []


async def test_a_bad_certificate_does_not_start_it(directory: Path) -> None:
    gone = {"relay.certificate": "/gone.crt", "relay.key": "/gone.key"}
    bridge, relay = made(configured(directory, **{"relay.tls": True}, **gone))
    with pytest.raises(ExceptionGroup) as caught:
        await bridge.run(anyio.Event(), lambda: None)
    (error,) = caught.value.exceptions
    assert isinstance(error, ConfigError)
    assert "relay.certificate" in str(error)
    assert relay.calls == []


async def test_the_socket_tells_of_its_health_its_peers_and_its_figures(directory: Path) -> None:
    bridge, relay = made(configured(directory, **{"relay.port": 12149}, node="b"))
    relay.figures.dropped["unknown"] = 2
    async with running(bridge):
        told = await anyio.to_thread.run_sync(ask, directory / "bridge.sock")
        assert (told["node"], told["healthy"], told["stopping"]) == ("b", True, False)
        assert (told["peers"], told["pending"], told["listen"]) == ([], 0, [["127.0.0.1", 12149]])
        assert told["figures"]["dropped"] == {"unknown": 2}
    assert bridge.health()["healthy"] is False
