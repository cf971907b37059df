"""`rpc/identify`: the answer that it always gave, and the seal for those who ask for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sysadmd.keys.bridge import BRIDGE_KEY_FILE, bridge_key
from tests.integration.apps import running_app
from tests.integration.servers import Peer
from tests.integration.test_classic_client import exchange, original


async def answer(peer: Peer, args: Any) -> str:
    return await exchange(peer, json.dumps({"namespace": "rpc", "name": "identify", "id": "i", "args": args}))


ARGS = ["", {}, None, [], [1], "seal", {"seal": 2}, {"seal": "1"}, {"seal": None}, {"seal": [1]}, {"action": "x"}]


async def test_without_the_question_the_answer_is_what_it_always_was(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer, original(live) as classic:
        node = live.app.config.node
        for args in ARGS:
            assert await answer(peer, args) == (
                f'{{"namespace":"rpc","name":"response","id":"i","args":{{"hostname":"{node}","type":"server"}}}}'
            )
            assert await answer(classic, args) == (
                f'{{"args":{{"hostname":"{node}","type":"server"}},"id":"i","name":"response","namespace":"rpc"}}'
            )
        assert not (live.app.config.state_dir / BRIDGE_KEY_FILE).exists()


async def test_who_asks_for_a_seal_is_told_the_key_that_bridges_know(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        found = json.loads(await answer(peer, {"seal": 1}))["args"]
        key = bridge_key(live.app.config.state_dir).public.fingerprint
        assert found == {"hostname": live.app.config.node, "type": "server", "seal": {"version": 1, "key": key}}


async def test_an_original_peer_may_ask_too(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, original(live) as peer:
        found = json.loads(await answer(peer, {"seal": 1}))["args"]
        assert found["seal"] == {"version": "1", "key": bridge_key(live.app.config.state_dir).public.fingerprint}


async def test_a_key_that_cannot_be_used_is_the_logs_business(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        (live.app.config.state_dir / BRIDGE_KEY_FILE).write_text("damaged")
        found = json.loads(await answer(peer, {"seal": 1}))
        assert (found["name"], found["args"]["code"]) == ("error", 503)
        assert str(tmp_path) not in json.dumps(found)


async def test_many_questions_at_once_are_all_answered_in_order(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect(login=None) as peer:
        for number in range(60):
            frame = {"namespace": "rpc", "name": "identify", "id": number, "args": {"seal": 1} if number % 7 else ""}
            await peer.connection.send(json.dumps(frame))
        assert [json.loads(await peer.connection.recv())["id"] for _ in range(60)] == list(range(60))
