"""Clients that share no code with the server, over real TLS."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import aiohttp
import pytest

from tests.integration.apps import running_app
from tests.integration.servers import PASSWORD

INSTALL_TIMEOUT = 40
NODE_CLIENT = """
const WebSocket = require('ws');
const socket = new WebSocket(process.argv[2], { ca: require('fs').readFileSync(process.argv[3]) });
const send = (namespace, name, id, args) => socket.send(JSON.stringify({ namespace, name, id, args }));
socket.on('open', () => send('rpc', 'auth', 'log in', { username: 'admin', password: process.argv[4] }));
socket.on('message', (data, isBinary) => {
  const message = JSON.parse(data);
  console.log(JSON.stringify({ id: message.id, name: message.name, state: message.args.state, isBinary }));
  if (message.id === 'log in') send('events', 'subscribe', 'listen', ['dispatcher']);
  if (message.id === 'listen') send('rpc', 'dispatcher', 'run', { action: 'run', job: 'echo hello' });
  if (message.args.state === 'finished') socket.close(1000, 'done');
});
socket.on('close', (code) => console.log(JSON.stringify({ closed: code })));
"""


async def test_aiohttp(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True, tls=True) as live, aiohttp.ClientSession() as http:
        context = live.ssl_context()
        assert context is not None
        async with http.ws_connect(live.url, ssl=context) as socket, asyncio.timeout(20):
            for name, args in (("auth", {"username": "admin", "password": PASSWORD}), ("query", {})):
                await socket.send_json({"namespace": "rpc", "name": name, "id": name, "args": args})
                assert (await socket.receive_json())["id"] == name
            await socket.send_json({"namespace": "events", "name": "subscribe", "id": "s", "args": ["dispatcher"]})
            assert (await socket.receive_json())["args"] == {"subscribe": "dispatcher"}
            args = {"action": "run", "job": "echo hello"}
            await socket.send_json({"namespace": "rpc", "name": "dispatcher", "id": "r", "args": args})
            message = await socket.receive_json()
            while message["args"].get("state") != "finished":
                message = await socket.receive_json()
            assert message["args"]["process_details"]["echo hello"] == "hello\n"
            await socket.ping()
            await socket.close()
        assert socket.close_code == 1000


async def test_the_npm_package_ws(tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed: the client `ws` is not tried")
    try:
        await asyncio.wait_for(run(tmp_path, npm, "install", "--no-audit", "--no-fund", "ws"), INSTALL_TIMEOUT)
    except (TimeoutError, RuntimeError) as error:
        pytest.skip(f"npm cannot install `ws` here: {type(error).__name__} {str(error)[:200]}")
    (tmp_path / "client.js").write_text(NODE_CLIENT)
    async with running_app(tmp_path, executor=True, tls=True) as live:
        client = run(tmp_path, node, "client.js", live.url, str(live.certificate), PASSWORD)
        seen = [json.loads(line) for line in (await asyncio.wait_for(client, 15)).splitlines()]
    assert seen[-1] == {"closed": 1000}
    assert [one["id"] for one in seen[:2]] == ["log in", "listen"]
    states = [one["state"] for one in seen if "state" in one]
    assert states[0] == "pending"
    assert states[-1] == "finished"
    assert not any(one.get("isBinary") for one in seen)


async def run(directory: Path, *argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        out, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise RuntimeError(out.decode(errors="replace"))
    return out.decode()
