"""The original programs' dialect, frame for frame as it was captured (spec sysadm §2.2-2.5, §5.1, Appendix A6)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sysadmd.events.record import Draft
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import PASSWORD, Peer
from tests.integration.test_seed_events import zpool_config

ALICE = {"alice": ("admin",)}
LOGIN = {"namespace": "rpc", "name": "auth", "id": "a", "args": {"username": "alice", "password": PASSWORD}}


def original(live: LiveApp) -> Any:
    return live.connect(login=None, origin="sysadm-client")


async def text(peer: Peer) -> str:
    async with asyncio.timeout(10):
        return str(await peer.connection.recv())


async def exchange(peer: Peer, sent: str | dict[str, Any]) -> str:
    await peer.send(sent)
    return await text(peer)


def request(namespace: str, name: str, args: Any = "", id: Any = "q1") -> str:
    return json.dumps({"args": args, "id": id, "name": name, "namespace": namespace})


def error(code: int, message: str, id: str = "q1") -> str:
    return f'{{"args":{{"code":"{code}","message":"{message}"}},"id":"{id}","name":"error","namespace":"error"}}'


async def test_the_start_up_of_the_graphical_client(tmp_path: Path) -> None:
    zpool_config(tmp_path, health="DEGRADED")
    zpool = str(tmp_path / "zpool")
    async with running_app(tmp_path, node="vm", accounts=ALICE, system_state__zpool=zpool) as live:
        async with asyncio.timeout(10):
            while live.app.events.last("system_state") is None:
                await asyncio.sleep(0.02)
        async with original(live) as peer:
            assert await exchange(
                peer, '{"args":"","id":"sysadm_client_identify","name":"identify","namespace":"rpc"}'
            ) == (
                '{"args":{"hostname":"vm","type":"server"},"id":"sysadm_client_identify",'
                '"name":"response","namespace":"rpc"}'
            )
            await peer.send({**LOGIN, "id": "sysadm-client-auth-auto"})
            reply = json.loads(await text(peer))
            token, seconds = reply.pop("args")
            assert isinstance(token, str)
            assert seconds == 900
            assert reply == {"id": "sysadm-client-auth-auto", "name": "response", "namespace": "rpc"}
            query = '{"args":"simple-query","id":"cp_client_auto_query_id","name":"query","namespace":"rpc"}'
            answer = json.loads(await exchange(peer, query))
            known = answer.pop("args")
            assert {known["rpc/accounts"], known["rpc/dispatcher"], known["rpc/settings"]} == {"read/write"}
            assert set(known.values()) <= {"read", "read/write"}
            assert answer == {"id": "cp_client_auto_query_id", "name": "response", "namespace": "rpc"}
            subscribe = '{"args":"%s","id":"sysadm-client-event-auto","name":"subscribe","namespace":"events"}'
            event = json.loads(await exchange(peer, subscribe % "system-state"))
            assert event.pop("args")["priority"] == "9 - Urgent"
            assert event == {"id": "", "name": "system-state", "namespace": "events"}
            assert await text(peer) == (
                '{"args":{"subscribe":"system-state"},"id":"sysadm-client-event-auto",'
                '"name":"response","namespace":"events"}'
            )
            assert await exchange(peer, subscribe % "life-preserver") == (
                '{"args":{"subscribe":"life-preserver"},"id":"sysadm-client-event-auto",'
                '"name":"response","namespace":"events"}'
            )


async def test_each_kind_of_error(tmp_path: Path) -> None:
    """Spec §2.4, in its order."""
    async with running_app(tmp_path, accounts=ALICE) as live, original(live) as peer:
        assert await exchange(peer, "{bad json}") == error(400, "Bad Request", "")
        assert await exchange(peer, '{"id":"x"}') == error(400, "Bad Request", "x")
        assert await exchange(peer, "garbage") == error(400, "Bad Request", "")
        assert await exchange(peer, request("rpc", "query")) == error(401, "Unauthorized")
        assert await exchange(peer, request("weather", "report")) == error(401, "Unauthorized")
        assert await exchange(peer, request("rpc", "Identify")) == error(401, "Unauthorized")
        wrong = {**LOGIN, "id": "q1", "args": {"username": "alice", "password": "guess"}}
        assert await exchange(peer, wrong) == error(401, "Unauthorized")
        await exchange(peer, LOGIN)
        assert await exchange(peer, request("weather", "report")) == error(404, "Not Found")
        assert await exchange(peer, request("rpc", "Identify")) == error(404, "Not Found")
        assert await exchange(peer, request("rpc", "dispatcher", {"action": "fly"})) == error(400, "Bad Request")
        # Codes that the originals do not know are told as 400.
        busy = {"action": "run", "a": "sleep 5"}
        assert json.loads(await exchange(peer, request("rpc", "dispatcher", busy)))["name"] == "response"
        assert await exchange(peer, request("rpc", "dispatcher", busy)) == error(400, "Bad Request")


@pytest.mark.parametrize(
    "name,args",
    [
        ("auth", ""),
        ("auth", ["alice", PASSWORD]),
        ("auth", {"username": "alice"}),
        ("auth", {"username": "alice", "password": 7}),
        ("auth_token", ""),
        ("auth_token", {"token": ""}),
        ("auth_guess", ""),
    ],
)
async def test_whatever_is_wrong_with_a_log_in_is_401_and_takes_the_identity(
    tmp_path: Path, name: str, args: Any
) -> None:
    """Spec §2.3, §2.4, §3.1, §3.3."""
    async with running_app(tmp_path, accounts=ALICE) as live, original(live) as peer:
        assert await exchange(peer, request("rpc", name, args)) == error(401, "Unauthorized")
        await exchange(peer, LOGIN)
        assert await exchange(peer, request("rpc", name, args)) == error(401, "Unauthorized")
        assert await exchange(peer, request("rpc", "query")) == error(401, "Unauthorized")


async def test_another_name_of_events_is_400(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts=ALICE) as live, original(live) as peer:
        await exchange(peer, LOGIN)
        assert await exchange(peer, request("events", "listen", "dispatcher")) == error(400, "Bad Request")


async def test_a_refusal_leaves_the_connection_open(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts={"alice": ("viewer",)}) as live, original(live) as peer:
        await exchange(peer, LOGIN)
        run = request("rpc", "dispatcher", {"action": "run", "a": "true"})
        assert await exchange(peer, run) == error(403, "Forbidden")
        assert json.loads(await exchange(peer, request("rpc", "query")))["name"] == "response"


@pytest.mark.parametrize("request_id", ["", 7, None])
async def test_a_reply_without_an_id_has_the_name_of_the_request(tmp_path: Path, request_id: Any) -> None:
    async with running_app(tmp_path, node="vm") as live, original(live) as peer:
        assert await exchange(peer, request("RPC", "identify", id=request_id)) == (
            '{"args":{"hostname":"vm","type":"server"},"id":"","name":"identify","namespace":"RPC"}'
        )


async def test_auth_clear_is_silent_and_works(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts=ALICE) as live, original(live) as peer:
        await exchange(peer, LOGIN)
        await peer.send(request("rpc", "auth_clear", id="c"))
        assert await exchange(peer, request("rpc", "query")) == error(401, "Unauthorized")


@pytest.mark.parametrize(
    "args,subscribed",
    [
        (["dispatcher", "weather", "life-preserver", "fog"], {"subscribe": "life-preserver"}),
        (["weather"], {}),
        ("weather", {}),
    ],
)
async def test_unknown_topics_are_passed_over(tmp_path: Path, args: Any, subscribed: dict[str, str]) -> None:
    async with running_app(tmp_path, accounts=ALICE) as live, original(live) as peer:
        await exchange(peer, LOGIN)
        assert json.loads(await exchange(peer, request("events", "subscribe", args)))["args"] == subscribed
        unsubscribed = json.loads(await exchange(peer, request("events", "unsubscribe", args)))["args"]
        assert list(unsubscribed.values()) == list(subscribed.values())


@pytest.mark.parametrize("args", [[], {}, 7])
async def test_an_event_list_that_is_none_is_400(tmp_path: Path, args: Any) -> None:
    async with running_app(tmp_path, accounts=ALICE) as live, original(live) as peer:
        await exchange(peer, LOGIN)
        assert await exchange(peer, request("events", "subscribe", args)) == error(400, "Bad Request")


async def test_an_event_has_a_hyphen_and_no_id_and_comes_again_before_the_reply(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts=ALICE) as live, original(live) as peer:
        await exchange(peer, LOGIN)
        await exchange(peer, request("events", "subscribe", "life-preserver"))
        data = {"message": "New snapshot of tank", "priority": 7, "class": "snapshot"}
        live.app.events.publish(Draft("life_preserver", data, durable=True))
        event = (
            '{"args":{"class":"snapshot","message":"New snapshot of tank","priority":"7 - Critical"},'
            '"id":"","name":"life-preserver","namespace":"events"}'
        )
        assert await text(peer) == event
        assert await exchange(peer, request("events", "subscribe", "life-preserver")) == event
        assert json.loads(await text(peer))["id"] == "q1"


async def test_a_raw_job_tells_that_it_runs_and_how_it_ended(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts=ALICE, executor=True) as live, original(live) as peer:
        await exchange(peer, LOGIN)
        await exchange(peer, request("events", "subscribe", "dispatcher"))
        await peer.send(request("rpc", "dispatcher", {"action": "run", "job": ["echo one", 7]}))
        frames = [json.loads(await text(peer)) for _ in range(3)]
        events = [one for one in frames if one["namespace"] == "events"]
        assert [one["id"] for one in frames if one["namespace"] == "rpc"] == ["q1"]
        assert events[0] == {
            "args": {"process_id": "job", "state": "running"},
            "id": "",
            "name": "dispatcher",
            "namespace": "events",
        }
        finished = events[1]["args"]
        assert (finished["state"], finished["cmd_list"]) == ("finished", ["echo one"])
        assert finished["return_codes/echo one"] == "0"


@pytest.mark.parametrize("classic,origin,answer", [("always", None, "error"), ("never", "sysadm-client", "rpc")])
async def test_the_configuration_may_decide_the_dialect(
    tmp_path: Path, classic: str, origin: str | None, answer: str
) -> None:
    async with running_app(tmp_path, classic=classic) as live, live.connect(login=None, origin=origin) as peer:
        assert json.loads(await exchange(peer, request("rpc", "query")))["namespace"] == answer
