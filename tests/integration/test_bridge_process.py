"""A bridge process from its start to its end: whom it lets in, what it tells, how it stops."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed

from sysadmd.cli import main
from sysadmd.keys.certificate import ensure_certificate, fingerprint
from sysadmd.keys.signing import PrivateKey
from sysadmd.store import DATABASE_FILE, Store
from tests.integration.bridge_processes import BridgePeer, RunningBridge, running_bridge

Capture = pytest.CaptureFixture[str]
SERVER, CLIENT = PrivateKey.generate("ed25519"), PrivateKey.generate("ed25519")
SHARED = ["c2hhcmVk"]


def command(bridge: RunningBridge, *arguments: str | Path) -> int:
    """`sysadmd bridge …` on the directory of this bridge."""
    return main(["bridge", *map(str, arguments), "--state-dir", str(bridge.state_dir)])


async def peers(bridge: RunningBridge, capsys: Capture) -> list[dict[str, Any]]:
    """What `sysadmd bridge peers` prints."""
    capsys.readouterr()
    assert await asyncio.to_thread(command, bridge, "peers") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def figures(bridge: RunningBridge) -> dict[str, float]:
    """The bridge's own samples of /metrics, by name and label."""
    scheme, context = ("https", bridge.ssl_context()) if bridge.tls else ("http", None)
    url = f"{scheme}://127.0.0.1:{bridge.port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context or True) as response:
        assert response.status == 200
        text = await response.text()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = "".join(f"{{{value}}}" for value in sample.labels.values())
            found[f"{sample.name.removeprefix('sysadmd_bridge_')}{label}"] = sample.value
    return found


async def closing(peer: BridgePeer) -> tuple[int, str]:
    """Code and reason by which the bridge ends the connection."""
    with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012
        while True:
            await peer.receive()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def exported(key: PrivateKey, directory: Path) -> Path:
    file = directory / f"{key.public.fingerprint}.pub"
    file.write_text(key.public.pem)
    return file


# Keys


async def test_a_key_lets_in_from_its_import_to_its_removal(tmp_path: Path, capsys: Capture) -> None:
    file = exported(SERVER, tmp_path)
    async with running_bridge(tmp_path, tls=True) as bridge:
        async with bridge.connect() as stranger:
            await stranger.introduce("server", "web1.example.net")
            assert (await stranger.prove(SERVER))["args"]["code"] == 401
        assert await asyncio.to_thread(command, bridge, "key", "import", "web1", file) == 0
        async with bridge.peer("server", SERVER, SHARED, "web1.example.net") as peer:
            (row,) = await peers(bridge, capsys)
            assert (row["nick"], row["role"], row["hostname"]) == ("web1", "server", "web1.example.net")
            assert (row["key"], row["address"], row["paired"]) == (SERVER.public.fingerprint, "127.0.0.1", [])
            assert await asyncio.to_thread(command, bridge, "key", "remove", "web1") == 0
            await closing(peer)
        assert await peers(bridge, capsys) == []
        found = await figures(bridge)
        assert (found["logins_total{accepted}"], found["logins_total{proof}"]) == (1, 1)


async def test_replacing_a_key_ends_what_the_old_one_opened(tmp_path: Path) -> None:
    async with running_bridge(tmp_path) as bridge:
        bridge.admit("web1", SERVER.public)
        async with bridge.peer("server", SERVER, SHARED) as peer:
            bridge.admit("web1", CLIENT.public)
            await closing(peer)


async def test_importing_another_key_disturbs_nobody(tmp_path: Path, capsys: Capture) -> None:
    async with running_bridge(tmp_path) as bridge:
        bridge.admit("web1", SERVER.public)
        async with bridge.peer("server", SERVER, SHARED):
            bridge.admit("olga", CLIENT.public)
            await bridge.log_line(event="key added", nick="olga")
            assert [row["nick"] for row in await peers(bridge, capsys)] == ["web1"]


# What is told


@pytest.mark.parametrize("loop", ["", "asyncio"])
async def test_peers_pairs_and_what_they_send_are_told(tmp_path: Path, capsys: Capture, loop: str) -> None:
    async with running_bridge(tmp_path, tls=True, environ={"SYSADMD_EVENT_LOOP": loop}) as bridge:
        bridge.admit("web1", SERVER.public)
        bridge.admit("olga", CLIENT.public)
        async with bridge.peer("server", SERVER, SHARED) as server, bridge.peer("client", CLIENT, SHARED) as client:
            (target,) = await client.announcement()
            await client.send(f"{target}\nhello")
            assert (await server.receive()).endswith("\nhello")
            rows = {row["nick"]: row for row in await peers(bridge, capsys)}
            assert rows["web1"]["paired"] == [rows["olga"]["id"]]
            assert (rows["olga"]["messages_in"], rows["web1"]["messages_out"]) == (1, 1)
            found = await figures(bridge)
        assert (found["peers{server}"], found["peers{client}"], found["pairs"], found["keys"]) == (1, 1, 1, 2)
        assert found["relayed_messages_total"] == 1


async def test_the_health_is_told_and_the_certificate_is_the_one_in_the_log(tmp_path: Path) -> None:
    async with running_bridge(tmp_path, tls=True) as bridge:
        url = f"https://127.0.0.1:{bridge.port}/healthz"
        context = bridge.ssl_context() or True
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
            state = await response.json()
        assert (response.status, state["healthy"], state["stopping"]) == (200, True, False)
        logged = await bridge.log_line(event="certificate")
        assert logged["fingerprint"] == await shown(bridge)


