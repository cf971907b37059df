"""Changes of roles and accounts on a running server: open connections have them at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from sysadmd.events.record import Draft
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import PASSWORD, Peer

WATCHER = ["call:@read", "event:dispatcher", "event:life_preserver", "job:a:read"]
PEOPLE = {"admin": ("admin",), "wanda": ()}


async def roles(peer: Peer, action: str, **args: Any) -> dict[str, Any]:
    return await peer.request("rpc", "roles", {"action": action, **args})


async def accounts(peer: Peer, action: str, **args: Any) -> dict[str, Any]:
    return await peer.request("rpc", "accounts", {"action": action, **args})


def code(reply: dict[str, Any]) -> int:
    return int(reply["args"]["code"]) if reply["name"] == "error" else 200


def publish(live: LiveApp, job: str, mark: str) -> None:
    """One event of a job and one that everybody sees who may see the other topic, which shows where the job's was."""
    data = {"phase": "started", "process_id": mark, "event_system": "dispatcher", "extra": {}, "details": {}}
    live.app.events.publish(Draft("dispatcher", {**data, "update": None}, durable=True, permission=job))
    live.app.events.publish(
        Draft("life_preserver", {"message": mark, "priority": 1, "class": "snapshot"}, durable=True)
    )


async def seen_until(peer: Peer, mark: str) -> list[str]:
    """The names of the events up to the life preserver's of this mark, on both subscriptions."""
    names: list[str] = []

    def last(event: dict[str, Any]) -> bool:
        names.append(event["name"])
        return event["name"] == "life_preserver" and mark in str(event["args"])

    await peer.event(last)
    await peer.event(last)
    return names


async def test_a_change_of_a_role_is_felt_by_open_connections_at_once(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts=PEOPLE) as live, live.connect() as admin:
        assert code(await roles(admin, "set", name="inner", patterns=WATCHER)) == 200
        assert code(await roles(admin, "set", name="watcher", includes=["inner"])) == 200
        assert code(await accounts(admin, "set_roles", name="wanda", roles=["watcher"])) == 200
        async with live.connect("wanda") as wanda:
            await wanda.call("events", "subscribe", ["dispatcher", "life_preserver"])
            await wanda.call("events", "subscribe", {"topics": ["dispatcher", "life_preserver"]})
            assert code(await wanda.request("rpc", "dispatcher", {"action": "list"})) == 200
            publish(live, "a", "one")
            assert (await seen_until(wanda, "one")).count("dispatcher") == 2

            less = [one for one in WATCHER if one not in {"event:dispatcher", "call:@read"}]
            assert code(await roles(admin, "set", name="inner", patterns=less)) == 200
            publish(live, "a", "two")
            assert "dispatcher" not in await seen_until(wanda, "two")
            assert code(await wanda.request("rpc", "dispatcher", {"action": "list"})) == 403
            publish(live, "a", "three")
            assert "dispatcher" not in await seen_until(wanda, "three")


async def test_a_change_of_a_role_is_felt_by_an_open_event_stream(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts=PEOPLE) as live, live.connect() as admin, live.http("wanda") as http:
        assert code(await roles(admin, "set", name="watcher", patterns=WATCHER)) == 200
        assert code(await accounts(admin, "set_roles", name="wanda", roles=["watcher"])) == 200
        async with http.get("/api/v1/events?topic=dispatcher,life_preserver") as stream:
            assert stream.status == 200

            async def topics_until(mark: str) -> list[str]:
                text = ""
                while not ("event: life_preserver" in text and mark in text.rpartition("event: life_preserver")[2]):
                    text += (await asyncio.wait_for(stream.content.readline(), 10)).decode()
                return [line[7:].strip() for line in text.splitlines() if line.startswith("event: ")]

            publish(live, "a", "one")
            assert await topics_until("one") == ["dispatcher", "life_preserver"]
            less = [one for one in WATCHER if one != "event:dispatcher"]
            assert code(await roles(admin, "set", name="watcher", patterns=less)) == 200
            publish(live, "a", "two")
            assert await topics_until("two") == ["life_preserver"]


