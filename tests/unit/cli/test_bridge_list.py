"""`sysadmd bridge list`, and the exit codes of commands that go through a bridge."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sysadmd.cli import main, render
from sysadmd.client.bridge import Reachable
from sysadmd.client.pins import KnownServers
from sysadmd.client.trust import read_key
from sysadmd.keys.certificate import CertificateFiles, ensure_certificate
from sysadmd.keys.seal import SealingContext, sealing_context
from tests.unit.client.bridge.scripted import ScriptedBridge, ScriptedServer, on_loopback
from tests.unit.keys.openssl import make_key

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return ensure_certificate(tmp_path_factory.mktemp("bridge"))


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> SealingContext:
    return sealing_context(tmp_path_factory.mktemp("server"))


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key that the environment names, and no known servers but those of the test."""
    file = make_key(tmp_path, "ed25519")
    monkeypatch.setenv("SYSADMD_KEY", str(file))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("SYSADMD_SERVER", "SYSADMD_TOKEN", "SYSADMD_BRIDGE_KEY"):
        monkeypatch.delenv(name, raising=False)
    return file


async def run(*args: str | Path) -> int:
    return await asyncio.to_thread(main, [str(arg) for arg in args])


async def test_servers_are_listed_one_a_line_for_programs(
    certificates: CertificateFiles, context: SealingContext, key: Path, capsys: Capture
) -> None:
    KnownServers().pin("nas", context.fingerprint)
    bridge = ScriptedBridge(read_key(key).public)
    nas = bridge.join(ScriptedServer("nas", context, nick="rack 1"))
    async with on_loopback(bridge, certificates) as where:
        assert await run("bridge", "list", "--server", where, "--ca", certificates.cert) == 0
    row = json.loads(capsys.readouterr().out)
    assert row == {
        "id": nas.id,
        "hostname": "nas",
        "nick": "rack 1",
        "key": context.fingerprint,
        "sealed": True,
        "pinned": True,
    }


def test_people_get_a_table_with_words_and_short_keys(
    key: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        Reachable("::{1}", "nas", "rack 1", "ab" * 32, sealed=True, pinned=False),
        Reachable("::{2}", "", "", "", sealed=None, pinned=False),
    ]

    async def reachable(*args: object, **options: object) -> list[Reachable]:
        return found

    monkeypatch.setattr("sysadmd.client.bridge.reachable", reachable)
    monkeypatch.setattr(render, "for_people", lambda stream=None: True)
    assert main(["bridge", "list", "--server", "bridge://relay"]) == 0
    out = capsys.readouterr().out
    assert "ab" * 8 in out
    assert "ab" * 9 not in out
    assert "unknown" in out


async def test_what_a_server_or_a_bridge_says_does_not_reach_the_terminal_raw(
    certificates: CertificateFiles, context: SealingContext, key: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = ScriptedBridge(read_key(key).public)
    nas = bridge.join(ScriptedServer("nas\x1b[2J\n'; id", context, nick="rack\x1b[1m"))
    monkeypatch.setattr(render, "for_people", lambda stream=None: True)
    async with on_loopback(bridge, certificates) as where:
        assert await run("bridge", "list", "--server", where, "--ca", certificates.cert) == 0
        assert await run("call", "test/echo", "--server", f"{where}/{nas.id}", "--ca", certificates.cert) == 3
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert said.err.count("\n") == 1
    assert "sysadmd key pin 'nas\\x1b[2J" in said.err


async def test_a_call_goes_through_the_bridge(
    certificates: CertificateFiles, context: SealingContext, key: Path, capsys: Capture
) -> None:
    bridge = ScriptedBridge(read_key(key).public)
    handlers = {"test/echo": lambda args: args, "rpc/auth_token": lambda args: [args["token"], 900]}
    bridge.join(ScriptedServer("nas", context, handlers))
    async with on_loopback(bridge, certificates) as where:
        options = ("--server", f"{where}/nas", "--ca", certificates.cert, "--bridge-key", key, "--token", "t")
        assert await run("call", "test/echo", '{"n": 1}', *options, "--pin", context.fingerprint) == 0
        assert json.loads(capsys.readouterr().out) == {"n": 1}
        assert await run("call", "test/nothing", *options, "--pin", context.fingerprint) == 1
        assert "404" in capsys.readouterr().err
        assert await run("call", "test/echo", *options) == 3
        assert f"sysadmd key pin nas {context.fingerprint}" in capsys.readouterr().err
        assert await run("call", "test/echo", *options, "--pin", "ab" * 32) == 3
        assert "not the one that is known" in capsys.readouterr().err


async def test_a_bridge_that_does_not_know_the_key_is_exit_3(
    certificates: CertificateFiles, key: Path, capsys: Capture
) -> None:
    bridge = ScriptedBridge(read_key(make_key(key.parent, "ed25519", "other")).public)
    async with on_loopback(bridge, certificates) as where:
        assert await run("bridge", "list", "--server", where, "--ca", certificates.cert) == 3
    assert "does not know the key" in capsys.readouterr().err


def test_a_bridge_that_is_away_is_exit_3(key: Path, capsys: Capture) -> None:
    assert main(["bridge", "list", "--server", "bridge://127.0.0.1:1"]) == 3
    assert main(["call", "rpc/query", "--server", "bridge://127.0.0.1:1/nas"]) == 3


@pytest.mark.parametrize(
    "args",
    [
        ["bridge", "list"],
        ["bridge", "list", "--server", "wss://relay"],
        ["bridge", "list", "--server", "bridge://relay/nas"],
        ["call", "rpc/query", "--server", "bridge://relay"],
        ["call", "rpc/query", "--server", "bridge://relay/nas", "--pin", "x"],
    ],
)
def test_what_cannot_be_meant_is_exit_2(key: Path, capsys: Capture, args: list[str]) -> None:
    assert main(args) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_key_there_is_no_bridge(key: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.delenv("SYSADMD_KEY")
    assert main(["bridge", "list", "--server", "bridge://relay"]) == 2
    assert "--bridge-key FILE" in capsys.readouterr().err