async def shown(bridge: RunningBridge) -> str:
    """The fingerprint of the certificate that a new connection gets."""

    def ask() -> str:
        pem = ssl.get_server_certificate(("127.0.0.1", bridge.port), timeout=10)
        return fingerprint(ssl.PEM_cert_to_DER_cert(pem))

    return await asyncio.to_thread(ask)


def test_where_no_bridge_runs_there_are_no_peers_to_list(tmp_path: Path, capsys: Capture) -> None:
    assert main(["bridge", "peers", "--state-dir", str(tmp_path / "none")]) == 3
    assert "no bridge answers at" in capsys.readouterr().err


# Start, reload, stop


async def test_term_closes_with_the_reason_and_leaves_no_socket(tmp_path: Path) -> None:
    async with running_bridge(tmp_path, tls=True) as bridge:
        bridge.admit("web1", SERVER.public)
        async with bridge.peer("server", SERVER, SHARED) as peer, bridge.connect() as stranger:
            bridge.process.send_signal(signal.SIGTERM)
            assert await closing(peer) == (1001, "the bridge is stopping")
            assert (await closing(stranger))[0] == 1001
        assert await bridge.process.wait() == 0
        assert not (bridge.state_dir / "bridge.sock").exists()
        assert [line["event"] for line in bridge.log_lines()][-1] == "stopped"


async def test_a_peer_that_does_not_read_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    async with running_bridge(tmp_path, config="[limits]\ndrain = 0.5\n") as bridge:
        with socket.create_connection(("127.0.0.1", bridge.port)) as silent:
            upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            silent.sendall(f"GET / HTTP/1.1\r\nHost: x\r\n{upgrade}{key}\r\n".encode())
            assert silent.recv(12) == b"HTTP/1.1 101"
            assert await bridge.end() == 0


async def test_hup_takes_what_can_change_and_survives_a_bad_file(tmp_path: Path) -> None:
    async with running_bridge(tmp_path, tls=True) as bridge:
        first = await shown(bridge)
        other = tmp_path / "other"
        other.mkdir()
        files = ensure_certificate(other)
        bridge.config_file.write_text('[relay]\ntls = "no"\n')
        bridge.process.send_signal(signal.SIGHUP)
        assert "relay.tls" in (await bridge.log_line(event="configuration not reloaded"))["reason"]
        assert await shown(bridge) == first
        table = f'certificate = "{files.cert}"\nkey = "{files.key}"\ntrusted_proxies = ["127.0.0.1"]\n'
        bridge.config_file.write_text(f"lanes = {{x = 1}}\n[relay]\n{table}")
        bridge.process.send_signal(signal.SIGHUP)
        await bridge.log_line(event="configuration", key="relay.trusted_proxies", applied=True)
        async with asyncio.timeout(10):
            while await shown(bridge) != files.fingerprint:
                await asyncio.sleep(0.02)
        assert not [line for line in bridge.log_lines() if line.get("key") == "lanes"]


async def test_there_is_one_bridge_for_each_directory_and_each_port(tmp_path: Path) -> None:
    async with running_bridge(tmp_path) as bridge:
        same = await asyncio.to_thread(refused, *bridge.argv[3:])
        assert same == f"sysadmd: state directory {bridge.state_dir} is in use by process {bridge.process.pid}"
        address = f"127.0.0.1:{bridge.port}"
        arguments = ["bridge", "serve", "--state-dir", str(tmp_path / "second"), "--listen", address, "--no-tls"]
        assert "in use" in await asyncio.to_thread(refused, *arguments)


async def test_one_that_was_killed_leaves_nothing_in_the_way_of_the_next(tmp_path: Path, capsys: Capture) -> None:
    async with running_bridge(tmp_path) as bridge:
        assert await bridge.end(signal.SIGKILL) == -signal.SIGKILL
        assert (bridge.state_dir / "bridge.sock").exists()
        assert await asyncio.to_thread(command, bridge, "peers") == 3
        bridge.log_file.write_text("")
    async with running_bridge(tmp_path) as bridge:
        assert await peers(bridge, capsys) == []


def test_the_directory_of_a_server_is_not_a_bridges(tmp_path: Path) -> None:
    Store.open(tmp_path / DATABASE_FILE).close()
    tmp_path.chmod(0o700)
    said = refused("bridge", "serve", "--state-dir", str(tmp_path), "--listen", "127.0.0.1:0")
    assert said == f"sysadmd: {tmp_path} is the state directory of a server; a bridge needs one of its own"


@pytest.mark.parametrize(
    "options,config,said",
    [
        (["--no-tls", "--listen", "0.0.0.0:0"], "", "relay.tls = False: needs a loopback address"),
        ([], "[relay]\nport = -1\n", "relay.port"),
        ([], "[relay]\ncertificate = 'gone.crt'\nkey = 'gone.key'\n", "relay.certificate"),
    ],
)
def test_a_bad_configuration_is_one_line_and_exit_2(tmp_path: Path, options: list[str], config: str, said: str) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(config)
    named = ["--config", str(file), "--state-dir", str(tmp_path / "state")]
    assert said in refused("bridge", "serve", *named, *(options or ["--listen", "127.0.0.1:0"]))


def refused(*arguments: str) -> str:
    """The last line of what a command that cannot start says, which is the only one beside its log."""
    argv = [sys.executable, "-m", "sysadmd", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    return lines[0]