async def test_roles_taken_from_an_account_are_gone_from_its_connections(tmp_path: Path) -> None:
    people = {"admin": ("admin",), "wanda": ("viewer",)}
    async with (
        running_app(tmp_path, accounts=people) as live,
        live.connect() as admin,
        live.connect("wanda") as wanda,
        live.connect("wanda") as other,
    ):
        for peer in (wanda, other):
            assert code(await peer.request("rpc", "query")) == 200
        assert code(await accounts(admin, "set_roles", name="wanda", roles=[])) == 200
        for peer in (wanda, other):
            assert code(await peer.request("rpc", "query")) == 403
        assert code(await accounts(admin, "set_roles", name="wanda", roles=["admin"])) == 200
        assert (await wanda.call("rpc", "query"))["rpc/dispatcher"] == "read/write"


async def test_a_disabled_account_is_out_and_comes_in_again_when_it_is_enabled(tmp_path: Path) -> None:
    people = {"admin": ("admin",), "wanda": ("viewer",)}
    async with (
        running_app(tmp_path, accounts=people) as live,
        live.connect() as admin,
        live.connect(login=None) as wanda,
    ):
        token = await wanda.login("wanda")
        assert code(await accounts(admin, "set_disabled", name="wanda", disabled=True)) == 200
        with pytest.raises(ConnectionClosed):
            await wanda.receive()
        async with live.connect(login=None) as again:
            log_in = {"username": "wanda", "password": PASSWORD}
            assert code(await again.request("rpc", "auth", log_in)) == 401
            assert code(await accounts(admin, "set_disabled", name="wanda", disabled=False)) == 200
            assert code(await again.request("rpc", "auth_token", {"token": token})) == 401
            assert code(await again.request("rpc", "auth", log_in)) == 200


async def test_nobody_grants_more_than_they_hold(tmp_path: Path) -> None:
    """Every way up that a lesser administrator could try."""
    people = {"admin": ("admin",), "clerk": (), "bob": ("viewer",)}
    async with running_app(tmp_path, accounts=people) as live, live.connect() as admin:
        assert code(await roles(admin, "set", name="clerks", patterns=["call:@admin"], includes=["viewer"])) == 200
        assert code(await accounts(admin, "set_roles", name="clerk", roles=["clerks"])) == 200
        before = (await roles(admin, "list"), await accounts(admin, "list"))
        async with live.connect("clerk") as clerk:
            attempts = [
                await roles(clerk, "set", name="clerks", patterns=["call:*"]),
                await roles(clerk, "set", name="clerks", includes=["operator"]),
                await roles(clerk, "set", name="viewer", patterns=["job:*:run"]),
                await roles(clerk, "set", name="operator", patterns=[]),
                await roles(clerk, "set", name="other", patterns=["call:@run"]),
                await accounts(clerk, "set_roles", name="clerk", roles=["admin"]),
                await accounts(clerk, "set_roles", name="bob", roles=["operator"]),
                await accounts(clerk, "set_roles", name="admin", roles=["viewer"]),
                await accounts(clerk, "add", name="eve", password=PASSWORD, roles=["admin"]),
                await accounts(clerk, "passwd", name="admin", password="mine now"),
                await accounts(clerk, "remove", name="admin"),
                await accounts(clerk, "set_disabled", name="admin", disabled=True),
            ]
            assert [code(one) for one in attempts] == [403] * len(attempts)
            assert all("clerk does not hold" in one["args"]["message"] for one in attempts)
            assert code(await accounts(clerk, "passwd", name="bob", password="another one")) == 200
            assert code(await accounts(clerk, "add", name="zoe", password=PASSWORD, roles=["viewer"])) == 200
            assert code(await accounts(clerk, "remove", name="zoe")) == 200
        after = (await roles(admin, "list"), await accounts(admin, "list"))
        for old, new in zip(before, after, strict=True):
            assert without_times(old["args"]) == without_times(new["args"])


def without_times(result: Any) -> Any:
    if isinstance(result, dict):
        return {key: without_times(value) for key, value in result.items() if key != "changed_at"}
    return [without_times(one) for one in result] if isinstance(result, list) else result


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_only_administrators_see_or_change_roles(tmp_path: Path, role: str) -> None:
    async with running_app(tmp_path, accounts={"wanda": (role,)}) as live, live.connect("wanda") as wanda:
        assert code(await roles(wanda, "list")) == 403
        assert code(await roles(wanda, "set", name="x")) == 403
        assert code(await roles(wanda, "remove", name="viewer")) == 403
        assert code(await accounts(wanda, "set_roles", name="wanda", roles=["admin"])) == 403
