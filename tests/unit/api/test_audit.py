"""`rpc/audit`: the trail as an administrator reads and verifies it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sysadmd.store import DATABASE_FILE
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import Peer


async def listed(peer: Peer, **args: Any) -> dict[str, Any]:
    found: dict[str, Any] = await peer.call("rpc", "audit", {"action": "list", **args})
    return found


async def verified(peer: Peer) -> dict[str, Any]:
    found: dict[str, Any] = await peer.call("rpc", "audit", {"action": "verify"})
    return found


def sql(live: LiveApp, statement: str) -> None:
    with sqlite3.connect(live.app.config.state_dir / DATABASE_FILE) as database:
        database.execute(statement)
    database.close()


async def test_pages_join_to_the_whole_trail(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        for _ in range(5):
            await peer.login()
        whole = await listed(peer)
        assert whole["next"] is None
        assert [one["seq"] for one in whole["records"]] == list(range(1, len(whole["records"]) + 1))
        joined: list[Any] = []
        following: Any = 1
        while following is not None:
            page = await listed(peer, since=following, limit=2)
            assert len(page["records"]) <= 2
            joined += page["records"]
            following = page["next"]
        assert joined == whole["records"]


async def test_list_filters_by_kind_and_account(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        async with live.connect("oper"), live.connect("view"):
            pass
        found = (await listed(peer, kind="login", account="oper"))["records"]
        assert [(one["kind"], one["account"], one["method"]) for one in found] == [("login", "oper", "password")]
        assert (await listed(peer, kind="nothing"))["records"] == []


async def test_verify_says_that_all_is_well_and_what_is_not(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        await peer.login()
        await live.app.auth.audit.checkpoint()
        good = await verified(peer)
        assert good == {"ok": True, "records": good["records"], "checkpoints": 1, "first_bad": None, "reason": None}
        assert good["records"] >= 3
        sql(live, "update audit set record = replace(record, 'login', 'logout') where seq = 2")
        bad = await verified(peer)
        assert (bad["ok"], bad["records"], bad["first_bad"]) == (False, 1, 2)
        assert bad["reason"].startswith("changed: ")


async def test_reading_the_trail_is_not_recorded(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        before = (await verified(peer))["records"]
        await listed(peer)
        assert (await verified(peer))["records"] == before
