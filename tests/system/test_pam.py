"""The machine's accounts, through the whole of it: server, executor, PAM with the shipped rules, shadow passwords."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.servers import Peer, RunningServer, running_server
from tests.system.machine import EXPIRED, MUST_CHANGE, PASSWORD, Machine, why_not

REASON = why_not()
pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(120),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
MEMBERS = {"wheel": ("zoe", "root"), "operator": ("max",), "guests": ("guest",)}


@dataclass
class Rig:
    machine: Machine
    server: RunningServer
    executor: int
    executor_log: Path

    async def try_login(self, peer: Peer, name: str, password: str = PASSWORD) -> dict[str, Any]:
        request_id = f"as {name}"
        args = {"username": name, "password": password}
        await peer.send({"namespace": "rpc", "name": "auth", "id": request_id, "args": args})
        return await peer.reply(request_id, timeout=30)


@contextlib.asynccontextmanager
async def machine_with_server(directory: Path, config: str = "") -> AsyncIterator[Rig]:
    machine, log = Machine(directory / "etc", MEMBERS), directory / "executor.log"
    state = directory / "state"
    state.mkdir(mode=0o700)
    with machine.executor(state, log) as executor:
        async with running_server(directory, config=config) as server:
            yield Rig(machine, server, executor.pid, log)


async def test_members_of_the_groups_have_their_roles_by_every_door(tmp_path: Path) -> None:
    async with machine_with_server(tmp_path) as rig, rig.server.connect() as admin, rig.server.connect(None) as peer:
        token = await peer.login("zoe", PASSWORD)
        assert await peer.call("rpc", "accounts", {"action": "list"})
        assert (await rig.try_login(peer, "max"))["name"] == "response"
        assert (await peer.request("rpc", "accounts", {"action": "list"}))["args"]["code"] == 403
        sessions = (await admin.call("rpc", "sessions", {"action": "list"}))["sessions"]
        assert {row["account"]: row["method"] for row in sessions} == {"admin": "password", "max": "system"}
        accounts = (await admin.call("rpc", "accounts", {"action": "list"}))["accounts"]
        found = {row["name"]: (row["source"], row["roles"]) for row in accounts}
        assert found == {
            "admin": ("local", ["admin"]),
            "zoe": ("system", ["admin"]),
            "max": ("system", ["operator"]),
        }
        records = (await admin.call("rpc", "audit", {"action": "list", "kind": "login"}))["records"]
        assert {row["account"]: row["method"] for row in records} == {
            "admin": "password",
            "zoe": "system",
            "max": "system",
        }
        async with rig.server.connect(None) as other:
            reply = await other.request("rpc", "auth_token", {"token": token})
            assert reply["name"] == "error"  # its connection logged in anew, which ended it
        credentials = base64.b64encode(f"zoe:{PASSWORD}".encode()).decode()
        headers, url = {"Authorization": f"Basic {credentials}"}, f"{rig.server.rest_url}/rpc/accounts"
        async with aiohttp.ClientSession(headers=headers) as http, http.post(url, json={"action": "list"}) as answer:
            assert answer.status == 200


async def test_whoever_may_not_gets_one_answer_whatever_the_reason(tmp_path: Path) -> None:
    async with machine_with_server(tmp_path) as rig, rig.server.connect(None) as peer:
        rig.machine.add("expired", expires=EXPIRED)
        rig.machine.add("locked", locked=True)
        rig.machine.add("stale", changed=MUST_CHANGE)
        rig.machine.set_groups({**MEMBERS, "wheel": ("zoe", "root", "expired", "locked", "stale")})
        attempts = [
            ("zoe", "wrong"),
            ("zoe", PASSWORD + " "),
            ("expired", PASSWORD),
            ("locked", PASSWORD),
            ("stale", PASSWORD),
        ]
        attempts += [("guest", PASSWORD), ("root", PASSWORD), ("nobody-here", PASSWORD), ("admin", PASSWORD)]
        answers = [await rig.try_login(peer, *attempt) for attempt in attempts]
        assert {(answer["name"], str(answer["args"])) for answer in answers} == {
            ("error", str({"code": 401, "message": "wrong name or password"}))
        }
        assert (await rig.try_login(peer, "zoe"))["name"] == "response"
    with contextlib.closing(sqlite3.connect(rig.server.state_dir / "sysadmd.db")) as database:
        assert {row[0] for row in database.execute("select name from account")} == {"admin", "zoe"}


async def test_root_may_where_the_configuration_says_so(tmp_path: Path) -> None:
    config = "[pam]\nallow_root = true\ngroups = {guests = 'viewer'}\n"
    async with machine_with_server(tmp_path, config) as rig, rig.server.connect(None) as peer:
        assert (await rig.try_login(peer, "root"))["name"] == "response"
        assert (await rig.try_login(peer, "guest"))["name"] == "response"
        assert (await rig.try_login(peer, "zoe"))["name"] == "error"


async def test_who_leaves_the_group_loses_the_role_the_tokens_and_the_connections(tmp_path: Path) -> None:
    async with (
        machine_with_server(tmp_path) as rig,
        rig.server.connect(None) as peer,
        rig.server.connect(None) as open_,
    ):
        token = await open_.login("zoe", PASSWORD)
        rig.machine.set_groups({**MEMBERS, "wheel": (), "operator": ("zoe",)})
        assert (await rig.try_login(peer, "zoe"))["name"] == "response"
        assert (await open_.request("rpc", "accounts", {"action": "list"}))["args"]["code"] == 403
        rig.machine.set_groups({**MEMBERS, "wheel": (), "operator": ()})
        assert (await rig.try_login(peer, "zoe"))["name"] == "error"
        await asyncio.wait_for(open_.connection.wait_closed(), 10)
        async with rig.server.connect(None) as late:
            assert (await late.request("rpc", "auth_token", {"token": token}))["name"] == "error"


async def test_a_module_that_hangs_or_crashes_costs_its_own_log_in_alone(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    async with machine_with_server(tmp_path) as rig, rig.server.connect() as admin, rig.server.connect(None) as peer:
        rig.machine.when("hang", f"echo $$ >{noted}.new && mv {noted}.new {noted}; exec sleep 600")
        rig.machine.when("crash", "kill -SEGV $PPID")
        rig.machine.add("hang")
        rig.machine.add("crash")
        rig.machine.set_groups({**MEMBERS, "wheel": ("zoe", "hang", "crash")})
        begun = asyncio.get_running_loop().time()
        hanging = asyncio.ensure_future(rig.try_login(peer, "hang"))
        try:
            while not noted.exists():
                assert not hanging.done()
                await asyncio.sleep(0.02)
            shown = processes()
            assert any(b"sysadmd.executor.pam_check" in text for text in shown)
            assert not [text for text in shown if PASSWORD.encode() in text]
            assert await admin.call("rpc", "dispatcher", {"action": "list"}) is not None
            reply = await hanging
            assert (reply["name"], reply["args"]["code"]) == ("error", 401)
            assert asyncio.get_running_loop().time() - begun > 9
        finally:
            hanging.cancel()
            if noted.exists():
                os.kill(int(noted.read_text()), signal.SIGKILL)  # pam_exec gives it a session of its own
        assert (await rig.try_login(peer, "crash"))["args"]["code"] == 401
        assert (await rig.try_login(peer, "zoe"))["name"] == "response"
        os.kill(rig.executor, 0)
        assert "refused: deadline" in rig.executor_log.read_text()
        assert "refused: crashed" in rig.executor_log.read_text()
        assert not any(b"pam_check" in text for text in processes())


async def test_the_password_is_in_nothing_that_is_kept(tmp_path: Path) -> None:
    async with machine_with_server(tmp_path, "[log]\nlevel = 'debug'\n") as rig, rig.server.connect(None) as peer:
        assert (await rig.try_login(peer, "zoe"))["name"] == "response"
        assert (await rig.try_login(peer, "zoe", "wrong-but-secret"))["name"] == "error"
        assert (await rig.try_login(peer, "guest"))["name"] == "error"
    etc = tmp_path / "etc"
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(etc)]
    assert {"executor.log", "server.log", "sysadmd.db"} <= {path.name for path in kept}
    secrets = [PASSWORD.encode(), ascii(PASSWORD)[1:-1].encode(), b"wrong-but-secret"]
    assert not [path for path in kept if any(secret in path.read_bytes() for secret in secrets)]


def processes() -> list[bytes]:
    """The command lines and environments of every process that has one."""
    found = []
    for name in ("cmdline", "environ"):
        for path in Path("/proc").glob(f"[0-9]*/{name}"):
            with contextlib.suppress(OSError):
                found.append(path.read_bytes())
    return found
