"""`sysadmd token` and `sysadmd session` with a running server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.servers import running_server
from tests.integration.test_api_tokens import closed, code
from tests.integration.test_cli_server import Done, sysadmd


def rows(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


async def test_a_token_opens_what_it_may_until_it_is_revoked(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect(None) as program:
        made = await sysadmd(
            server, "token", "create", "monitor", "--user", "admin", "--scope", "call:rpc/dispatcher/list"
        )
        assert made.code == 0, made.err
        secret = made.out.strip()
        await program.call("rpc", "auth_token", {"token": secret})
        over_tcp = {"SYSADMD_SERVER": f"ws://127.0.0.1:{server.ports['listen']}/", "SYSADMD_TOKEN": secret}
        may = await sysadmd(server, "call", "rpc/dispatcher/list", **over_tcp)
        assert (may.code, may.json) == (0, {"jobs": {}})
        may_not = await sysadmd(server, "call", "rpc/accounts/list", **over_tcp)
        assert may_not.code == 1
        (row,) = rows(await sysadmd(server, "token", "list"))
        assert row["used_at"] > row["created_at"]
        assert (await sysadmd(server, "token", "revoke", row["id"])).code == 0
        assert await closed(program) == (1008, "the identity was revoked")
        over = await sysadmd(server, "call", "rpc/dispatcher/list", **over_tcp)
        assert over.code == 3
        assert secret not in over.err + may_not.err + made.err


async def test_a_session_is_listed_and_ended(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect() as victim, server.connect() as other:
        found = rows(await sysadmd(server, "session", "list"))
        assert [(one["account"], one["via"]) for one in found][:2] == [("admin", "tcp"), ("admin", "tcp")]
        assert found[-1]["via"] == "unix"
        assert (await sysadmd(server, "session", "kill", found[0]["id"])).code == 0
        assert await closed(victim) == (1008, "the session was ended")
        assert await code(other, "query") == 200
        gone = await sysadmd(server, "session", "kill", found[0]["id"])
        assert gone.code == 1
        assert "there is no such session" in gone.err
