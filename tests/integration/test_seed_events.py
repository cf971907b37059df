"""Every JSON block of the events document outside its bridge section, sent to or received from a running server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.servers import running_server

SUBSCRIBE = {"namespace": "events", "name": "subscribe", "id": "sampleID"}
ISO_8601 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)?")


def lifepreserver_config(directory: Path) -> str:
    log = directory / "lpreserver.log"
    log.touch()
    return f'[lifepreserver]\nlogs = ["{log}"]\ninterval = 0.1\n'


def zpool_config(directory: Path, health: str = "ONLINE", capacity: str = "12%") -> str:
    """A zpool that answers like OpenZFS 2.x, from a table that a test may change."""
    table = directory / "pools"
    table.write_text(f"tank\t107G\t13.1G\t93.9G\t6%\t-\t1.00x\t-\t{capacity}\t{health}\n")
    script = directory / "zpool"
    columns = "name,size,allocated,free,fragmentation,expandsize,dedupratio,altroot,capacity,health"
    script.write_text(FAKE_ZPOOL.replace("@TABLE@", str(table)).replace("@COLUMNS@", columns))
    script.chmod(0o755)
    return f'[system_state]\nzpool = "{script}"\ninterval = 900\ncheck = 1\n'


FAKE_ZPOOL = """#!/usr/bin/env python3
import sys
NAMES = {"alloc": "allocated", "frag": "fragmentation", "expandsz": "expandsize", "dedup": "dedupratio"}
order = "@COLUMNS@".split(",")
wanted = [a for i, a in enumerate(sys.argv) if sys.argv[i - 1] == "-o"]
names = [NAMES.get(n, n) for n in (wanted[0].split(",") if wanted else order)]
for line in open("@TABLE@"):
    row = dict(zip(order, line.rstrip("\\n").split("\\t")))
    print("\\t".join(row[n] for n in names))
"""


def process(state: str, process_id: str) -> Any:
    def wanted(event: dict[str, Any]) -> bool:
        args = event["args"]
        return bool(args.get("state") == state and args.get("process_id") == process_id)

    return wanted


async def test_one_request_subscribes_to_the_three_subsystems(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect() as peer:
        await peer.send({**SUBSCRIBE, "args": ["dispatcher", "life-preserver", "system-state"]})
        reply = await peer.reply("sampleID")
        assert (reply["namespace"], reply["name"]) == ("events", "response")


async def test_unsubscribe_repeats_the_request_with_another_name(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect() as peer:
        await peer.send({**SUBSCRIBE, "args": ["dispatcher"]})
        await peer.reply("sampleID")
        await peer.send({**SUBSCRIBE, "name": "unsubscribe", "id": "other", "args": ["dispatcher"]})
        assert (await peer.reply("other"))["name"] == "response"
        await peer.call("rpc", "dispatcher", {"action": "exec", "commands": "true"})
        assert await peer.call("rpc", "identify")
        assert peer.events == []


async def test_dispatcher_tells_pending_running_and_finished(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect() as peer:
        await peer.send({**SUBSCRIBE, "args": ["dispatcher"]})
        await peer.reply("sampleID")
        await peer.call("rpc", "dispatcher", {"action": "run", "job1": ["echo one", "echo two"]})
        pending = await peer.event(process("pending", "job1"))
        assert pending == envelope("dispatcher", {"state": "pending", "process_id": "job1"})
        running = await peer.event(after_first_command)
        details = running["args"]["process_details"]
        assert set(running["args"]) == {"state", "process_id", "process_details"}
        assert ISO_8601.fullmatch(details.pop("time_started"))
        assert details == {
            "state": "running",
            "process_id": "job1",
            "cmd_list": ["echo one", "echo two"],
            "echo one": "one\n",
            "return_codes/echo one": "0",
            "current_cmd": "echo two",
        }
        finished = await peer.event(process("finished", "job1"))
        details = finished["args"]["process_details"]
        assert set(finished["args"]) == {"state", "process_id", "process_details"}
        assert ISO_8601.fullmatch(details.pop("time_started"))
        assert ISO_8601.fullmatch(details.pop("time_finished"))
        assert details == {
            "state": "finished",
            "process_id": "job1",
            "cmd_list": ["echo one", "echo two"],
            "echo one": "one\n",
            "echo two": "two\n",
            "return_codes/echo one": "0",
            "return_codes/echo two": "0",
        }


async def test_every_process_tells_the_three_states_in_order(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect() as peer:
        await peer.call("events", "subscribe", ["dispatcher"])
        await peer.call("rpc", "dispatcher", {"action": "run", "p": "true"})
        states: list[str] = []
        while not states or states[-1] != "finished":
            event = await peer.event(lambda e: e["name"] == "dispatcher")
            states.append(event["args"]["state"])
            assert (event["id"], event["namespace"]) == ("none", "events")
        assert [s for i, s in enumerate(states) if i == 0 or states[i - 1] != s] == ["pending", "running", "finished"]


@pytest.mark.parametrize("args", [["life-preserver"], "life-preserver", ["life_preserver"]])
async def test_life_preserver_reports_a_new_snapshot(tmp_path: Path, args: Any) -> None:
    async with running_server(tmp_path, config=lifepreserver_config(tmp_path)) as server, server.connect() as peer:
        await peer.send({**SUBSCRIBE, "args": args})
        await peer.reply("sampleID")
        with (tmp_path / "lpreserver.log").open("a") as log:
            log.write("Mon Jan  4 18:00:00 EST 2016: Creating snapshot on tank: auto-hourly\n")
        event = await peer.event(lambda e: True)
        assert set(event) == {"namespace", "name", "id", "args"}
        assert (event["namespace"], event["name"], event["id"]) == ("events", "life_preserver", "none")
        assert event["args"] == {
            "message": "Mon Jan 4 18:00:00 EST 2016: New snapshot of tank",
            "priority": "1/Information",
            "class": "snapshot",
        }


async def test_system_state_reports_the_pools(tmp_path: Path) -> None:
    config = zpool_config(tmp_path, health="DEGRADED")
    async with running_server(tmp_path, config=config) as server, server.connect() as peer:
        await peer.send({**SUBSCRIBE, "args": ["system-state"]})
        event = await peer.event(lambda e: "zpools" in e["args"])
        assert (event["namespace"], event["name"], event["id"]) == ("events", "system_state", "none")
        assert event["args"]["zpools"] == {
            "tank": {
                "size": "107G",
                "alloc": "13.1G",
                "free": "93.9G",
                "frag": "6%",
                "expandsz": "-",
                "dedup": "1.00x",
                "altroot": "-",
                "capacity": "12%",
                "health": "DEGRADED",
                "priority": "9/Urgent",
            }
        }
        assert set(event["args"]) == {"hostname", "zpools"}


async def test_system_state_is_replayed_before_the_reply(tmp_path: Path) -> None:
    async with running_server(tmp_path, config=zpool_config(tmp_path)) as server, server.connect() as peer:
        await peer.call("events", "subscribe", ["system-state"])
        await peer.event(lambda e: True)
        async with server.connect() as second:
            await second.send({**SUBSCRIBE, "args": ["system-state"]})
            first = await second.receive()
            assert first["name"] == "system_state"
            assert (await second.receive())["id"] == "sampleID"


def envelope(name: str, args: dict[str, Any]) -> dict[str, Any]:
    return {"namespace": "events", "name": name, "id": "none", "args": args}


def after_first_command(event: dict[str, Any]) -> bool:
    return "return_codes/echo one" in event["args"].get("process_details", {}) and event["args"]["state"] == "running"
