"""The trail of a whole server: every kind of record that is promised occurs, and none of them holds a secret."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sysadmd.auth import audit_table
from sysadmd.auth.audit import verify_store
from sysadmd.cli import main
from sysadmd.schema import load_methods
from sysadmd.store import DATABASE_FILE, Store
from tests.integration.apps import LiveApp, running_app
from tests.integration.keyrings import Keypair, challenge_of
from tests.integration.servers import PASSWORD, Peer
from tests.integration.test_lockout import far


def trail_of(directory: Path) -> list[dict[str, Any]]:
    """The records of a stopped server, whose trail is good."""
    store = Store.open(directory / "state" / DATABASE_FILE)
    try:
        assert verify_store(store, directory / "state").ok
        rows = store.read_now(lambda connection: list(audit_table.read_rows(connection)))
    finally:
        store.close()
    return [json.loads(row.record) for row in rows]


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] == kind]


def promised() -> set[str]:
    """The kinds that the documentation of `rpc/audit/list` names."""
    text = load_methods()["rpc/audit/list"].args["properties"]["kind"]["description"]
    return set(re.findall(r"`(\w+)`", text))


async def provoke(live: LiveApp) -> None:
    """Everything that is recorded, at least once."""
    async with live.connect() as admin, live.connect("view") as viewer:
        await admin.call("rpc", "dispatcher", {"action": "run", "p1": [["true"], ["echo", "a secret argument"]]})
        ended = {"action": "exec", "commands": "echo done"}
        assert (await admin.call("rpc", "dispatcher", ended))["echo done"] == "done\n"
        assert (await admin.request("rpc", "accounts", {"action": "remove", "name": "nobody"}))["name"] == "error"
        for _ in range(60):
            assert (await viewer.request("rpc", "accounts", {"action": "list"}))["args"]["code"] == 403
        await viewer.call("rpc", "auth_clear")
    for _ in range(live.app.config.limits.login_failures):
        async with live.connect(login=None) as stranger:
            await stranger.request("rpc", "auth", {"username": "oper", "password": "wrong"})
    await live.app.auth.audit.checkpoint()


async def test_every_kind_that_is_promised_occurs_and_no_other(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True, prepare=far) as live:
        await provoke(live)
    records = trail_of(tmp_path)
    assert {record["kind"] for record in records} == promised()
    assert [record["kind"] for record in (records[0], records[-1])] == ["start", "stop"]
    (log_out,) = of_kind(records, "logout")
    assert (log_out["account"], log_out["via"]) == ("view", "tcp")


async def test_a_command_is_recorded_with_process_owner_program_and_lane_before_it_starts(tmp_path: Path) -> None:
    async with running_app(tmp_path, executor=True, prepare=far) as live:
        await provoke(live)
    records = trail_of(tmp_path)
    starts = [one for one in of_kind(records, "process_start") if one["process_id"] == "p1"]
    assert [(one["account"], one["command"], one["program"], one["user"]) for one in starts] == [
        ("admin", 0, "true", None),
        ("admin", 1, "echo", None),
    ]
    assert len({one["job"] for one in starts}) == 1
    assert all(one["lane"] for one in starts)
    assert "a secret argument" not in str(starts)
    call = next(one for one in of_kind(records, "call") if one["method"] == "rpc/dispatcher/run")
    assert records.index(call) < records.index(starts[0])


async def test_changes_of_accounts_roles_keys_tokens_and_sessions_are_recorded(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect("view") as viewer:

        async def call(name: str, action: str, /, **args: Any) -> Any:
            return await admin.call("rpc", name, {"action": action, **args})

        await call("accounts", "add", name="bert", password=PASSWORD)
        await call("accounts", "set_roles", name="bert", roles=["operator"])
        await call("accounts", "passwd", name="bert", password=f"{PASSWORD}!")
        await call("roles", "set", name="night", patterns=["call:@read"])
        await call("roles", "remove", name="night")
        await call("settings", "register_ssl_cert", pub_key=key.registered)
        await call("settings", "revoke_ssl_cert", pub_key=key.registered)
        token = await call("tokens", "create", name="t")
        await call("tokens", "revoke", id=token["id"])
        sessions = (await call("sessions", "list"))["sessions"]
        await call("sessions", "kill", id=next(one["id"] for one in sessions if one["account"] == "view"))
        await call("accounts", "remove", name="bert")
        await viewer.connection.wait_closed()
    calls = of_kind(trail_of(tmp_path), "call")
    assert [one["method"].removeprefix("rpc/") for one in calls] == [
        "accounts/add",
        "accounts/set_roles",
        "accounts/passwd",
        "roles/set",
        "roles/remove",
        "settings/register_ssl_cert",
        "settings/revoke_ssl_cert",
        "tokens/create",
        "tokens/revoke",
        "sessions/kill",
        "accounts/remove",
    ]
    assert {one["account"] for one in calls} == {"admin"}
    assert calls[1]["args"] == {"name": "bert", "roles": ["operator"]}


async def test_the_commands_work_beside_a_running_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Through its socket and beside it, while it goes on recording."""
    export = tmp_path / "trail.jsonl"
    async with running_app(tmp_path) as live, live.connect("view") as viewer:

        async def audit(*args: str) -> int:
            capfd.readouterr()
            options = [] if "--file" in args else ["--state-dir", str(live.app.config.state_dir)]
            return await asyncio.to_thread(main, ["audit", *args, *options])

        assert await audit("list", "--kind", "login", "--account", "view") == 0
        (line,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert (line["account"], line["kind"]) == ("view", "login")
        await live.app.auth.audit.checkpoint()
        assert await audit("verify") == 0
        assert await audit("export", str(export)) == 0
        await viewer.call("rpc", "auth_clear")
        assert await audit("verify", "--file", str(export)) == 0
        count = sum("record" in json.loads(line) for line in export.read_text().splitlines())
        assert capfd.readouterr().out == f"{count} records and 1 signatures are as they were written\n"
        assert await audit("verify", "--anchor", "1:" + "0" * 64) == 1
    assert len(trail_of(tmp_path)) > count


async def test_no_record_and_no_file_holds_a_password_a_token_or_a_proof(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    secrets = [PASSWORD, "the second pass phrase", "a wrong pass phrase", "not-a-token-0123456789abcdefghij"]
    async with running_app(tmp_path) as live, live.connect() as admin:
        secrets += await use_secrets(live, admin, key, secrets)
    files = [path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    text = json.dumps(trail_of(tmp_path))
    assert "rpc/accounts/passwd" in text
    for secret in secrets:
        assert secret not in text
        assert not [data for data in files if secret.encode() in data]


async def use_secrets(live: LiveApp, admin: Peer, key: Keypair, secrets: list[str]) -> list[str]:
    """Show the server every kind of secret, good and bad; returns those that came up on the way."""
    _, second, wrong, no_token = secrets
    await admin.call("rpc", "accounts", {"action": "add", "name": "bert", "password": PASSWORD, "roles": ["viewer"]})
    await admin.call("rpc", "accounts", {"action": "passwd", "name": "bert", "password": second})
    await admin.request("rpc", "accounts", {"action": "passwd", "name": "nobody", "password": wrong})
    api_token = (await admin.call("rpc", "tokens", {"action": "create", "name": "t"}))["token"]
    await admin.call("rpc", "settings", {"action": "register_ssl_cert", "pub_key": key.registered})
    async with live.connect(login=None) as peer:
        found = [api_token, await peer.login("bert", second)]
        await peer.request("rpc", "auth", {"username": "bert", "password": wrong})
        await peer.request("rpc", "auth_token", {"token": no_token})
        await peer.call("rpc", "auth_token", {"token": api_token})
        for proof in (key.classic(await challenge_of(peer)), key.modern("another challenge")):
            await peer.request("rpc", "auth_ssl", proof)
            found.append(str(proof.get("encrypted_string") or proof["signature"]))
    return found
