"""Each caller is shown exactly what they may call: by `rpc/query`, `rpc/discover` and `/openapi.json`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sysadmd.rpc.registry import UNLISTED
from sysadmd.schema import load_methods
from tests.integration.apps import LiveApp, running_app, status
from tests.integration.servers import PASSWORD, Peer

METHODS = load_methods()
PUBLIC = {key for key, method in METHODS.items() if method.access == "public"}
WRONG: dict[str, Any] = {"\u2620": [[]]}
"""Arguments that no method which changes something takes, so that it is refused for them once it may be called."""


async def refused(peer: Peer, key: str) -> bool:
    """Whether the method may not be called, found out by calling it."""
    await peer.send({"jsonrpc": "2.0", "id": key, "method": key, "params": WRONG})
    reply = await peer.reply(key)
    forbidden = reply.get("error", {}).get("data", {}).get("code") == 403 or "may not call" in str(reply.get("error"))
    assert "result" in reply or "error" in reply
    return forbidden


async def callable_by(peer: Peer) -> set[str]:
    return PUBLIC | {key for key in METHODS.keys() - PUBLIC if not await refused(peer, key)}


def subsystems(keys: set[str]) -> dict[str, str]:
    """What `rpc/query` says of a caller who may call these: neither log-ins, nor events, nor what every peer has."""
    found: dict[str, str] = {}
    for method in (METHODS[key] for key in sorted(keys)):
        name = f"{method.namespace}/{method.name}"
        if method.namespace != "events" and not method.name.startswith("auth") and name not in UNLISTED:
            found[name] = "read/write" if method.mutates else found.get(name, "read")
    return found


def addresses(keys: set[str]) -> set[str]:
    return {f"/{METHODS[key].namespace}/{METHODS[key].name}" for key in keys if METHODS[key].namespace != "events"}


async def documented(http: aiohttp.ClientSession) -> dict[str, Any]:
    """The paths of the methods; those of facades, which are longer, have their own tests."""
    async with http.get("/openapi.json") as answer:
        assert answer.status == 200
        paths: dict[str, Any] = (await answer.json())["paths"]
        return {path: item for path, item in paths.items() if path.count("/") == 2}


async def expect_exact(live: LiveApp, peer: Peer, account: str) -> set[str]:
    """Compare what is shown with what can be called; the latter."""
    may = await callable_by(peer)
    if "rpc/discover" in may:
        assert {one["name"] for one in (await peer.call("rpc", "discover"))["methods"]} == may
    if "rpc/query" in may:
        assert await peer.call("rpc", "query") == subsystems(may)
    async with live.http(account) as http:
        assert set(await documented(http)) == addresses(may)
    return may


@pytest.mark.parametrize("role", ["admin", "operator", "viewer"])
async def test_a_shipped_role_is_shown_what_it_may_call(tmp_path: Path, role: str) -> None:
    async with running_app(tmp_path, accounts={"wanda": (role,)}) as live, live.connect("wanda") as wanda:
        may = await expect_exact(live, wanda, "wanda")
        classes = {"admin": {"public", "read", "run", "admin"}, "operator": {"public", "read", "run"}}
        assert {METHODS[key].access for key in may} <= classes.get(role, {"public", "read"})
        assert may == METHODS.keys() or role != "admin"


@pytest.mark.parametrize("seed", range(4))
async def test_a_generated_role_is_shown_what_it_may_call(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    async with running_app(tmp_path, accounts={"wanda": ()}) as live, live.connect("wanda") as wanda:
        assert await callable_by(wanda) == PUBLIC
        for _ in range(2):
            keys = {key for key in METHODS if chosen.random() < 0.3}
            asked = {f"call:{key}" for key in keys} | {"call:rpc/discover", "call:rpc/query"}
            await live.app.auth.accounts.set_role("drawn", asked, ())
            await live.app.auth.accounts.set_roles("wanda", ["drawn"])
            may = await expect_exact(live, wanda, "wanda")
            assert may == PUBLIC | keys | {"rpc/discover", "rpc/query"}


async def test_a_stranger_is_shown_what_is_for_everybody(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http(None) as http:
        assert set(await documented(http)) == addresses(PUBLIC)
        assert "/rpc/dispatcher" not in await (await http.get("/openapi.json")).text()


async def test_a_wrong_password_is_shown_nothing(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.http("admin", PASSWORD + "x") as http:
        assert await status(http, "/openapi.json") == 401
